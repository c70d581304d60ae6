package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

// AccessQuestion asks whether somebody may do something.
type AccessQuestion struct {
	// From is who calls: "ACCOUNT[.NAMESPACE]", the name of a workload or service, a
	// SPIFFE id, or empty for who proves nothing.
	From string `json:"from"`
	// To is "SERVICE[.NAMESPACE][:PORT]"; the port may be left out where there is one.
	// Port "*" asks about each, as a whole; an empty To about all of all services.
	To     string `json:"to,omitempty"`
	Method string `json:"method,omitempty"`
	// Path may have a query, which isn't looked at.
	Path    string         `json:"path,omitempty"`
	Headers []Header       `json:"headers,omitempty"`
	Claims  map[string]any `json:"claims,omitempty"`
	// Gateway, "GATEWAY[.NAMESPACE][:PORT or LISTENER]", asks about a caller from
	// outside who comes through it, in place of To. From is an address or empty; Host
	// is the authority that is asked for, ServerName what TLS asked for, Host's when
	// empty.
	Gateway    string `json:"gateway,omitempty"`
	Host       string `json:"host,omitempty"`
	ServerName string `json:"server_name,omitempty"`
	// Within says of which namespaces' services may be told; nil is of all.
	Within func(namespace string) bool `json:"-"`
}

// AccessAnswer says what is decided about an AccessQuestion, by the proxies of To.
type AccessAnswer struct {
	// Caller is the identity that is meant; empty for none.
	Caller  string `json:"caller"`
	To      string `json:"to"`
	Allowed bool   `json:"allowed"`
	// Some says, of a service as a whole, that it depends on the request.
	Some bool `json:"some,omitempty"`
	// By is the rule that decided; empty is the default.
	By string `json:"by,omitempty"`
	// Nearest would have allowed it, but for Clause.
	Nearest string `json:"nearest,omitempty"`
	Clause  string `json:"clause,omitempty"`
	// Reason is all of that in a sentence.
	Reason string `json:"reason"`
	// Audit says that what is in audit would have denied it, AuditRule which.
	Audit     bool   `json:"audit,omitempty"`
	AuditRule string `json:"audit_rule,omitempty"`
	// MutualTLS is "strict", "permissive" or "off"; Plaintext says what becomes of
	// the same from a caller without a proxy: "allowed", "denied" or "refused".
	MutualTLS string `json:"mutual_tls"`
	Plaintext string `json:"plaintext"`
	// Gateway says that To is one, Route is its rule that is met, and Then what the
	// services decide that it leads to, to whom the gateway is the caller.
	Gateway bool           `json:"gateway,omitempty"`
	Route   string         `json:"route,omitempty"`
	Then    []AccessAnswer `json:"then,omitempty"`
	// Notes are what else there is to know.
	Notes []string `json:"notes,omitempty"`
}

// MutualTLS is a mode as people write it.
func MutualTLS(m mesh.MutualTLS) string {
	return [...]string{"", "strict", "permissive", "off"}[m]
}

// Access works out what the proxies of the called service decide, with the rules
// that they are told and the code that they run. The error says what is wrong with
// the question. With To empty there is an answer for each port of each service.
func Access(s *mesh.Snapshot, q AccessQuestion) ([]AccessAnswer, error) {
	if q.Gateway != "" {
		a, err := gatewayAccess(s, &q)
		if err != nil {
			return nil, err
		}
		return []AccessAnswer{*a}, nil
	}
	peer, note, err := callerOf(s, q.From)
	if err != nil {
		return nil, err
	}
	compile := compilerFor(s)
	if service, every := strings.CutSuffix(q.To, ":*"); q.To == "" || every {
		services := namesOf(s.Services)
		if every {
			n, _, err := calledService(s, service)
			if err != nil {
				return nil, err
			}
			services = []mesh.Name{n}
		}
		var out []AccessAnswer
		for _, n := range services {
			if q.Within != nil && !q.Within(n.Namespace) {
				continue
			}
			for _, p := range s.Services[n].Ports {
				a, err := portAccess(s, n, &p, peer, nil, compile)
				if err != nil {
					return nil, err
				}
				out = append(out, *a)
			}
		}
		return out, nil
	}
	n, port, err := calledPort(s, q.To)
	if err != nil {
		return nil, err
	}
	a, err := portAccess(s, n, port, peer, &q, compile)
	if err != nil {
		return nil, err
	}
	if note != "" {
		a.Notes = append([]string{note}, a.Notes...)
	}
	return []AccessAnswer{*a}, nil
}

// compiler makes the rules of a port into a table.
type compiler func(*access.Spec) (*access.Table, error)

// compilerFor makes rules that many ports share into a table once.
func compilerFor(s *mesh.Snapshot) compiler {
	tables := map[*access.Spec]*access.Table{}
	return func(spec *access.Spec) (*access.Table, error) {
		if t := tables[spec]; t != nil {
			return t, nil
		}
		t, err := access.Compile(*spec, s.Settings.TrustDomain)
		if err == nil {
			tables[spec] = t
		}
		return t, err
	}
}

