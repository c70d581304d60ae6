package object

import (
	"fmt"

	"tulle.dev/tulle/api/v1alpha1"
)

// validateTargets checks what a schema can't, for it doesn't see the namespace: a
// policy speaks for its own namespace, and for the mesh only from one of them.
func validateTargets(namespace string, refs []v1alpha1.TargetRef) []Issue {
	var is issues
	for i := range refs {
		at, ref := fmt.Sprintf("spec.targetRefs[%d]", i), &refs[i]
		switch {
		case ref.Kind == "Mesh" && namespace != v1alpha1.MeshNamespace:
			is.add("metadata.namespace", "%q: a policy for the whole mesh is in namespace %s", namespace, v1alpha1.MeshNamespace)
		case ref.Kind == "Namespace" && string(ref.Name) != namespace:
			is.add(at+".name", "%q: a policy speaks for its own namespace, %q: put it into namespace %s", ref.Name, namespace, ref.Name)
		}
	}
	return is
}

func validateTrafficPolicy(p *v1alpha1.TrafficPolicy) []Issue {
	is := issues(validateTargets(p.Namespace, p.Spec.TargetRefs))
	is.labels("spec.subset", p.Spec.Subset)
	return is
}

func validateRateLimitPolicy(p *v1alpha1.RateLimitPolicy) []Issue {
	return validateTargets(p.Namespace, p.Spec.TargetRefs)
}

func validateFaultPolicy(p *v1alpha1.FaultPolicy) []Issue {
	return validateTargets(p.Namespace, p.Spec.TargetRefs)
}
