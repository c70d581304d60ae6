package object

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Bounds of the Gateway API kinds; the first six are the specification's.
const (
	maxListeners     = 64
	maxGatewayIPs    = 16
	maxParents       = 32
	maxHostnames     = 16
	maxRules         = 16
	maxMatches       = 64
	maxBackends      = 16
	maxHeaderMatches = 16
	maxWeight        = 1_000_000
)

// AnnotationProxyProtocol on a Gateway says with ProxyProtocolAccept that the
// connections of its listeners begin with a PROXY header. The Gateway API has no
// field for it.
const (
	AnnotationProxyProtocol = "tulle.dev/proxy-protocol"
	ProxyProtocolAccept     = "accept"
)

func (is *issues) hostname(field, h string) {
	if len(validation.IsDNS1123Subdomain(strings.TrimPrefix(h, "*."))) > 0 {
		is.add(field, "%q: want a host name in lower case without port, such as shop.example or *.example", h)
	}
}

func validateGateway(g *gatewayv1.Gateway) []Issue {
	var is issues
	if g.Spec.GatewayClassName != "tulle" {
		is.add("spec.gatewayClassName", "%q: want tulle", g.Spec.GatewayClassName)
	}
	if v, ok := g.Annotations[AnnotationProxyProtocol]; ok && v != ProxyProtocolAccept {
		is.add("metadata.annotations["+AnnotationProxyProtocol+"]", "%q: want %s, or leave it out", v, ProxyProtocolAccept)
	}
	if len(g.Spec.Listeners) == 0 {
		is.add("spec.listeners", "is missing: a gateway has at least one listener")
	}
	is.atMost("spec.listeners", len(g.Spec.Listeners), maxListeners)
	is.atMost("spec.addresses", len(g.Spec.Addresses), maxGatewayIPs)
	if g.Spec.TLS != nil {
		is.add("spec.tls", "is not supported: put certificateRefs under the listener's tls")
	}
	if g.Spec.Infrastructure != nil && g.Spec.Infrastructure.ParametersRef != nil {
		is.add("spec.infrastructure.parametersRef", "is not supported: leave it out")
	}
	for i, a := range g.Spec.Addresses {
		at := fmt.Sprintf("spec.addresses[%d]", i)
		if *a.Type != gatewayv1.IPAddressType {
			is.add(at+".type", "%q: want IPAddress", *a.Type)
			continue
		}
		is.ip(at+".value", a.Value)
	}
	names := map[gatewayv1.SectionName]bool{}
	for i := range g.Spec.Listeners {
		l, at := &g.Spec.Listeners[i], fmt.Sprintf("spec.listeners[%d]", i)
		if l.Name == "" || len(validation.IsDNS1123Subdomain(string(l.Name))) > 0 {
			is.add(at+".name", "%q: want a name of a-z, 0-9, - and .", l.Name)
		}
		if names[l.Name] {
			is.add(at+".name", "%q is another listener's name", l.Name)
		}
		names[l.Name] = true
		is.port(at+".port", l.Port)
		if l.Hostname != nil && *l.Hostname != "" {
			is.hostname(at+".hostname", string(*l.Hostname))
		}
		switch l.Protocol {
		case gatewayv1.HTTPProtocolType:
			if l.TLS != nil {
				is.add(at+".tls", "an HTTP listener has no tls: write protocol HTTPS or leave tls out")
			}
		case gatewayv1.HTTPSProtocolType:
			switch {
			case l.TLS == nil || len(l.TLS.CertificateRefs) == 0:
				is.add(at+".tls.certificateRefs", "is missing: an HTTPS listener names a Secret of type kubernetes.io/tls")
			case *l.TLS.Mode != gatewayv1.TLSModeTerminate:
				is.add(at+".tls.mode", "%q: want Terminate", *l.TLS.Mode)
			case len(l.TLS.CertificateRefs) > 1:
				is.add(at+".tls.certificateRefs", "several certificates for one listener are not supported: keep one")
			}
		default:
			is.add(at+".protocol", "%q: want HTTP or HTTPS", l.Protocol)
		}
		if from := *l.AllowedRoutes.Namespaces.From; !slices.Contains([]gatewayv1.FromNamespaces{gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromSame, gatewayv1.NamespacesFromNone}, from) {
			is.add(at+".allowedRoutes.namespaces.from", "%q: want Same, All or None", from)
		}
		for j, k := range l.AllowedRoutes.Kinds {
			if k.Kind != "HTTPRoute" {
				is.add(fmt.Sprintf("%s.allowedRoutes.kinds[%d].kind", at, j), "%q: want HTTPRoute", k.Kind)
			}
		}
	}
	return is
}

var (
	headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$")
	// gatewayDuration is GEP-2257's form.
	gatewayDuration = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)
	methods         = []gatewayv1.HTTPMethod{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)

// Duration reads a Gateway API duration (GEP-2257), such as 500ms or 1m30s.
func Duration(d gatewayv1.Duration) (time.Duration, error) {
	if !gatewayDuration.MatchString(string(d)) {
		return 0, fmt.Errorf("%q: want a duration such as 500ms, 10s or 1m30s", d)
	}
	return time.ParseDuration(string(d))
}

