package object

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
)

// The Mesh object's defaults.
const (
	DefaultTrustDomain    = "mesh.local"
	DefaultClusterDomain  = "cluster.local"
	DefaultCertificateTTL = 24 * time.Hour
	DefaultServiceAccount = "default"
	DefaultAddress        = "127.0.0.1"
)

// or fills a missing optional value.
func or[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

// fill sets a zero value.
func fill[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func defaultService(s *corev1.Service) {
	fill(&s.Spec.Type, corev1.ServiceTypeClusterIP)
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		fill(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == (intstr.IntOrString{}) {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// defaultSecret moves stringData into data, as the Kubernetes API server does.
func defaultSecret(s *corev1.Secret) {
	fill(&s.Type, corev1.SecretTypeOpaque)
	for k, v := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
}

func defaultEndpointSlice(s *discoveryv1.EndpointSlice) {
	fill(&s.AddressType, discoveryv1.AddressTypeIPv4)
	for i := range s.Ports {
		or(&s.Ports[i].Protocol, corev1.ProtocolTCP)
		or(&s.Ports[i].Name, "")
	}
}

func defaultGateway(g *gatewayv1.Gateway) {
	fill(&g.Spec.GatewayClassName, "tulle")
	for i := range g.Spec.Addresses {
		or(&g.Spec.Addresses[i].Type, gatewayv1.IPAddressType)
	}
	for i := range g.Spec.Listeners {
		l := &g.Spec.Listeners[i]
		if l.TLS != nil {
			or(&l.TLS.Mode, gatewayv1.TLSModeTerminate)
			for j := range l.TLS.CertificateRefs {
				or(&l.TLS.CertificateRefs[j].Group, "")
				or(&l.TLS.CertificateRefs[j].Kind, "Secret")
			}
		}
		or(&l.AllowedRoutes, gatewayv1.AllowedRoutes{})
		or(&l.AllowedRoutes.Namespaces, gatewayv1.RouteNamespaces{})
		or(&l.AllowedRoutes.Namespaces.From, gatewayv1.NamespacesFromSame)
	}
}

func defaultHTTPRoute(r *gatewayv1.HTTPRoute) {
	for i := range r.Spec.ParentRefs {
		p := &r.Spec.ParentRefs[i]
		or(&p.Group, gatewayv1.GroupName)
		or(&p.Kind, "Gateway")
	}
	if len(r.Spec.Rules) == 0 {
		r.Spec.Rules = []gatewayv1.HTTPRouteRule{{}}
	}
	for i := range r.Spec.Rules {
		rule := &r.Spec.Rules[i]
		if len(rule.Matches) == 0 {
			rule.Matches = []gatewayv1.HTTPRouteMatch{{}}
		}
		for j := range rule.Matches {
			m := &rule.Matches[j]
			or(&m.Path, gatewayv1.HTTPPathMatch{})
			or(&m.Path.Type, gatewayv1.PathMatchPathPrefix)
			or(&m.Path.Value, "/")
			for h := range m.Headers {
				or(&m.Headers[h].Type, gatewayv1.HeaderMatchExact)
			}
		}
		for j := range rule.BackendRefs {
			b := &rule.BackendRefs[j]
			or(&b.Group, "")
			or(&b.Kind, "Service")
			or(&b.Weight, 1)
		}
	}
}

func defaultParents(refs []gatewayv1.ParentReference) {
	for i := range refs {
		or(&refs[i].Group, gatewayv1.GroupName)
		or(&refs[i].Kind, "Gateway")
	}
}

func defaultBackend(b *gatewayv1.BackendRef) {
	or(&b.Group, "")
	or(&b.Kind, "Service")
	or(&b.Weight, 1)
}

func defaultGRPCRoute(r *gatewayv1.GRPCRoute) {
	defaultParents(r.Spec.ParentRefs)
	for i := range r.Spec.Rules {
		for j := range r.Spec.Rules[i].Matches {
			m := &r.Spec.Rules[i].Matches[j]
			if m.Method != nil {
				or(&m.Method.Type, gatewayv1.GRPCMethodMatchExact)
			}
			for h := range m.Headers {
				or(&m.Headers[h].Type, gatewayv1.GRPCHeaderMatchExact)
			}
		}
		for j := range r.Spec.Rules[i].BackendRefs {
			defaultBackend(&r.Spec.Rules[i].BackendRefs[j].BackendRef)
		}
	}
}

func defaultTLSRoute(r *gatewayv1.TLSRoute) {
	defaultParents(r.Spec.ParentRefs)
	for i := range r.Spec.Rules {
		for j := range r.Spec.Rules[i].BackendRefs {
			defaultBackend(&r.Spec.Rules[i].BackendRefs[j])
		}
	}
}

func defaultTCPRoute(r *gatewayv1.TCPRoute) {
	defaultParents(r.Spec.ParentRefs)
	for i := range r.Spec.Rules {
		for j := range r.Spec.Rules[i].BackendRefs {
			defaultBackend(&r.Spec.Rules[i].BackendRefs[j])
		}
	}
}

func defaultReferenceGrant(*gatewayv1.ReferenceGrant) {}
func defaultNamespace(*corev1.Namespace)              {}
func defaultTrafficPolicy(*v1alpha1.TrafficPolicy)    {}
func defaultFaultPolicy(*v1alpha1.FaultPolicy)        {}
func defaultRateLimitPolicy(p *v1alpha1.RateLimitPolicy) {
	for i := range p.Spec.Limits {
		or(&p.Spec.Limits[i].Per, "1s")
		or(&p.Spec.Limits[i].Scope, v1alpha1.ScopeLocal)
	}
}

func defaultWorkload(w *v1alpha1.Workload) {
	fill(&w.Spec.Address, DefaultAddress)
	fill(&w.Spec.ServiceAccount, DefaultServiceAccount)
}

func defaultMesh(m *v1alpha1.Mesh) {
	fill(&m.Spec.TrustDomain, DefaultTrustDomain)
	fill(&m.Spec.ClusterDomain, DefaultClusterDomain)
	fill(&m.Spec.Plaintext, v1alpha1.PlaintextPermitted)
	fill(&m.Spec.CertificateTTL, metav1.Duration{Duration: DefaultCertificateTTL})
}