// callerOf finds out who is meant.
func callerOf(s *mesh.Snapshot, from string) (p access.Peer, note string, err error) {
	if from == "" {
		return p, "", nil
	}
	if strings.HasPrefix(from, "spiffe://") {
		if p.ID, err = identity.Parse(from); err != nil {
			return p, "", fmt.Errorf("from: %w", err)
		}
		p.Address = addressOf(s, p.ID)
		return p, "", nil
	}
	name, namespace, ok := strings.Cut(from, ".")
	if !ok {
		namespace = "default"
	}
	if name == "" || namespace == "" || strings.ContainsAny(namespace, "./") || strings.Contains(name, "/") {
		return p, "", fmt.Errorf("from: %q: want ACCOUNT.NAMESPACE, a workload, a service or a SPIFFE id", from)
	}
	account := identity.ID{TrustDomain: s.Settings.TrustDomain, Namespace: namespace, ServiceAccount: name}
	n := mesh.Name{Name: name, Namespace: namespace}
	if a := addressOf(s, account); a.IsValid() || s.Gateways[n] != nil {
		return access.Peer{ID: account, Address: a}, "", nil
	}
	if w := s.Workloads[n]; w != nil {
		return access.Peer{ID: w.Identity, Address: w.Address}, fmt.Sprintf("workload %s is %s", n, w.Identity), nil
	}
	for k, set := range s.Endpoints {
		if k.Service != n {
			continue
		}
		for i := range set.Endpoints {
			if w := s.Workloads[set.Endpoints[i].Workload]; w != nil {
				return access.Peer{ID: w.Identity, Address: w.Address}, fmt.Sprintf("service %s is served as %s", n, w.Identity), nil
			}
		}
	}
	return access.Peer{ID: account}, fmt.Sprintf("no workload is %s now", account), nil
}

// addressOf is an address of a workload with that identity.
func addressOf(s *mesh.Snapshot, id identity.ID) netip.Addr {
	var out netip.Addr
	for _, w := range s.Workloads {
		if w.Identity == id && (!out.IsValid() || w.Address.Less(out)) {
			out = w.Address
		}
	}
	return out
}

func calledService(s *mesh.Snapshot, text string) (mesh.Name, *mesh.Service, error) {
	name, namespace, ok := strings.Cut(text, ".")
	if !ok {
		namespace = "default"
	}
	n := mesh.Name{Name: name, Namespace: namespace}
	svc := s.Services[n]
	if svc == nil {
		return n, nil, fmt.Errorf("to: there is no Service %s in namespace %s", name, namespace)
	}
	return n, svc, nil
}

// calledPort finds the port that is meant.
func calledPort(s *mesh.Snapshot, to string) (mesh.Name, *mesh.Port, error) {
	host, text, given := strings.Cut(to, ":")
	n, svc, err := calledService(s, host)
	if err != nil {
		return n, nil, err
	}
	var have []string
	for i := range svc.Ports {
		p := &svc.Ports[i]
		if number := strconv.Itoa(int(p.Port)); given && (text == number || text == p.Name) || !given && len(svc.Ports) == 1 {
			return n, p, nil
		}
		have = append(have, strconv.Itoa(int(p.Port)))
	}
	if !given {
		return n, nil, fmt.Errorf("to: Service %s has several ports, say which: %s:%s", n, host, strings.Join(have, " or :"))
	}
	return n, nil, fmt.Errorf("to: Service %s has no port %q, it has %s", n, text, strings.Join(have, ", "))
}

// portAccess decides about one port; q is nil for the service as a whole.
func portAccess(s *mesh.Snapshot, n mesh.Name, port *mesh.Port, peer access.Peer, q *AccessQuestion, compile compiler) (*AccessAnswer, error) {
	mode := s.MutualTLSOf(n, port.Port)
	out := &AccessAnswer{Caller: peer.ID.String(), To: portText(n, port.Port), MutualTLS: MutualTLS(mode)}
	if peer.ID.IsZero() {
		out.Caller = ""
	}
	var guard policy.Guard
	if in := s.Services[n].Inbound[port.Port]; in != nil && in.Guard != nil {
		guard = *in.Guard
	}
	var table *access.Table
	if guard.Access != nil {
		var err error
		if table, err = compile(guard.Access); err != nil {
			return nil, fmt.Errorf("%s: its access rules: %w", out.To, err)
		}
	}
	proven := peer
	if mode == mesh.MutualOff && !peer.ID.IsZero() {
		proven.ID = identity.ID{}
		out.Notes = append(out.Notes, "mutual TLS is off at this port: nobody proves who they are")
	}
	decide(out, s, &guard, table, proven, port, q)
	stranger := AccessAnswer{}
	decide(&stranger, s, &guard, table, access.Peer{Address: peer.Address}, port, q)
	switch {
	case mode == mesh.MutualStrict:
		out.Plaintext = "refused"
	case stranger.Allowed:
		out.Plaintext = "allowed"
	default:
		out.Plaintext = "denied"
	}
	if proven.ID.IsZero() && mode == mesh.MutualStrict {
		out.Allowed, out.By, out.Nearest, out.Clause = false, "", "", ""
		out.Reason = "refused: the port takes mutual TLS alone"
	}
	if !proxied(s, mesh.PortKey{Service: n, Port: port.Port}) {
		out.Notes = append(out.Notes, "no endpoint of this port has a proxy: nobody keeps to its rules")
	}
	if guard.External != nil && out.Allowed {
		out.Notes = append(out.Notes, "then "+orNobody(guard.External.Destination)+" is asked about the request")
	}
	return out, nil
}

