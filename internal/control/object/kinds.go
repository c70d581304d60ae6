package object

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object/schema"
)

// Object is any object of a known kind: a pointer to a Kubernetes-shaped
// struct with TypeMeta, ObjectMeta, spec and perhaps status. Objects that come
// out of the store are shared: never write to one, Clone it first.
type Object interface {
	metav1.Object
	GetObjectKind() runtimeschema.ObjectKind
}

// Kind is one kind of object, as data.
type Kind struct {
	Group, Version string
	// Name is the kind as documents write it, "HTTPRoute".
	Name string
	// Plural is the resource's name in URLs and keys, "httproutes".
	Plural string
	// Short are other names the CLI takes.
	Short      []string
	Namespaced bool

	// also are further versions that documents may name: served, and the same.
	also []string
	make func() Object
	// schema fills in and checks what is published with the kind; nil where Go
	// code alone does. setDefs and validate are Go code; either may be nil.
	schema    *schema.Schema
	setDefs   func(Object)
	validate  func(Object) []Issue
	hasStatus bool
}

// APIVersion is "v1" for the core group, else "GROUP/VERSION".
func (k *Kind) APIVersion() string {
	if k.Group == "" {
		return k.Version
	}
	return k.Group + "/" + k.Version
}

// New returns an empty object of the kind, with its TypeMeta set.
func (k *Kind) New() Object {
	o := k.make()
	k.name(o)
	return o
}

// name sets the TypeMeta.
func (k *Kind) name(o Object) {
	o.GetObjectKind().SetGroupVersionKind(runtimeschema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Name})
}

// HasStatus reports whether the kind has a status the control plane writes.
func (k *Kind) HasStatus() bool { return k.hasStatus }

// The kinds.
var (
	Service = &Kind{Version: "v1", Name: "Service", Plural: "services", Short: []string{"svc"}, Namespaced: true,
		make: func() Object { return new(corev1.Service) }, setDefs: as(defaultService), validate: check(validateService), hasStatus: true}
	Secret = &Kind{Version: "v1", Name: "Secret", Plural: "secrets", Namespaced: true,
		make: func() Object { return new(corev1.Secret) }, setDefs: as(defaultSecret), validate: check(validateSecret)}
	EndpointSlice = &Kind{Group: "discovery.k8s.io", Version: "v1", Name: "EndpointSlice", Plural: "endpointslices", Short: []string{"eps"}, Namespaced: true,
		make: func() Object { return new(discoveryv1.EndpointSlice) }, setDefs: as(defaultEndpointSlice), validate: check(validateEndpointSlice)}
	Gateway = published(&Kind{Name: "Gateway", Plural: "gateways", Short: []string{"gtw"}, also: []string{"v1beta1"},
		make: func() Object { return new(gatewayv1.Gateway) }, validate: check(validateGateway), hasStatus: true})
	HTTPRoute = published(&Kind{Name: "HTTPRoute", Plural: "httproutes", also: []string{"v1beta1"},
		make: func() Object { return new(gatewayv1.HTTPRoute) }, hasStatus: true})
	GRPCRoute = published(&Kind{Name: "GRPCRoute", Plural: "grpcroutes",
		make: func() Object { return new(gatewayv1.GRPCRoute) }, hasStatus: true})
	TLSRoute = published(&Kind{Name: "TLSRoute", Plural: "tlsroutes", also: []string{"v1alpha3"},
		make: func() Object { return new(gatewayv1.TLSRoute) }, hasStatus: true})
	TCPRoute = published(&Kind{Name: "TCPRoute", Plural: "tcproutes",
		make: func() Object { return new(gatewayv1.TCPRoute) }, hasStatus: true})
	ReferenceGrant = published(&Kind{Name: "ReferenceGrant", Plural: "referencegrants", Short: []string{"refgrant"}, also: []string{"v1beta1"},
		make: func() Object { return new(gatewayv1.ReferenceGrant) }})
	TrafficPolicy = policyKind(&Kind{Name: "TrafficPolicy", Plural: "trafficpolicies", Short: []string{"tp"},
		make: func() Object { return new(v1alpha1.TrafficPolicy) }, validate: check(validateTrafficPolicy)})
	RateLimitPolicy = policyKind(&Kind{Name: "RateLimitPolicy", Plural: "ratelimitpolicies", Short: []string{"rlp"},
		make: func() Object { return new(v1alpha1.RateLimitPolicy) }, validate: check(validateRateLimitPolicy)})
	FaultPolicy = policyKind(&Kind{Name: "FaultPolicy", Plural: "faultpolicies", Short: []string{"fp"},
		make: func() Object { return new(v1alpha1.FaultPolicy) }, validate: check(validateFaultPolicy)})
	AccessPolicy = policyKind(&Kind{Name: "AccessPolicy", Plural: "accesspolicies", Short: []string{"acp"},
		make: func() Object { return new(v1alpha1.AccessPolicy) }, validate: check(validateAccessPolicy)})
	AuthenticationPolicy = policyKind(&Kind{Name: "AuthenticationPolicy", Plural: "authenticationpolicies", Short: []string{"anp"},
		make: func() Object { return new(v1alpha1.AuthenticationPolicy) }, validate: check(validateAuthenticationPolicy)})
	EgressPolicy = policyKind(&Kind{Name: "EgressPolicy", Plural: "egresspolicies", Short: []string{"egp"},
		make: func() Object { return new(v1alpha1.EgressPolicy) }, validate: check(validateEgressPolicy)})
	Operator = operatorKind(&Kind{Name: "Operator", Plural: "operators",
		make: func() Object { return new(v1alpha1.Operator) }, validate: check(validateOperator)})
	Namespace = &Kind{Version: "v1", Name: "Namespace", Plural: "namespaces", Short: []string{"ns"},
		make: func() Object { return new(corev1.Namespace) }}
	Workload = &Kind{Group: v1alpha1.Group, Version: v1alpha1.Version, Name: "Workload", Plural: "workloads", Short: []string{"wl"}, Namespaced: true,
		make: func() Object { return new(v1alpha1.Workload) }, setDefs: as(defaultWorkload), validate: check(validateWorkload), hasStatus: true}
	Mesh = &Kind{Group: v1alpha1.Group, Version: v1alpha1.Version, Name: "Mesh", Plural: "meshes", Namespaced: false,
		make: func() Object { return new(v1alpha1.Mesh) }, setDefs: as(defaultMesh), validate: check(validateMesh), hasStatus: true}
)

