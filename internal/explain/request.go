package explain

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tulle.dev/tulle/internal/control/plan"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// Question is a request that somebody might send.
type Question struct {
	// From is the workload or gateway whose proxy gets it, "web" or "web.default".
	From   string `json:"from"`
	Method string `json:"method"`
	// URL is http://HOST[:PORT]/PATH[?QUERY].
	URL     string   `json:"url"`
	Headers []Header `json:"headers,omitempty"`
}

// Header is a field of a Question.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// What becomes of a request.
const (
	// Forwarded to one of Backends.
	Forwarded = "forwarded"
	// Answered by the proxy itself, with Status.
	Answered = "answered"
	// Outside the mesh: it goes where it would go without one.
	Outside = "outside"
	// Opaque: the port isn't looked at as HTTP.
	Opaque = "opaque"
)

// Answer says what becomes of a Question's request, and why.
type Answer struct {
	// Proxy is the proxy that decides, "web.default".
	Proxy string `json:"proxy"`
	// How it was found where the request goes, in sentences.
	Notes []string `json:"notes,omitempty"`
	// Service is the destination's key; empty at a gateway, which has a Listener.
	Service  string `json:"service,omitempty"`
	Listener string `json:"listener,omitempty"`
	// Host is the hostname whose rules were tried, Rule the one that is met, by Match.
	Host    string `json:"host,omitempty"`
	Rule    string `json:"rule,omitempty"`
	Section string `json:"section,omitempty"`
	Match   string `json:"match,omitempty"`
	// Missed are the matches that go before that and aren't met; More counts those
	// left out.
	Missed  []Missed `json:"missed,omitempty"`
	More    int      `json:"more,omitempty"`
	Outcome string   `json:"outcome"`
	// Status and Text are of an answer of the proxy's own.
	Status  int      `json:"status,omitempty"`
	Text    string   `json:"text,omitempty"`
	Filters []string `json:"filters,omitempty"`
	Session string   `json:"session,omitempty"`
	// Policy is what goes with the request.
	Policy   []Field   `json:"policy,omitempty"`
	Backends []Backend `json:"backends,omitempty"`
}

// Missed is a match that the request doesn't meet.
type Missed struct {
	Rule  string `json:"rule"`
	Match string `json:"match"`
	// Clause is what isn't met: path, method, header or query; Name which field.
	Clause string `json:"clause"`
	Name   string `json:"name,omitempty"`
}

