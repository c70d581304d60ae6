package explain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tulle.dev/tulle/internal/control/plan"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
)

// Bounds of what is compared and told.
const (
	maxProbes  = 2000 // requests tried with one pair of tables
	maxChanges = 500  // of each kind
)

// Effect is what a change of objects does to requests.
type Effect struct {
	// Routes are requests that go elsewhere, one for each match that tells them
	// apart.
	Routes []RouteChange `json:"routes,omitempty"`
	// Policies are values that change.
	Policies []PolicyChange `json:"policies,omitempty"`
	// Endpoints are service ports whose endpoints change.
	Endpoints []EndpointChange `json:"endpoints,omitempty"`
	// More counts what there was no room for.
	More int `json:"more,omitempty"`
}

// None reports whether nothing changes.
func (e *Effect) None() bool { return len(e.Routes)+len(e.Policies)+len(e.Endpoints)+e.More == 0 }

// RouteChange is a request that goes elsewhere.
type RouteChange struct {
	// At is the service port, "cart.default:8080", or the gateway and its listener.
	At string `json:"at"`
	// Callers is the namespace whose callers it is about; empty is all that have no
	// routes of their own.
	Callers string `json:"callers,omitempty"`
	// Request is an example, "GET cart.default/items x-user=7".
	Request string `json:"request"`
	Before  string `json:"before"`
	After   string `json:"after"`
}

