package object

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

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
