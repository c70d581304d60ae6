package object

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
)

// Object is any object of a known kind: a pointer to a Kubernetes-shaped
// struct with TypeMeta, ObjectMeta, spec and perhaps status. Objects that come
// out of the store are shared: never write to one, Clone it first.
type Object interface {
	metav1.Object
	GetObjectKind() schema.ObjectKind
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

	make      func() Object
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
	o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Name})
	return o
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
	Gateway = &Kind{Group: gatewayv1.GroupName, Version: "v1", Name: "Gateway", Plural: "gateways", Short: []string{"gtw"}, Namespaced: true,
		make: func() Object { return new(gatewayv1.Gateway) }, setDefs: as(defaultGateway), validate: check(validateGateway), hasStatus: true}
	HTTPRoute = &Kind{Group: gatewayv1.GroupName, Version: "v1", Name: "HTTPRoute", Plural: "httproutes", Namespaced: true,
		make: func() Object { return new(gatewayv1.HTTPRoute) }, setDefs: as(defaultHTTPRoute), validate: check(validateHTTPRoute), hasStatus: true}
	GRPCRoute = &Kind{Group: gatewayv1.GroupName, Version: "v1", Name: "GRPCRoute", Plural: "grpcroutes", Namespaced: true,
		make: func() Object { return new(gatewayv1.GRPCRoute) }, setDefs: as(defaultGRPCRoute), validate: check(validateGRPCRoute), hasStatus: true}
	TLSRoute = &Kind{Group: gatewayv1.GroupName, Version: "v1", Name: "TLSRoute", Plural: "tlsroutes", Namespaced: true,
		make: func() Object { return new(gatewayv1.TLSRoute) }, setDefs: as(defaultTLSRoute), validate: check(validateTLSRoute), hasStatus: true}
	TCPRoute = &Kind{Group: gatewayv1.GroupName, Version: "v1", Name: "TCPRoute", Plural: "tcproutes", Namespaced: true,
		make: func() Object { return new(gatewayv1.TCPRoute) }, setDefs: as(defaultTCPRoute), validate: check(validateTCPRoute), hasStatus: true}
	ReferenceGrant = &Kind{Group: gatewayv1.GroupName, Version: "v1", Name: "ReferenceGrant", Plural: "referencegrants", Short: []string{"refgrant"}, Namespaced: true,
		make: func() Object { return new(gatewayv1.ReferenceGrant) }, setDefs: as(defaultReferenceGrant), validate: check(validateReferenceGrant)}
	TrafficPolicy = &Kind{Group: v1alpha1.Group, Version: v1alpha1.Version, Name: "TrafficPolicy", Plural: "trafficpolicies", Short: []string{"tp"}, Namespaced: true,
		make: func() Object { return new(v1alpha1.TrafficPolicy) }, setDefs: as(defaultTrafficPolicy), validate: check(validateTrafficPolicy), hasStatus: true}
	RateLimitPolicy = &Kind{Group: v1alpha1.Group, Version: v1alpha1.Version, Name: "RateLimitPolicy", Plural: "ratelimitpolicies", Short: []string{"rlp"}, Namespaced: true,
		make: func() Object { return new(v1alpha1.RateLimitPolicy) }, setDefs: as(defaultRateLimitPolicy), validate: check(validateRateLimitPolicy), hasStatus: true}
	FaultPolicy = &Kind{Group: v1alpha1.Group, Version: v1alpha1.Version, Name: "FaultPolicy", Plural: "faultpolicies", Short: []string{"fp"}, Namespaced: true,
		make: func() Object { return new(v1alpha1.FaultPolicy) }, setDefs: as(defaultFaultPolicy), validate: check(validateFaultPolicy), hasStatus: true}
	Namespace = &Kind{Version: "v1", Name: "Namespace", Plural: "namespaces", Short: []string{"ns"},
		make: func() Object { return new(corev1.Namespace) }, setDefs: as(defaultNamespace), validate: check(validateNamespace)}
	Workload = &Kind{Group: v1alpha1.Group, Version: v1alpha1.Version, Name: "Workload", Plural: "workloads", Short: []string{"wl"}, Namespaced: true,
		make: func() Object { return new(v1alpha1.Workload) }, setDefs: as(defaultWorkload), validate: check(validateWorkload), hasStatus: true}
	Mesh = &Kind{Group: v1alpha1.Group, Version: v1alpha1.Version, Name: "Mesh", Plural: "meshes", Namespaced: false,
		make: func() Object { return new(v1alpha1.Mesh) }, setDefs: as(defaultMesh), validate: check(validateMesh), hasStatus: true}
)

var kinds = []*Kind{Service, EndpointSlice, Secret, Namespace, Gateway, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, ReferenceGrant,
	TrafficPolicy, RateLimitPolicy, FaultPolicy, Workload, Mesh}

// Kinds returns every kind, in a fixed order.
func Kinds() []*Kind { return slices.Clone(kinds) }

// Lookup finds a kind by apiVersion and kind as a document writes them.
func Lookup(apiVersion, kind string) (*Kind, error) {
	for _, k := range kinds {
		if k.Name != kind {
			continue
		}
		if k.APIVersion() == apiVersion {
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