// PolicyChange is a value of an effective policy that changes.
type PolicyChange struct {
	At string `json:"at"`
	// Rule is the rule whose requests it is about; empty is all without one of their
	// own.
	Rule   string `json:"rule,omitempty"`
	Field  string `json:"field"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// EndpointChange is a service port that is served elsewhere.
type EndpointChange struct {
	At      string   `json:"at"`
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
}

// differ compares two snapshots.
type differ struct {
	before, after *mesh.Snapshot
	effect        *Effect
	policies      map[PolicyChange]bool
}

// Diff compares what two versions of the mesh do with requests: it tries a request
// for each match of both, and one that meets none.
func Diff(before, after *mesh.Snapshot) (*Effect, error) {
	d := &differ{before, after, &Effect{}, map[PolicyChange]bool{}}
	for _, k := range portsOf(before, after) {
		if err := d.service(k); err != nil {
			return nil, err
		}
	}
	for _, n := range namesOf(before.Gateways, after.Gateways) {
		if err := d.gateway(n); err != nil {
			return nil, err
		}
	}
	d.egress()
	return d.effect, nil
}

// egress compares where outside the mesh may be called.
func (d *differ) egress() {
	spaces := map[string]bool{}
	for _, s := range []*mesh.Snapshot{d.before, d.after} {
		for ns := range s.Egress {
			spaces[ns] = true
		}
	}
	of := func(s *mesh.Snapshot, ns string) []Field {
		e := cmp.Or(s.Egress[ns], s.Egress[""])
		if e == nil {
			return []Field{{Name: "other", Value: "allowed"}}
		}
		out := Egress(&policy.Egress{Allow: e.Allow, Audit: e.Audit})
		for i := range e.Destinations {
			d := &e.Destinations[i]
			one := Egress(&policy.Egress{Destinations: []policy.EgressDestination{d.EgressDestination}})[1]
			for _, c := range d.Callers {
				one.Value += ", from " + c
			}
			out = append(out, one)
		}
		return out
	}
	for _, ns := range sortedKeys(spaces) {
		at := PolicyChange{At: "egress of namespace " + ns}
		if ns == "" {
			at.At = "egress of all other namespaces"
		}
		d.fields(at, of(d.before, ns), of(d.after, ns))
	}
}

func namesOf[T any](maps ...map[mesh.Name]T) []mesh.Name {
	seen := map[mesh.Name]bool{}
	for _, m := range maps {
		for n := range m {
			seen[n] = true
		}
	}
	return sorted(seen)
}

func portText(n mesh.Name, port uint16) string { return plan.Key(mesh.PortKey{Service: n, Port: port}) }

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

func sorted(m map[mesh.Name]bool) []mesh.Name {
	return slices.SortedFunc(maps.Keys(m), func(a, b mesh.Name) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// portsOf are the service ports of any of the snapshots.
func portsOf(snapshots ...*mesh.Snapshot) []mesh.PortKey {
	var out []mesh.PortKey
	for _, n := range namesOf(snapshots[0].Services, snapshots[1].Services) {
		var ports []uint16
		for _, s := range snapshots {
			if svc := s.Services[n]; svc != nil {
				for _, p := range svc.Ports {
					ports = append(ports, p.Port)
				}
			}
		}
		slices.Sort(ports)
		for _, p := range slices.Compact(ports) {
			out = append(out, mesh.PortKey{Service: n, Port: p})
		}
	}
	return out
}

// side is one version of what a request may meet.
type side struct {
	there bool
	spec  *route.Spec // nil: everything goes to own
	table *route.Table
	own   string
	// request goes with requests whose rule says nothing.
	request *policy.Request
}

func (s *side) compile() (err error) {
	if s.spec != nil {
		s.table, err = route.Compile(*s.spec)
	}
	return err
}

func (d *differ) service(k mesh.PortKey) error {
	key := plan.Key(k)
	was, is := d.before.Services[k.Service], d.after.Services[k.Service]
	spaces := map[string]bool{"": true}
	for _, svc := range []*mesh.Service{was, is} {
		if svc != nil {
			for ns := range svc.Consumers {
				spaces[ns] = true
			}
			for ns := range svc.ConsumerStreams {
				spaces[ns] = true
			}
		}
	}
	if has(was, k.Port) && has(is, k.Port) {
		at := PolicyChange{At: key}
		d.fields(at, Request(was.Request[k.Port]), Request(is.Request[k.Port]))
		d.fields(at, Upstream(was.Upstream[k.Port]), Upstream(is.Upstream[k.Port]))
		d.fields(at, Inbound(was.Inbound[k.Port]), Inbound(is.Inbound[k.Port]))
		tls := func(s *mesh.Snapshot) []Field {
			return []Field{{Name: "mutualTLS", Value: MutualTLS(s.MutualTLSOf(k.Service, k.Port))}}
		}
		d.fields(at, tls(d.before), tls(d.after))
	}
	for _, ns := range sortedKeys(spaces) {
		x, xs := sideOf(was, ns, k.Port, key)
		y, ys := sideOf(is, ns, k.Port, key)
		at := RouteChange{At: key, Callers: ns}
		if err := d.compare(at, &x, &y, k.Service.String()); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		d.streams(at, xs, ys)
	}
	d.endpoints(k, key)
	return nil
}

func has(svc *mesh.Service, port uint16) bool {
	return svc != nil && slices.ContainsFunc(svc.Ports, func(p mesh.Port) bool { return p.Port == port })
}

// sideOf is a service port as the callers of a namespace see it.
func sideOf(svc *mesh.Service, ns string, port uint16, key string) (side, *route.Spec) {
	if !has(svc, port) {
		return side{}, nil
	}
	routes, streams := svc.RoutesFor(ns, port)
	return side{there: true, spec: routes, own: key, request: svc.Request[port]}, streams
}

func (d *differ) gateway(n mesh.Name) error {
	type place struct {
		name string
		port uint16
	}
	find := func(s *mesh.Snapshot) map[place]*mesh.GatewayListener {
		out := map[place]*mesh.GatewayListener{}
		if g := s.Gateways[n]; g != nil {
			for i := range g.Listeners {
				l := &g.Listeners[i]
				out[place{l.Name, l.Listen.Port()}] = l
			}
		}
		return out
	}
	was, is := find(d.before), find(d.after)
	all := maps.Clone(was)
	maps.Copy(all, is)
	places := slices.SortedFunc(maps.Keys(all), func(a, b place) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.port, b.port))
	})
	for _, p := range places {
		x, xs := gatewaySide(was[p])
		y, ys := gatewaySide(is[p])
		at := RouteChange{At: fmt.Sprintf("gateway %s, %s:%d", n, p.name, p.port)}
		if err := d.compare(at, &x, &y, "any.example"); err != nil {
			return fmt.Errorf("%s: %w", at.At, err)
		}
		if was[p] != nil && is[p] != nil {
			d.fields(PolicyChange{At: at.At}, Inbound(was[p].Inbound), Inbound(is[p].Inbound))
		}
		d.streams(at, xs, ys)
	}
	return nil
}

func gatewaySide(l *mesh.GatewayListener) (side, *route.Spec) {
	if l == nil {
		return side{}, nil
	}
	if l.TCP {
		return side{there: true}, &l.Streams
	}
	return side{there: true, spec: &l.Routes}, nil
}

// compare tries requests with both sides.
func (d *differ) compare(at RouteChange, x, y *side, host string) error {
	if err := cmp.Or(x.compile(), y.compile()); err != nil {
		return err
	}
	probes := newProbes(host)
	for _, s := range []*side{x, y} {
		if s.spec != nil {
			probes.add(s.spec)
		}
	}
	probes.miss()
	d.effect.More += probes.more
	for _, p := range probes.list {
		before, after := x.outcome(&p), y.outcome(&p)
		if before.text() != after.text() {
			last := at
			at.Request, at.Before, at.After = p.text, before.told(), after.told()
			switch {
			case p.again && last.Before == at.Before && last.After == at.After:
			case len(d.effect.Routes) < maxChanges:
				d.effect.Routes = append(d.effect.Routes, at)
			default:
				d.effect.More++
			}
		}
		// A service's first route has policies of its own too, and its last one had.
		if rule := cmp.Or(after.rule, before.rule); rule != nil && before.forwarded && after.forwarded {
			d.fields(PolicyChange{At: at.At, Rule: rule.Name}, Request(before.policy), Request(after.policy))
		}
	}
	return nil
}

// outcome is what becomes of a probe.
type outcome struct {
	rule *route.Compiled
	to   string
	// forwarded is whether somebody takes it, by policy.
	forwarded bool
	policy    *policy.Request
}

func (s *side) outcome(p *probe) outcome {
	switch {
	case !s.there:
		return outcome{to: "not in the mesh"}
	case s.table == nil && s.own == "":
		return outcome{to: "404"}
	case s.table == nil:
		return outcome{to: s.own + " 100%", forwarded: true, policy: s.request}
	}
	rule, _ := s.table.Match(&p.request)
	if rule == nil {
		return outcome{to: "404, no rule"}
	}
	out := outcome{rule: rule, to: Destinations(&rule.Rule), forwarded: true, policy: rule.Policy}
	if out.policy == nil {
		out.policy = s.request
	}
	return out
}

// text is what matters; told adds which rule it is by, whose number may change
// without any effect.
func (o *outcome) text() string { return o.to }

func (o *outcome) told() string {
	if o.rule == nil {
		return o.to
	}
	return o.to + " (" + o.rule.Name + ")"
}

// Destinations says where a rule sends requests and what it does to them, such as
// "cart.default:8080 90%, cart-v2.default:8080 10%; rewrite path /x".
func Destinations(r *route.Rule) string {
	var total uint64
	for i := range r.Backends {
		total += uint64(r.Backends[i].Weight)
	}
	var parts []string
	for i := range r.Backends {
		b := &r.Backends[i]
		if b.Weight == 0 && total > 0 {
			continue
		}
		to := b.Destination
		if to == "" {
			to = "500, no such backend"
		}
		if total > 0 {
			to += " " + percent(float64(b.Weight)/float64(total))
		}
		if f := Filters(&b.Filters); len(f) > 0 {
			to += " [" + strings.Join(f, "; ") + "]"
		}
		parts = append(parts, to)
	}
	out := strings.Join(parts, ", ")
	if r.Filters.Redirect != nil {
		out = ""
	} else if total == 0 {
		out = "500, no backend"
	}
	var does []string
	if out != "" {
		does = append(does, out)
	}
	does = append(does, Filters(&r.Filters)...)
	if r.Session.Kind != policy.NoSession {
		does = append(does, "session "+Session(r.Session))
	}
	if r.Timeout > 0 && r.Policy == nil {
		does = append(does, "timeout "+Duration(r.Timeout))
	}
	return strings.Join(does, "; ")
}

func percent(share float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(share*100, 'f', 2, 64), "0"), ".") + "%"
}

// fields notes which values differ.
func (d *differ) fields(at PolicyChange, before, after []Field) {
	find := func(list []Field, name string) string {
		for _, f := range list {
			if f.Name == name {
				if f.Source != "" {
					return f.Value + " (" + f.Source + ")"
				}
				return f.Value
			}
		}
		return ""
	}
	names := map[string]bool{}
	for _, f := range append(slices.Clone(before), after...) {
		names[f.Name] = true
	}
	for _, name := range sortedKeys(names) {
		c := at
		c.Field, c.Before, c.After = name, find(before, name), find(after, name)
		if c.Before == c.After || d.policies[c] {
			continue
		}
		// What holds for all of the port is told once, not for each rule.
		whole := c
		if whole.Rule = ""; c.Rule != "" && d.policies[whole] {
			continue
		}
		d.policies[c] = true
		if len(d.effect.Policies) < maxChanges {
			d.effect.Policies = append(d.effect.Policies, c)
		} else {
			d.effect.More++
		}
	}
}

// streams compares where connections go that aren't HTTP.
func (d *differ) streams(at RouteChange, before, after *route.Spec) {
	list := func(spec *route.Spec) map[string]string {
		out := map[string]string{}
		if spec == nil {
			return out
		}
		for _, h := range spec.Hosts {
			to := "refused"
			if len(h.Rules) > 0 {
				to = Destinations(&h.Rules[0])
			}
			for _, name := range h.Hostnames {
				if _, ok := out[name]; !ok {
					out[name] = to
				}
			}
		}
		return out
	}
	x, y := list(before), list(after)
	all := maps.Clone(x)
	maps.Copy(all, y)
	for _, name := range sortedKeys(all) {
		if x[name] == y[name] {
			continue
		}
		at.Request = "connections for " + name
		at.Before, at.After = orNothing(x[name]), orNothing(y[name])
		d.effect.Routes = append(d.effect.Routes, at)
	}
}

func orNothing(s string) string {
	if s == "" {
		return "no route"
	}
	return s
}

// endpoints compares where a service port is served.
func (d *differ) endpoints(k mesh.PortKey, key string) {
	list := func(s *mesh.Snapshot) []string {
		var out []string
		if set := s.Endpoints[k]; set != nil {
			for i := range set.Endpoints {
				out = append(out, set.Endpoints[i].Address.String())
			}
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	x, y := list(d.before), list(d.after)
	missing := func(of, in []string) (out []string) {
		for _, s := range of {
			if _, found := slices.BinarySearch(in, s); !found {
				out = append(out, s)
			}
		}
		return out
	}
	c := EndpointChange{At: key, Added: missing(y, x), Removed: missing(x, y)}
	if len(c.Added)+len(c.Removed) > 0 {
		d.effect.Endpoints = append(d.effect.Endpoints, c)
	}
}