// Backend is where a share of the rule's requests goes.
type Backend struct {
	// Service is the destination's key; empty for a backend that doesn't exist, whose
	// share is answered 500.
	Service string `json:"service"`
	// Share is in percent.
	Share   float64  `json:"share"`
	Filters []string `json:"filters,omitempty"`
	// Request is the request's policy where the backend has its own say (gateways);
	// Upstream goes with the endpoints, Inbound is what their own proxies keep to.
	Request   []Field    `json:"request,omitempty"`
	Upstream  []Field    `json:"upstream,omitempty"`
	Inbound   []Field    `json:"inbound,omitempty"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is one that may be asked.
type Endpoint struct {
	Address  string `json:"address"`
	Workload string `json:"workload,omitempty"`
	Zone     string `json:"zone,omitempty"`
	// Identity is who must answer; empty is plaintext to something outside the mesh.
	Identity string `json:"identity,omitempty"`
	// State is "healthy", "suspect", "unhealthy" or "draining" as the control plane
	// sees it, or what the asking proxy says.
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
}

// asker is a Question on its way.
type asker struct {
	snapshot *mesh.Snapshot
	proxy    *view.Proxy
	host     string // without the port
	port     uint16
	given    bool // the URL has the port
	request  route.Request
	answer   *Answer
}

// Ask works out what becomes of a request with what the proxy is told and the code
// that it runs. The error says what is wrong with the question.
func Ask(s *mesh.Snapshot, q Question) (*Answer, error) {
	name, err := plan.Find(s, q.From)
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	a := &asker{snapshot: s, proxy: plan.Proxy(s, name, 0), answer: &Answer{Proxy: name.String()}}
	if err := a.parse(q); err != nil {
		return nil, err
	}
	if a.proxy.Role == view.Gateway {
		err = a.atGateway()
	} else {
		err = a.fromWorkload()
	}
	return a.answer, err
}

// headers are a Question's as a route looks them up.
type headers []Header

// Field joins the values of a name's fields.
func (h headers) Field(name string) (value []byte, ok bool) {
	for _, f := range h {
		if !strings.EqualFold(f.Name, name) {
			continue
		}
		if ok {
			value = append(value, ',')
		}
		value, ok = append(value, f.Value...), true
	}
	return value, ok
}

func (a *asker) parse(q Question) error {
	u, err := url.Parse(q.URL)
	switch {
	case err != nil:
		return fmt.Errorf("url: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("url: %q: want http://HOST[:PORT]/PATH", q.URL)
	}
	a.host = strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	a.port = 80
	if u.Scheme == "https" {
		a.port = 443
	}
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("url: port %q: want 1 to 65535", text)
		}
		a.port, a.given = uint16(n), true
	}
	list := headers(q.Headers)
	authority := u.Host
	if host, ok := list.Field("host"); ok { // as with curl -H
		authority = string(host)
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	a.request = route.Request{Authority: []byte(authority), Path: []byte(path), Method: []byte(q.Method), Fields: list}
	if u.RawQuery != "" || u.ForceQuery {
		a.request.Query = []byte(u.RawQuery)
	}
	return nil
}

func (a *asker) note(format string, args ...any) {
	a.answer.Notes = append(a.answer.Notes, fmt.Sprintf(format, args...))
}

// answered ends with an answer of the proxy's own.
func (a *asker) answered(status int, text string) {
	a.answer.Outcome, a.answer.Status, a.answer.Text = Answered, status, text
}

// fromWorkload finds the service as a sidecar does: by name or address, then by port.
func (a *asker) fromWorkload() error {
	ns := a.proxy.Namespace
	h := plan.Host(a.snapshot, ns, a.host)
	if h == nil {
		a.answer.Outcome = Outside
		a.note("%s is no service of the mesh: the request goes where it would without one.", a.host)
		return nil
	}
	if a.host != h.Service {
		a.note("%s is the service %s.", a.host, h.Service)
	}
	if !slices.Contains(h.Ports, a.port) {
		if a.given || len(h.Ports) != 1 {
			a.answer.Outcome = Outside
			a.note("%s has no port %d, it has %s: the request goes where it would without a mesh.", h.Service, a.port, portList(h.Ports))
			return nil
		}
		a.note("The URL has no port and %s has no port %d: this is about its port %d.", h.Service, a.port, h.Ports[0])
		a.port = h.Ports[0]
	}
	key := h.Service + ":" + strconv.Itoa(int(a.port))
	d := plan.Destination(a.snapshot, ns, key)
	if d == nil {
		return fmt.Errorf("%s is not to be found", key) // Host has just said that it is there
	}
	a.answer.Service = key
	at, _ := plan.ParseKey(key)
	svc := a.snapshot.Services[at.Service]
	if svc.Consumers[ns] != nil || svc.ConsumerStreams[ns] != nil {
		a.note("Callers of namespace %s have routes of their own to it.", ns)
	}
	if d.Protocol == view.TCP || len(d.Streams.Hosts) > 0 && len(d.Routes.Hosts) == 0 {
		a.answer.Outcome = Opaque
		a.note("The port isn't looked at as HTTP: connections are routed as they are.")
		a.streams(d)
		return nil
	}
	if len(d.Routes.Hosts) == 0 {
		a.note("No route is for it: everything goes to its own endpoints.")
		a.answer.Outcome = Forwarded
		a.answer.Policy = sourced(Request(d.Policy), svc.Sources[a.port], "")
		a.answer.Backends = []Backend{a.backend(key, 100)}
		return nil
	}
	t, err := route.Compile(d.Routes)
	if err != nil {
		return fmt.Errorf("the routes of %s make no sense: %w", key, err)
	}
	a.match(t, func(rule *route.Compiled) []Field {
		p := rule.Policy
		if p == nil {
			p = d.Policy
		}
		return sourced(Request(p), svc.Sources[a.port], rule.Name)
	})
	return nil
}

// streams adds where connections go.
func (a *asker) streams(d *view.Destination) {
	if len(d.Streams.Hosts) == 0 {
		a.answer.Backends = []Backend{a.backend(d.Key, 100)}
		return
	}
	for _, h := range d.Streams.Hosts {
		for i := range h.Rules {
			a.note("%s: %s", strings.Join(h.Hostnames, ", "), h.Rules[i].Name)
			a.backends(&h.Rules[i])
		}
	}
}

// atGateway finds the listener by the port.
func (a *asker) atGateway() error {
	var edges []*view.Listener
	for i := range a.proxy.Listeners {
		if l := &a.proxy.Listeners[i]; l.Kind == view.Edge {
			edges = append(edges, l)
		}
	}
	i := slices.IndexFunc(edges, func(l *view.Listener) bool { return l.Address.Port() == a.port })
	if i < 0 && !a.given && len(edges) == 1 {
		i = 0
		a.note("The URL has no port: this is about the listener at port %d.", edges[0].Address.Port())
	}
	if i < 0 {
		var ports []uint16
		for _, l := range edges {
			ports = append(ports, l.Address.Port())
		}
		return fmt.Errorf("url: gateway %s has no listener at port %d, it has %s", a.answer.Proxy, a.port, portList(ports))
	}
	l := edges[i]
	a.answer.Listener = l.Name
	if l.Protocol == view.TCP {
		a.answer.Outcome = Opaque
		a.note("The listener isn't looked at as HTTP: connections are routed as they are.")
		a.streams(&view.Destination{Key: l.Destination, Streams: l.Streams})
		return nil
	}
	t, err := route.Compile(l.Routes)
	if err != nil {
		return fmt.Errorf("the routes of listener %s make no sense: %w", l.Name, err)
	}
	g := a.snapshot.Gateways[mesh.Name{Namespace: a.proxy.Namespace, Name: a.proxy.Name}]
	a.match(t, func(rule *route.Compiled) []Field {
		if rule.Policy == nil {
			return nil // the backend's: see each
		}
		var all []mesh.FieldSource
		for _, list := range g.Sources {
			all = append(all, list...)
		}
		return sourced(Request(rule.Policy), all, rule.Name)
	})
	if len(a.answer.Policy) == 0 {
		for i := range a.answer.Backends {
			b := &a.answer.Backends[i]
			if k, ok := plan.ParseKey(b.Service); ok && a.snapshot.Services[k.Service] != nil {
				svc := a.snapshot.Services[k.Service]
				b.Request = sourced(Request(svc.Request[k.Port]), svc.Sources[k.Port], "")
			}
		}
	}
	return nil
}

// match finds the rule.
func (a *asker) match(t *route.Table, policyOf func(*route.Compiled) []Field) {
	e := t.Explain(&a.request)
	out := a.answer
	out.Host, out.More = e.Host, e.More
	for _, c := range e.Candidates {
		if c.Failed != route.ClauseMet {
			out.Missed = append(out.Missed, Missed{Rule: c.Rule.Name, Match: matchAt(c.Rule, c.Match), Clause: c.Failed.String(), Name: c.Name})
		}
	}
	if e.Rule == nil {
		if e.Host == "" {
			a.note("No route has a hostname that %s meets.", a.request.Authority)
		}
		a.answered(404, "No route matches this request.")
		return
	}
	rule := e.Rule
	out.Rule, out.Section, out.Match = rule.Name, rule.Section, matchAt(rule, e.Match)
	out.Filters = Filters(&rule.Filters)
	if r := rule.Filters.Redirect; r != nil {
		a.answered(int(r.Status), "The rule redirects.")
		return
	}
	if rule.Session.Kind != policy.NoSession {
		out.Session = Session(rule.Session)
	}
	out.Policy = policyOf(rule)
	a.backends(&rule.Rule)
	switch {
	case len(out.Backends) == 0:
		a.answered(500, "The rule has no backend.")
	case !slices.ContainsFunc(out.Backends, func(b Backend) bool { return b.Service != "" && b.Share > 0 }):
		a.answered(500, "The route's backend does not exist, or has no weight.")
	default:
		out.Outcome = Forwarded
	}
}

// matchAt writes a rule's match.
func matchAt(r *route.Compiled, i int) string {
	if i < 0 || i >= len(r.Matches) {
		return "*"
	}
	return Match(&r.Matches[i])
}

func (a *asker) backends(r *route.Rule) {
	var total uint64
	for i := range r.Backends {
		total += uint64(r.Backends[i].Weight)
	}
	for i := range r.Backends {
		b := &r.Backends[i]
		share := 0.0
		if total > 0 {
			share = 100 * float64(b.Weight) / float64(total)
		}
		one := a.backend(b.Destination, share)
		one.Filters = Filters(&b.Filters)
		a.answer.Backends = append(a.answer.Backends, one)
	}
}

// backend tells of a destination's endpoints and what its policies say.
func (a *asker) backend(key string, share float64) Backend {
	out := Backend{Service: key, Share: share, Endpoints: []Endpoint{}}
	k, ok := plan.ParseKey(key)
	svc := a.snapshot.Services[k.Service]
	if !ok || svc == nil {
		return out
	}
	out.Upstream = sourced(Upstream(svc.Upstream[k.Port]), svc.Sources[k.Port], "")
	out.Inbound = sourced(append(mutualTLS(svc, k.Port), Inbound(svc.Inbound[k.Port])...), svc.Sources[k.Port], "")
	if set := a.snapshot.Endpoints[k]; set != nil {
		for i := range set.Endpoints {
			e := &set.Endpoints[i]
			one := Endpoint{Address: e.Address.String(), Zone: e.Zone, Identity: e.Identity.String(), State: health(e.Health)}
			if e.Workload.Name != "" {
				one.Workload = e.Workload.String()
			}
			out.Endpoints = append(out.Endpoints, one)
		}
		slices.SortFunc(out.Endpoints, func(x, y Endpoint) int {
			ax, _ := netip.ParseAddrPort(x.Address)
			ay, _ := netip.ParseAddrPort(y.Address)
			return ax.Compare(ay)
		})
	}
	return out
}

func health(h mesh.Health) string {
	switch h {
	case mesh.Healthy:
		return "healthy"
	case mesh.Suspect:
		return "suspect"
	case mesh.Draining:
		return "draining"
	}
	return "unhealthy"
}

// sourced says which object each value is from: the rule's own word first, then
// what holds for the whole port.
func sourced(list []Field, sources []mesh.FieldSource, rule string) []Field {
	for i := range list {
		f := &list[i]
		if f.Source != "" {
			f.Source, _, _ = strings.Cut(f.Source, "#")
			continue
		}
		for _, of := range []string{rule, ""} {
			n := slices.IndexFunc(sources, func(s mesh.FieldSource) bool { return s.Rule == of && about(s.Field, f.Name) })
			if n >= 0 {
				f.Source = sources[n].From
				break
			}
		}
	}
	return list
}

// routeFields are the fields of a route that a policy calls otherwise.
var routeFields = map[string]string{"timeouts.backendRequest": "timeouts.perTry", "retry.codes": "retry.statuses", "sessionPersistence": "session"}

// about reports whether what an object says in a field shows in a value.
func about(field, value string) bool {
	if other, ok := routeFields[field]; ok {
		field = other
	}
	return field == value || strings.HasPrefix(field, value+".") || strings.HasPrefix(value, field+".")
}

func portList(ports []uint16) string {
	var out []string
	for _, p := range slices.Sorted(slices.Values(ports)) {
		out = append(out, strconv.Itoa(int(p)))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
