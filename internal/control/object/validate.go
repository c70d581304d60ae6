package object

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/identity"
)

// Bounds of one object's lists.
const (
	maxPorts     = 100
	maxEndpoints = 1000
	maxOutbound  = 500
)

// issues gathers what is wrong.
type issues []Issue

func (is *issues) add(field, format string, args ...any) {
	*is = append(*is, Issue{field, fmt.Sprintf(format, args...)})
}

func (is *issues) port(field string, p int32) {
	if p < 1 || p > 65535 {
		is.add(field, "%d: want a port, 1 to 65535", p)
	}
}

func (is *issues) ip(field, s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		is.add(field, "%q: want an IP address, such as 127.0.0.1 or ::1", s)
		return netip.Addr{}
	}
	return a
}

func (is *issues) addrPort(field, s string) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 || a.Addr().Zone() != "" {
		is.add(field, "%q: want IP:PORT, such as 127.0.0.1:8080 or [::1]:8080", s)
	}
}

var labelValue = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$`)

func (is *issues) labels(field string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if len(validation.IsQualifiedName(key)) > 0 {
			is.add(field, "key %q: want [PREFIX/]NAME of letters, digits, -, _ and .", key)
		}
		if value := labels[key]; len(value) > 63 || !labelValue.MatchString(value) {
			is.add(field+"."+key, "%q: want up to 63 letters, digits, -, _ and .", value)
		}
	}
}

func (is *issues) atMost(field string, n, most int) {
	if n > most {
		is.add(field, "%d are too many: at most %d", n, most)
	}
}

func (is *issues) hostname(field, h string) {
	if len(validation.IsDNS1123Subdomain(strings.TrimPrefix(h, "*."))) > 0 {
		is.add(field, "%q: want a host name in lower case without port, such as shop.example or *.example", h)
	}
}

func (is *issues) serviceName(field, s string) {
	if _, err := ServiceName(s, DefaultNamespace); err != nil {
		is.add(field, "%s", err)
	}
}

// ServiceName reads "cart" or "cart.shop" as name and namespace; without one
// the namespace is the given one.
func ServiceName(s, namespace string) ([2]string, error) {
	name, ns, found := strings.Cut(s, ".")
	if !found {
		ns = namespace
	}
	if len(validation.IsDNS1035Label(name)) > 0 || len(validation.IsDNS1123Label(ns)) > 0 {
		return [2]string{}, fmt.Errorf("%q: want a service's name, NAME or NAME.NAMESPACE", s)
	}
	return [2]string{name, ns}, nil
}

func validateService(s *corev1.Service) []Issue {
	var is issues
	spec := &s.Spec
	switch spec.Type {
	case corev1.ServiceTypeClusterIP:
	case corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
	default:
		is.add("spec.type", "%q: want ClusterIP", spec.Type)
	}
	if len(spec.Ports) == 0 {
		is.add("spec.ports", "is missing: a service has at least one port")
	}
	is.atMost("spec.ports", len(spec.Ports), maxPorts)
	names, numbers := map[string]bool{}, map[int32]bool{}
	for i := range spec.Ports {
		p, at := &spec.Ports[i], fmt.Sprintf("spec.ports[%d]", i)
		is.port(at+".port", p.Port)
		if p.Protocol != corev1.ProtocolTCP {
			is.add(at+".protocol", "%q: only TCP is served", p.Protocol)
		}
		if p.TargetPort.Type == intstr.Int {
			is.port(at+".targetPort", p.TargetPort.IntVal)
		} else if msgs := validation.IsValidPortName(p.TargetPort.StrVal); len(msgs) > 0 {
			is.add(at+".targetPort", "%q: want a port number or a port's name", p.TargetPort.StrVal)
		}
		if p.Name == "" && len(spec.Ports) > 1 {
			is.add(at+".name", "is missing: each port of a service with several needs a name")
		}
		if p.Name != "" && len(validation.IsDNS1123Label(p.Name)) > 0 {
			is.add(at+".name", "%q: want a DNS label: up to 63 of a-z, 0-9 and -", p.Name)
		}
		if names[p.Name] {
			is.add(at+".name", "%q is the name of another port", p.Name)
		}
		if numbers[p.Port] {
			is.add(at+".port", "%d is another port's number", p.Port)
		}
		names[p.Name], numbers[p.Port] = true, true
	}
	for i, a := range spec.ClusterIPs {
		if a != corev1.ClusterIPNone {
			is.ip(fmt.Sprintf("spec.clusterIPs[%d]", i), a)
		}
	}
	if spec.ClusterIP != "" && len(spec.ClusterIPs) > 0 && spec.ClusterIP != spec.ClusterIPs[0] {
		is.add("spec.clusterIP", "%q: must be the first of spec.clusterIPs, %q", spec.ClusterIP, spec.ClusterIPs[0])
	}
	return is
}

func validateSecret(s *corev1.Secret) []Issue {
	var is issues
	if s.Type != corev1.SecretTypeTLS {
		return is
	}
	missing := false
	for _, k := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if len(s.Data[k]) == 0 {
			is.add("data", "%s is missing: a %s Secret has tls.crt and tls.key, both PEM", k, corev1.SecretTypeTLS)
			missing = true
		}
	}
	if !missing {
		// The error of X509KeyPair names what is wrong, never the key.
		if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
			is.add("data", "not a certificate chain with its key: %s", strings.TrimPrefix(err.Error(), "tls: "))
		}
	}
	return is
}

func validateEndpointSlice(s *discoveryv1.EndpointSlice) []Issue {
	var is issues
	switch s.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
	default:
		is.add("addressType", "%q: want IPv4 or IPv6", s.AddressType)
	}
	if s.Labels[discoveryv1.LabelServiceName] == "" {
		is.add("metadata.labels", "%s is missing: it names the service whose endpoints these are", discoveryv1.LabelServiceName)
	}
	is.atMost("endpoints", len(s.Endpoints), maxEndpoints)
	is.atMost("ports", len(s.Ports), maxPorts)
	for i := range s.Endpoints {
		at := fmt.Sprintf("endpoints[%d].addresses", i)
		if len(s.Endpoints[i].Addresses) == 0 {
			is.add(at, "is missing: an endpoint has an address")
		}
		for j, a := range s.Endpoints[i].Addresses {
			ip := is.ip(fmt.Sprintf("%s[%d]", at, j), a)
			if ip.IsValid() && ip.Is4() != (s.AddressType == discoveryv1.AddressTypeIPv4) {
				is.add(fmt.Sprintf("%s[%d]", at, j), "%q is not an %s address, as addressType says", a, s.AddressType)
			}
		}
	}
	if len(s.Ports) == 0 {
		is.add("ports", "is missing: say which port the addresses serve on")
	}
	for i, p := range s.Ports {
		at := fmt.Sprintf("ports[%d]", i)
		if p.Port == nil {
			is.add(at+".port", "is missing")
		} else {
			is.port(at+".port", *p.Port)
		}
		if *p.Protocol != corev1.ProtocolTCP {
			is.add(at+".protocol", "%q: only TCP is served", *p.Protocol)
		}
	}
	return is
}

func validateWorkload(w *v1alpha1.Workload) []Issue {
	var is issues
	is.ip("spec.address", w.Spec.Address)
	if len(validation.IsDNS1123Subdomain(w.Spec.ServiceAccount)) > 0 {
		is.add("spec.serviceAccount", "%q: want up to 253 of a-z, 0-9, - and .", w.Spec.ServiceAccount)
	}
	if d := w.Spec.TrustDomain; d != "" {
		if _, err := identity.ParseTrustDomain(d); err != nil {
			is.add("spec.trustDomain", "%s", err)
		}
	}
	is.atMost("spec.ports", len(w.Spec.Ports), maxPorts)
	is.atMost("spec.outbound", len(w.Spec.Outbound), maxOutbound)
	for i := range w.Spec.Ports {
		p, at := &w.Spec.Ports[i], fmt.Sprintf("spec.ports[%d]", i)
		is.serviceName(at+".service", p.Service)
		is.port(at+".port", p.Port)
		for _, form := range []struct {
			address, port string
			a             string
			p             int32
		}{{"appAddress", "appPort", p.AppAddress, p.AppPort}, {"meshAddress", "meshPort", p.MeshAddress, p.MeshPort}} {
			if form.a != "" && form.p != 0 {
				is.add(at+"."+form.port, "can't stand beside %s: keep one", form.address)
			}
			if form.a != "" {
				is.addrPort(at+"."+form.address, form.a)
			}
			if form.p != 0 {
				is.port(at+"."+form.port, form.p)
			}
		}
		switch p.Protocol {
		case "", "http", "http2", "tcp":
		default:
			is.add(at+".protocol", "%q: want http, http2 or tcp, or leave it out", p.Protocol)
		}
		switch {
		case p.ProxyProtocol == "":
		case p.ProxyProtocol != "v1" && p.ProxyProtocol != "v2":
			is.add(at+".proxyProtocol", "%q: want v1 or v2, or leave it out", p.ProxyProtocol)
		case p.Protocol != "tcp":
			is.add(at+".proxyProtocol", "needs protocol tcp: an HTTP connection carries requests of many clients")
		case p.MeshAddress == "" && p.MeshPort == 0:
			is.add(at+".proxyProtocol", "needs meshAddress or meshPort: without a proxy nobody would send the header")
		}
		if p.HealthPath != "" && !strings.HasPrefix(p.HealthPath, "/") {
			is.add(at+".healthPath", "%q: want a path that begins with /", p.HealthPath)
		}
	}
	listens := map[string]string{}
	listen := func(at, s string) {
		is.addrPort(at, s)
		if first, ok := listens[s]; ok {
			is.add(at, "%q is taken by %s", s, first)
		}
		listens[s] = at
	}
	for i, o := range w.Spec.Outbound {
		at := fmt.Sprintf("spec.outbound[%d]", i)
		is.serviceName(at+".service", o.Service)
		is.port(at+".port", o.Port)
		listen(at+".listen", o.Listen)
	}
	for _, list := range []struct {
		name      string
		addresses []string
	}{{"capture", w.Spec.Capture}, {"forward", w.Spec.Forward}} {
		for i, a := range list.addresses {
			listen(fmt.Sprintf("spec.%s[%d]", list.name, i), a)
		}
	}
	for i, a := range w.Spec.Names {
		is.addrPort(fmt.Sprintf("spec.names[%d]", i), a)
	}
	return is
}

// maxDenied bounds the identities that a Mesh denies.
const maxDenied = 10_000

func validateMesh(m *v1alpha1.Mesh) []Issue {
	var is issues
	if m.Name != "" && m.Name != v1alpha1.MeshName {
		is.add("metadata.name", "%q: there is one Mesh, named %q", m.Name, v1alpha1.MeshName)
	}
	if _, err := identity.ParseTrustDomain(m.Spec.TrustDomain); err != nil {
		is.add("spec.trustDomain", "%s", err)
	}
	if len(validation.IsDNS1123Subdomain(m.Spec.ClusterDomain)) > 0 {
		is.add("spec.clusterDomain", "%q: want a DNS name", m.Spec.ClusterDomain)
	}
	if d := m.Spec.CertificateTTL.Duration; d < time.Minute || d > 24*time.Hour {
		is.add("spec.certificateTTL", "%s: want 1m to 24h", d)
	}
	switch m.Spec.ExpiredConnections {
	case "", v1alpha1.ExpiredKeep, v1alpha1.ExpiredEnd:
	default:
		is.add("spec.expiredConnections", "%q: want Keep or End, or leave it out", m.Spec.ExpiredConnections)
	}
	switch m.Spec.Plaintext {
	case v1alpha1.PlaintextPermitted, v1alpha1.PlaintextRefused:
	default:
		is.add("spec.plaintext", "%q: want Permitted or Refused", m.Spec.Plaintext)
	}
	is.atMost("spec.deniedIdentities", len(m.Spec.DeniedIdentities), maxDenied)
	for i, uri := range m.Spec.DeniedIdentities {
		at := fmt.Sprintf("spec.deniedIdentities[%d]", i)
		switch id, err := identity.Parse(uri); {
		case err != nil:
			is.add(at, "%s", err)
		case id == identity.ControlPlane(id.TrustDomain):
			is.add(at, "%s is the control plane's own identity: without it the mesh stands still", uri)
		}
	}
	is.federated(m)
	is.accessLog(&m.Spec.AccessLog)
	s := &m.Spec.Settings
	for _, d := range []struct {
		name string
		d    metav1.Duration
	}{{"connectTimeout", s.ConnectTimeout}, {"headTimeout", s.HeadTimeout}, {"idleTimeout", s.IdleTimeout},
		{"poolIdle", s.PoolIdle}, {"streamIdle", s.StreamIdle}, {"drainTimeout", s.DrainTimeout}} {
		if d.d.Duration != 0 && (d.d.Duration < time.Millisecond || d.d.Duration > 24*time.Hour) {
			is.add("spec.settings."+d.name, "%s: want 1ms to 24h, or leave it out", d.d.Duration)
		}
	}
	for _, n := range []struct {
		name           string
		v, least, most int32
	}{{"maxHead", s.MaxHead, 1024, 1 << 20}, {"maxFields", s.MaxFields, 8, 10000}, {"maxConnections", s.MaxConnections, 1, 10_000_000}} {
		if n.v != 0 && (n.v < n.least || n.v > n.most) {
			is.add("spec.settings."+n.name, "%d: want %d to %d, or leave it out", n.v, n.least, n.most)
		}
	}
	if s.MinBodyRate < -1 || s.MinBodyRate > 1<<20 {
		is.add("spec.settings.minBodyRate", "%d: want 1 to %d bytes a second, -1 for any, or leave it out", s.MinBodyRate, 1<<20)
	}
	switch s.PeerProtocol {
	case "", "http1", "http2":
	default:
		is.add("spec.settings.peerProtocol", "%q: want http1 or http2, or leave it out", s.PeerProtocol)
	}
	return is
}