func validateHTTPRoute(r *gatewayv1.HTTPRoute) []Issue {
	var is issues
	if len(r.Spec.ParentRefs) == 0 {
		is.add("spec.parentRefs", "is missing: name the Gateway (or, for calls inside the mesh, the Service) the route belongs to")
	}
	is.atMost("spec.parentRefs", len(r.Spec.ParentRefs), maxParents)
	for i, p := range r.Spec.ParentRefs {
		at := fmt.Sprintf("spec.parentRefs[%d]", i)
		gateway := *p.Kind == "Gateway" && *p.Group == gatewayv1.GroupName
		service := *p.Kind == "Service" && *p.Group == ""
		switch {
		case *p.Kind == "Service" && *p.Group == gatewayv1.GroupName:
			is.add(at+".group", `%q: a Service's group is "", write group: ""`, *p.Group)
		case !gateway && !service:
			is.add(at+".kind", "%q of group %q: want Gateway, or Service with group \"\"", *p.Kind, *p.Group)
		}
		if p.Name == "" {
			is.add(at+".name", "is missing")
		}
		if p.Port != nil {
			is.port(at+".port", *p.Port)
		}
		if service && p.SectionName != nil {
			is.add(at+".sectionName", "a Service's port is chosen with port: NUMBER")
		}
	}
	is.atMost("spec.hostnames", len(r.Spec.Hostnames), maxHostnames)
	for i, h := range r.Spec.Hostnames {
		is.hostname(fmt.Sprintf("spec.hostnames[%d]", i), string(h))
	}
	is.atMost("spec.rules", len(r.Spec.Rules), maxRules)
	for i := range r.Spec.Rules {
		validateRule(&is, fmt.Sprintf("spec.rules[%d]", i), &r.Spec.Rules[i])
	}
	return is
}

func validateRule(is *issues, at string, rule *gatewayv1.HTTPRouteRule) {
	const later = "is not supported yet: leave it out"
	if len(rule.Filters) > 0 {
		is.add(at+".filters", later)
	}
	if rule.Retry != nil {
		is.add(at+".retry", later)
	}
	if rule.SessionPersistence != nil {
		is.add(at+".sessionPersistence", later)
	}
	if t := rule.Timeouts; t != nil {
		if t.Request != nil {
			if _, err := Duration(*t.Request); err != nil {
				is.add(at+".timeouts.request", "%s", err)
			}
		}
		if t.BackendRequest != nil {
			is.add(at+".timeouts.backendRequest", "is not supported yet: use timeouts.request")
		}
	}
	is.atMost(at+".matches", len(rule.Matches), maxMatches)
	is.atMost(at+".backendRefs", len(rule.BackendRefs), maxBackends)
	for j := range rule.Matches {
		m, at := &rule.Matches[j], fmt.Sprintf("%s.matches[%d]", at, j)
		switch *m.Path.Type {
		case gatewayv1.PathMatchExact, gatewayv1.PathMatchPathPrefix:
			v := *m.Path.Value
			if !strings.HasPrefix(v, "/") || len(v) > 1024 {
				is.add(at+".path.value", "%q: want a path that begins with /, up to 1024 bytes", v)
			}
			for _, bad := range []string{"//", "/./", "/../", "?", "#", "%2f", "%2F"} {
				if strings.Contains(v, bad) {
					is.add(at+".path.value", "%q: must not contain %q", v, bad)
				}
			}
			if strings.HasSuffix(v, "/..") || strings.HasSuffix(v, "/.") {
				is.add(at+".path.value", "%q: must not end with a dot segment", v)
			}
		default:
			is.add(at+".path.type", "%q: want Exact or PathPrefix", *m.Path.Type)
		}
		if m.Method != nil && !slices.Contains(methods, *m.Method) {
			is.add(at+".method", "%q: want one of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH", *m.Method)
		}
		if len(m.QueryParams) > 0 {
			is.add(at+".queryParams", later)
		}
		is.atMost(at+".headers", len(m.Headers), maxHeaderMatches)
		for h, header := range m.Headers {
			at := fmt.Sprintf("%s.headers[%d]", at, h)
			if !headerName.MatchString(string(header.Name)) {
				is.add(at+".name", "%q: want a header field name", header.Name)
			}
			if *header.Type != gatewayv1.HeaderMatchExact {
				is.add(at+".type", "%q: want Exact", *header.Type)
			}
		}
	}
	for j := range rule.BackendRefs {
		b, at := &rule.BackendRefs[j], fmt.Sprintf("%s.backendRefs[%d]", at, j)
		if b.Name == "" {
			is.add(at+".name", "is missing: name a Service")
		}
		if *b.Kind == "Service" && *b.Group == "" {
			if b.Port == nil {
				is.add(at+".port", "is missing: say which port of the Service")
			} else {
				is.port(at+".port", *b.Port)
			}
		}
		if *b.Weight < 0 || *b.Weight > maxWeight {
			is.add(at+".weight", "%d: want 0 to %d", *b.Weight, maxWeight)
		}
		if len(b.Filters) > 0 {
			is.add(at+".filters", later)
		}
	}
}
