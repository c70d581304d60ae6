package explain

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/control/plan"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// This file is who may come in through a gateway: the listener's rules are asked,
// then those of the route, then the proxies of the service that it leads to, to whom
// the gateway is the caller.

// gatewayAccess answers a question with a Gateway.
func gatewayAccess(s *mesh.Snapshot, q *AccessQuestion) (*AccessAnswer, error) {
	peer, err := outsider(q)
	if err != nil {
		return nil, err
	}
	name, port, _ := strings.Cut(q.Gateway, ":")
	n, namespace, ok := strings.Cut(name, ".")
	if !ok {
		namespace = "default"
	}
	g := s.Gateways[mesh.Name{Namespace: namespace, Name: n}]
	if g == nil {
		return nil, fmt.Errorf("gateway: there is no Gateway %s in namespace %s, or nothing of it is accepted", n, namespace)
	}
	l, err := edgeOf(plan.Proxy(s, g.Name, 0), g, port)
	if err != nil {
		return nil, err
	}
	out := &AccessAnswer{Gateway: true, To: fmt.Sprintf("%s:%d", g.Name, l.Address.Port())}
	if q.Host == "" && len(l.Certificates) > 0 && q.ServerName != "" {
		q.Host = q.ServerName
	}
	if peer.ServerName == "" && len(l.Certificates) > 0 {
		if h, _, err := net.SplitHostPort(q.Host); err == nil {
			peer.ServerName = h
		} else {
			peer.ServerName = q.Host
		}
		peer.ServerName = strings.ToLower(strings.TrimSuffix(peer.ServerName, "."))
	}
	port0 := mesh.Port{Port: l.Address.Port(), Protocol: mesh.HTTP}
	if l.Protocol == view.TCP {
		port0.Protocol = mesh.TCP
	}
	// The server name chooses the certificate, and with it what is served.
	at := covering(l.Certificates, peer.ServerName)
	if len(l.Certificates) > 0 && at == nil {
		out.Reason = fmt.Sprintf("refused: the gateway has no certificate for server name %q", peer.ServerName)
		return out, nil
	}
	if at != nil && len(at.Certificate) == 0 { // TLS that is passed through
		port0.Protocol = mesh.TCP
	}
	var of policy.Guard
	if l.Inbound != nil && l.Inbound.Guard != nil {
		of = *l.Inbound.Guard
	}
	if port0.Protocol == mesh.TCP {
		out.Notes = append(out.Notes, "connections of this listener are decided as they begin: requests aren't seen")
		return out, decideAt(out, s, &of, peer, &port0, q)
	}
	if host := hostOf(q.Host); at != nil && host != peer.ServerName {
		if better := covering(l.Certificates, host); better != nil && better.Listener != at.Listener {
			out.Reason = fmt.Sprintf("refused: the connection is made for %q, and another listener serves %q (421)", peer.ServerName, host)
			return out, nil
		}
	}
	table, err := route.Compile(l.Routes)
	if err != nil {
		return nil, fmt.Errorf("the routes of listener %s make no sense: %w", l.Name, err)
	}
	request := route.Request{Authority: []byte(q.Host), Method: []byte(q.method()), Path: []byte(q.path()), Query: []byte(q.query()), Fields: headers(q.Headers)}
	rule := table.Explain(&request).Rule
	if rule == nil {
		out.Reason = "no: no route of the gateway is for this request (404)"
		return out, nil
	}
	out.Route = rule.Name
	var own policy.Guard
	if rule.Policy != nil && rule.Policy.Guard != nil {
		own = *rule.Policy.Guard
	}
	if own.JWT != nil { // the nearest holds, whole
		of.JWT = own.JWT
	}
	own.JWT = of.JWT
	if own.External == nil {
		own.External = of.External
	}
	sent := *q
	if of.JWT == nil && q.Claims != nil {
		out.Notes = append(out.Notes, "no token is looked for at the gateway: claims are nobody's there")
		sent.Claims = nil
	}
	if err := decideAt(out, s, &of, peer, &port0, &sent); err != nil || !out.Allowed {
		return out, err
	}
	if own.Access != nil {
		if err := decideAt(out, s, &own, peer, &port0, &sent); err != nil || !out.Allowed {
			return out, err
		}
	}
	if own.External != nil {
		out.Notes = append(out.Notes, "then "+orNobody(own.External.Destination)+" is asked about the request")
	}
	if rule.Filters.Redirect != nil {
		out.Notes = append(out.Notes, "the route answers it with a redirect")
		return out, nil
	}
	return out, beyond(out, s, g, rule, of.JWT, q)
}

// decideAt has rules of the gateway decide.
func decideAt(out *AccessAnswer, s *mesh.Snapshot, g *policy.Guard, peer access.Peer, port *mesh.Port, q *AccessQuestion) error {
	var table *access.Table
	if g.Access != nil {
		var err error
		if table, err = access.Compile(*g.Access, s.Settings.TrustDomain); err != nil {
			return fmt.Errorf("%s: its access rules: %w", out.To, err)
		}
	}
	before := *out
	decide(out, s, g, table, peer, port, q)
	out.Audit = out.Audit || before.Audit
	if out.AuditRule == "" {
		out.AuditRule = before.AuditRule
	}
	return nil
}