func orNobody(s string) string {
	if s == "" {
		return "nobody who could be"
	}
	return s
}

// proxied says whether a port has endpoints with a proxy, or none at all yet.
func proxied(s *mesh.Snapshot, k mesh.PortKey) bool {
	set := s.Endpoints[k]
	if set == nil || len(set.Endpoints) == 0 {
		return true
	}
	return slices.ContainsFunc(set.Endpoints, func(e mesh.Endpoint) bool {
		w := s.Workloads[e.Workload]
		return !e.Identity.IsZero() || w != nil && slices.ContainsFunc(w.Ports, func(p mesh.WorkloadPort) bool { return p.Service == k.Service && p.Port == k.Port && p.Mesh.IsValid() })
	})
}

func decide(out *AccessAnswer, s *mesh.Snapshot, guard *policy.Guard, table *access.Table, peer access.Peer, port *mesh.Port, q *AccessQuestion) {
	if !peer.ID.IsZero() && slices.Contains(s.Settings.Denied, peer.ID.String()) {
		out.Reason = "refused: the mesh trusts this identity no more (spec.deniedIdentities)"
		return
	}
	foreign := !peer.ID.IsZero() && peer.ID.TrustDomain != s.Settings.TrustDomain
	opaque := port.Protocol == mesh.TCP
	if q != nil && guard.JWT != nil && guard.JWT.Required && q.Claims == nil && !opaque {
		out.Reason = "denied: a token is required, and there is none (401)"
		return
	}
	if table == nil && foreign { // and if the trust domain isn't federated, no rule helps
		out.Reason = "denied: no rule allows it, and the caller is of another trust domain"
		return
	}
	if table == nil {
		out.Allowed, out.Reason = true, "allowed: no rule is about it, and the default is to allow"
		return
	}
	session := table.Session(peer)
	var request *access.Request
	switch {
	case opaque:
	case q == nil:
		request = &access.Request{Method: []byte("GET"), Path: []byte("/")}
		out.Some = !session.Fixed()
	default:
		request = q.request()
	}
	r := session.Explain(request)
	out.Allowed, out.By, out.Nearest, out.Clause, out.Reason = r.Action == access.Allow, r.By, r.Nearest, r.Clause, r.String()
	out.Audit, out.AuditRule = r.Audit, table.Rule(r.AuditRule)
	if out.Some {
		out.Allowed, out.By, out.Nearest, out.Clause, out.Audit = false, "", "", "", false
		out.Reason = "it depends on the request"
	}
}

func (q *AccessQuestion) method() string { return cmp.Or(q.Method, "GET") }

func (q *AccessQuestion) path() string {
	path, _, _ := strings.Cut(cmp.Or(q.Path, "/"), "?")
	return path
}

func (q *AccessQuestion) query() string {
	_, query, _ := strings.Cut(q.Path, "?")
	return query
}

func (q *AccessQuestion) request() *access.Request {
	r := &access.Request{Method: []byte(q.method()), Path: []byte(q.path()), Authority: []byte(q.Host), Fields: headerFields(q.Headers)}
	for _, h := range q.Headers {
		if strings.EqualFold(h.Name, "host") {
			r.Authority = []byte(h.Value)
		}
	}
	if q.Claims != nil {
		r.Claims = claims(q.Claims)
	}
	return r
}

// headerFields are the header fields of a question; several of one name are one list.
type headerFields []Header

func (f headerFields) Field(name string) ([]byte, bool) {
	var values []string
	for _, h := range f {
		if strings.EqualFold(h.Name, name) {
			values = append(values, h.Value)
		}
	}
	return []byte(strings.Join(values, ", ")), len(values) > 0
}

type claims map[string]any

// Claim implements access.Claims.
func (c claims) Claim(name string, values []string) bool {
	v, ok := claim(map[string]any(c), name)
	if !ok {
		return false
	}
	if len(values) == 0 {
		return true
	}
	list, many := v.([]any)
	if !many {
		list = []any{v}
	}
	return slices.ContainsFunc(list, func(v any) bool { return slices.Contains(values, claimText(v)) })
}

func claim(in map[string]any, name string) (any, bool) {
	if v, ok := in[name]; ok {
		return v, true
	}
	for i, c := range name {
		if c != '.' {
			continue
		}
		if inner, ok := in[name[:i]].(map[string]any); ok {
			if v, ok := claim(inner, name[i+1:]); ok {
				return v, true
			}
		}
	}
	return nil, false
}

func claimText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	return fmt.Sprint(v)
}