var kinds = []*Kind{Service, EndpointSlice, Secret, Namespace, Gateway, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, ReferenceGrant,
	TrafficPolicy, RateLimitPolicy, FaultPolicy, AccessPolicy, AuthenticationPolicy, EgressPolicy, Workload, Mesh, Operator}

// published completes a kind of the Gateway API.
func published(k *Kind) *Kind {
	k.Group, k.Version, k.Namespaced = gatewayv1.GroupName, "v1", true
	k.schema = schema.New(k.Group, k.Plural)
	return k
}

// policyKind completes a kind of policy.
func policyKind(k *Kind) *Kind {
	k.Group, k.Version, k.Namespaced, k.hasStatus = v1alpha1.Group, v1alpha1.Version, true, true
	k.schema = schema.New(k.Group, k.Plural)
	return k
}

// operatorKind completes the kind of who may use the API.
func operatorKind(k *Kind) *Kind {
	k.Group, k.Version = v1alpha1.Group, v1alpha1.Version
	k.schema = schema.New(k.Group, k.Plural)
	return k
}

// Kinds returns every kind, in a fixed order.
func Kinds() []*Kind { return slices.Clone(kinds) }

// Lookup finds a kind by apiVersion and kind as a document writes them.
func Lookup(apiVersion, kind string) (*Kind, error) {
	for _, k := range kinds {
		if k.Name != kind {
			continue
		}
		if k.APIVersion() == apiVersion || k.Group != "" && slices.Contains(k.also, strings.TrimPrefix(apiVersion, k.Group+"/")) {
			return k, nil
		}
		return nil, fmt.Errorf("apiVersion %q of kind %s is not known: write %s", apiVersion, kind, k.APIVersion())
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name
	}
	if near := nearest(kind, names); near != "" {
		return nil, fmt.Errorf("kind %q is not known: did you mean %s?", kind, near)
	}
	return nil, fmt.Errorf("kind %q is not known: want one of %s", kind, strings.Join(names, ", "))
}

// LookupResource finds a kind by group, version and plural, as URLs write them.
func LookupResource(group, version, plural string) *Kind {
	for _, k := range kinds {
		if k.Group == group && k.Version == version && k.Plural == plural {
			return k
		}
	}
	return nil
}

// LookupName finds a kind by any name a person may type: plural, singular,
// short, in any case, with or without ".GROUP".
func LookupName(name string) (*Kind, error) {
	want := strings.ToLower(name)
	var all []string
	for _, k := range kinds {
		names := append([]string{k.Plural, strings.ToLower(k.Name)}, k.Short...)
		for _, n := range names {
			if want == n || k.Group != "" && want == n+"."+k.Group {
				return k, nil
			}
		}
		all = append(all, k.Plural)
	}
	if near := nearest(want, all); near != "" {
		return nil, fmt.Errorf("resource %q is not known: did you mean %s?", name, near)
	}
	return nil, fmt.Errorf("resource %q is not known: want one of %s", name, strings.Join(all, ", "))
}

// Of returns the kind of an object by its TypeMeta, or nil.
func Of(o Object) *Kind {
	gvk := o.GetObjectKind().GroupVersionKind()
	for _, k := range kinds {
		if k.Name == gvk.Kind && k.Group == gvk.Group && k.Version == gvk.Version {
			return k
		}
	}
	return nil
}

// Encode returns an object as JSON.
func Encode(o Object) ([]byte, error) { return json.Marshal(o) }

// Unmarshal reads JSON that Encode wrote: no defaults, no validation.
func Unmarshal(k *Kind, data []byte) (Object, error) {
	o := k.make()
	if err := json.Unmarshal(data, o); err != nil {
		return nil, fmt.Errorf("decode %s: %w", k.Name, err)
	}
	return o, nil
}

// Clone returns a deep copy.
func Clone(o Object) Object {
	data, err := Encode(o)
	if err == nil {
		var c Object
		if c, err = Unmarshal(Of(o), data); err == nil {
			return c
		}
	}
	panic("object: a known object doesn't survive its own encoding: " + err.Error())
}

func as[T Object](f func(T)) func(Object) { return func(o Object) { f(o.(T)) } }

func check[T Object](f func(T) []Issue) func(Object) []Issue {
	return func(o Object) []Issue { return f(o.(T)) }
}