// beyond asks the proxies of the services that a rule leads to.
func beyond(out *AccessAnswer, s *mesh.Snapshot, g *mesh.Gateway, rule *route.Compiled, jwt *policy.JWT, q *AccessQuestion) error {
	behind := *q
	behind.Gateway = ""
	if jwt != nil && !slices.ContainsFunc(jwt.Issuers, func(i policy.Issuer) bool { return i.Forward }) {
		behind.Claims = nil
	}
	if rule.Filters.Rewrite != nil || rule.Filters.Request != nil {
		out.Notes = append(out.Notes, "the route changes the request: services are asked about it as it came")
	}
	compile := compilerFor(s)
	passes, hidden := 0, 0
	for i := range rule.Backends {
		k, ok := plan.ParseKey(rule.Backends[i].Destination)
		svc := s.Services[k.Service]
		if !ok || svc == nil || rule.Backends[i].Weight == 0 {
			continue
		}
		if q.Within != nil && !q.Within(k.Service.Namespace) {
			hidden++
			continue
		}
		at := slices.IndexFunc(svc.Ports, func(p mesh.Port) bool { return p.Port == k.Port })
		if at < 0 {
			continue
		}
		a, err := portAccess(s, k.Service, &svc.Ports[at], access.Peer{ID: g.Identity, Address: addressOf(s, g.Identity)}, &behind, compile)
		if err != nil {
			return err
		}
		if a.Allowed {
			passes++
		}
		out.Then = append(out.Then, *a)
	}
	switch {
	case len(out.Then)+hidden == 0:
		out.Allowed, out.Reason = false, "no: the route leads to no service that there is"
	case hidden > 0:
		out.Notes = append(out.Notes, "what services of other namespaces decide then isn't yours to ask")
	case passes == 0:
		out.Allowed, out.By, out.Nearest, out.Clause = false, out.Then[0].By, out.Then[0].Nearest, out.Then[0].Clause
		out.Reason = "the gateway lets it pass, and " + out.Then[0].To + " doesn't: " + out.Then[0].Reason
	case passes < len(out.Then):
		out.Some = true
		out.Notes = append(out.Notes, fmt.Sprintf("%d of the %d services of the route let it pass", passes, len(out.Then)))
	}
	return nil
}

// outsider is who calls a gateway: nobody who is proven, perhaps from an address.
func outsider(q *AccessQuestion) (access.Peer, error) {
	p := access.Peer{ServerName: strings.ToLower(strings.TrimSuffix(q.ServerName, "."))}
	if q.From == "" {
		return p, nil
	}
	a, err := netip.ParseAddr(q.From)
	if err != nil {
		return p, fmt.Errorf("from: %q: callers of a gateway prove nothing: want an address, or nobody", q.From)
	}
	p.Address = a.Unmap()
	return p, nil
}

// edgeOf is the listener of a port; any when there is one.
func edgeOf(p *view.Proxy, g *mesh.Gateway, port string) (*view.Listener, error) {
	var have []string
	var found []*view.Listener
	for i := range p.Listeners {
		l := &p.Listeners[i]
		if l.Kind != view.Edge {
			continue
		}
		number := fmt.Sprint(l.Address.Port())
		named := slices.ContainsFunc(g.Listeners, func(x mesh.GatewayListener) bool { return x.Name == port && x.Listen == l.Address })
		if port == "" || port == number || named {
			found = append(found, l)
		}
		if !slices.Contains(have, number) {
			have = append(have, number)
		}
	}
	switch {
	case len(found) > 0 && (port != "" || len(have) == 1):
		return found[0], nil
	case len(have) == 0:
		return nil, fmt.Errorf("gateway: %s has no listener", g.Name)
	case port == "":
		return nil, fmt.Errorf("gateway: %s has several ports, say which: %s:%s", g.Name, g.Name, strings.Join(have, " or :"))
	}
	return nil, fmt.Errorf("gateway: %s has no listener %q, its ports are %s", g.Name, port, strings.Join(have, ", "))
}

// covering is the certificate that covers a name best, as the proxy chooses it.
func covering(list []view.ServerCertificate, name string) *view.ServerCertificate {
	best, length := -1, -1
	for i := range list {
		hostnames := list[i].Hostnames
		if len(hostnames) == 0 {
			hostnames = []string{"*"}
		}
		for _, h := range hostnames {
			n := -1
			switch {
			case h == name:
				n = 1 << 16
			case h == "*":
				n = 0
			case strings.HasPrefix(h, "*.") && len(name) > len(h)-1 && strings.HasSuffix(name, h[1:]):
				n = len(h)
			}
			if n > length {
				best, length = i, n
			}
		}
	}
	if best < 0 {
		return nil
	}
	return &list[best]
}

// hostOf is an authority's host, in lower case and without a final dot.
func hostOf(authority string) string {
	if h, _, err := net.SplitHostPort(authority); err == nil {
		authority = h
	}
	return strings.ToLower(strings.TrimSuffix(authority, "."))
}
