package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/identity"
)

// What a rule may hold (api/v1alpha1); what is more becomes less exact.
const (
	maxOperations = 32
	maxRulePaths  = 64
	maxPolicyRule = 64
)

func (a *app) authGenerate() *cobra.Command {
	var service string
	var window time.Duration
	c := &cobra.Command{
		Use:   "generate --for SERVICE",
		Short: "Write the least AccessPolicy for a service from what was observed",
		Long: `Writes an AccessPolicy that allows what was seen and nothing else: who called, with
which methods, which paths (their first two parts), within the window. Methods and paths are
what the service's proxies remember, so none is from before they started; the counts of
those are since then. Comments say what each rule was seen from, and since when. It is
for review: what is done seldom may be missing, and callers who prove nothing can't be in
a rule.`,
		Example: `  tulle auth generate --for payment > payment-access.yaml
  tulle auth test access-cases.yaml -f payment-access.yaml -f services.yaml
  tulle apply -f payment-access.yaml       # with mode: Audit first, if you like`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			seen, err := a.observe(ctx, conn, a.qualified(service), window)
			if err != nil {
				return err
			}
			return a.writePolicy(seen)
		},
	}
	c.Flags().StringVar(&service, "for", "", "`SERVICE` to write a policy for")
	c.Flags().DurationVarP(&window, "window", "w", 24*time.Hour, "how far back to look")
	_ = c.MarkFlagRequired("for")
	_ = c.RegisterFlagCompletionFunc("for", a.completeServices)
	a.namespaceFlag(c)
	return c
}

// observation is what was seen of a service.
type observation struct {
	name, namespace string
	domain          string
	ports           []uint16
	callers         []*observedCaller
	window          string
	unproven        float64  // requests from callers without an identity
	unnamed         float64  // requests from callers whom the metrics count together
	addresses       []string // of some of those
	silent          []string // proxies that couldn't be asked
	// short are proxies that remember less than the window, and why.
	short []string
}

type observedCaller struct {
	id       identity.ID
	requests float64
	// asked is what it did, by port; empty where only that it called is known.
	asked []observedRequest
}

type observedRequest struct {
	port         uint16
	method, path string
	requests     uint64
}

// observedDump is what a proxy tells of who asked its program for what.
type observedDump struct {
	Callers []struct {
		Service, Peer, Method, Path string
		Requests, Denied            uint64
		// Ago is missing from proxies that don't know it.
		Ago *int64 `json:"seconds_ago"`
	} `json:"callers"`
	// Started is zero from proxies that don't tell; Time is their clock.
	Started, Time time.Time
}

func (a *app) observe(ctx context.Context, conn *client.Client, service string, window time.Duration) (*observation, error) {
	out := &observation{}
	out.name, out.namespace, _ = strings.Cut(service, ".")
	status, err := conn.Status(ctx)
	if err != nil {
		return nil, advise(err)
	}
	out.domain = status.TrustDomain
	endpoints, err := conn.Endpoints(ctx, service)
	if err != nil {
		return nil, advise(err)
	}
	adoption, err := conn.Adoption(ctx, window)
	if err != nil {
		return nil, advise(err)
	}
	out.window = adoption.Window
	callers := map[identity.ID]*observedCaller{}
	at := func(id identity.ID) *observedCaller {
		if callers[id] == nil {
			callers[id] = &observedCaller{id: id}
		}
		return callers[id]
	}
	for i := range adoption.Ports {
		p := &adoption.Ports[i]
		port, ok := strings.CutPrefix(p.Service, service+":")
		if !ok {
			continue
		}
		number, _ := strconv.ParseUint(port, 10, 16)
		for _, c := range p.Callers {
			id, ok := out.peer(c.Peer)
			switch {
			case !ok && c.Peer == "":
				out.unproven += c.Requests
				continue
			case !ok: // past the bound of the metrics' labels
				out.unnamed += c.Requests
				continue
			}
			at(id).requests += c.Requests
			at(id).asked = append(at(id).asked, observedRequest{port: uint16(number)})
		}
	}
	asked := map[string]bool{}
	details := map[identity.ID][]observedRequest{}
	for _, p := range endpoints.Ports {
		out.ports = append(out.ports, p.Port)
		for _, e := range p.Endpoints {
			name, namespace, ok := strings.Cut(e.Workload, ".")
			if !ok || asked[e.Workload] {
				continue
			}
			asked[e.Workload] = true
			if a.observeProxy(ctx, conn, out, namespace, name, service, window, details) != nil {
				out.silent = append(out.silent, e.Workload)
			}
			out.addresses = append(out.addresses, plaintextClients(ctx, conn, namespace, name)...)
		}
	}
	for id, list := range details {
		at(id).asked = list
		var sum uint64
		for i := range list {
			sum += list[i].requests
		}
		at(id).requests = max(at(id).requests, float64(sum))
	}
	for _, c := range callers {
		out.callers = append(out.callers, c)
	}
	slices.SortFunc(out.callers, func(x, y *observedCaller) int { return cmp.Compare(x.id.String(), y.id.String()) })
	slices.Sort(out.addresses)
	out.addresses = slices.Compact(out.addresses)
	return out, nil
}

func (a *app) observeProxy(ctx context.Context, conn *client.Client, out *observation, namespace, name, service string, window time.Duration, into map[identity.ID][]observedRequest) error {
	data, err := conn.ProxyDump(ctx, namespace, name)
	if err != nil {
		return err
	}
	var dump observedDump
	if err := json.Unmarshal(data, &dump); err != nil {
		return err
	}
	switch up := dump.Time.Sub(dump.Started); {
	case dump.Started.IsZero():
		out.short = append(out.short, fmt.Sprintf("of %s.%s doesn't say when: what it saw is since it started", name, namespace))
	case up < window:
		out.short = append(out.short, fmt.Sprintf("of %s.%s remembers %s, since it started", name, namespace, up.Round(time.Second)))
	}
	for _, c := range dump.Callers {
		port, ok := strings.CutPrefix(c.Service, service+":")
		if !ok || c.Requests <= c.Denied || c.Ago != nil && (*c.Ago < 0 || time.Duration(*c.Ago)*time.Second > window) {
			continue
		}
		number, _ := strconv.ParseUint(port, 10, 16)
		id, err := identity.Parse(c.Peer)
		if err != nil {
			continue // nobody that a rule could name; counted above
		}
		r := observedRequest{uint16(number), c.Method, c.Path, c.Requests - c.Denied}
		list := into[id]
		if i := slices.IndexFunc(list, func(o observedRequest) bool { return o.port == r.port && o.method == r.method && o.path == r.path }); i >= 0 {
			list[i].requests += r.requests
		} else {
			into[id] = append(list, r)
		}
	}
	return nil
}

// peer reads a metric's peer, ACCOUNT.NAMESPACE[@TRUST-DOMAIN].
func (o *observation) peer(text string) (identity.ID, bool) {
	who, domain, foreign := strings.Cut(text, "@")
	if !foreign {
		domain = o.domain
	}
	i := strings.LastIndexByte(who, '.')
	if i <= 0 || i == len(who)-1 {
		return identity.ID{}, false // "", "other"
	}
	return identity.ID{TrustDomain: identity.TrustDomain(domain), ServiceAccount: who[:i], Namespace: who[i+1:]}, true
}

// plaintextClients are addresses from which connections without TLS are open now.
func plaintextClients(ctx context.Context, conn *client.Client, namespace, name string) []string {
	data, err := conn.ProxyConnections(ctx, namespace, name)
	if err != nil {
		return nil
	}
	type connection struct{ Peer, Direction, Identity string }
	var dump struct {
		HTTP []connection `json:"http"`
		TCP  []connection `json:"tcp"`
	}
	if json.Unmarshal(data, &dump) != nil {
		return nil
	}
	var out []string
	for _, c := range slices.Concat(dump.HTTP, dump.TCP) {
		if a, err := netip.ParseAddrPort(c.Peer); err == nil && c.Direction == "inbound" && c.Identity == "" {
			out = append(out, a.Addr().String())
		}
	}
	return out
}

func (a *app) writePolicy(o *observation) error {
	service := o.name + "." + o.namespace
	if len(o.callers) == 0 {
		hint := "let its callers call it, and ask again"
		if o.unproven > 0 {
			hint = "put its callers into the mesh first (tulle run): who proves nothing can't be in a rule"
		}
		return wrong(hint, "no caller of %s with an identity was seen in the last %s", service, o.window)
	}
	w := func(format string, args ...any) { fmt.Fprintf(a.Out, format+"\n", args...) }
	w("# What was seen of %s in the last %s, and nothing else. What is done seldom", service, o.window)
	w("# may be missing: look it over. The counts are since the proxies started.")
	for _, p := range o.short {
		w("# The proxy %s.", p)
	}
	for _, p := range o.silent {
		w("# The proxy of %s couldn't be asked for methods and paths.", p)
	}
	w("apiVersion: tulle.dev/v1alpha1\nkind: AccessPolicy\nmetadata:\n  name: %s\n  namespace: %s", o.name, o.namespace)
	w("spec:\n  targetRefs:\n  - kind: Service\n    name: %s\n  action: Allow\n  rules:", o.name)
	if len(o.callers) > maxPolicyRule {
		w("  # %d more callers than a policy has rules: write a second one for them", len(o.callers)-maxPolicyRule)
		o.callers = o.callers[:maxPolicyRule]
	}
	for _, c := range o.callers {
		o.writeRule(w, c)
	}
	if o.unnamed > 0 {
		w("# %.0f requests came from more callers than the metrics tell apart.", o.unnamed)
	}
	if o.unproven > 0 {
		w("# Without an identity, so in no rule, and denied by this policy: %.0f requests over", o.unproven)
		w("# plaintext%s. tulle adopt status says more.", from(o.addresses))
	}
	return nil
}

func from(addresses []string) string {
	if len(addresses) == 0 {
		return ""
	}
	return ", connections from " + limited(addresses)
}

// limited lists a few.
func limited(list []string) string {
	const most = 5
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

func (o *observation) writeRule(w func(string, ...any), c *observedCaller) {
	who := "identities: [" + strconv.Quote(c.id.String()) + "]"
	if string(c.id.TrustDomain) == o.domain {
		who = "callers: [" + c.id.ServiceAccount + "." + c.id.Namespace + "]"
	}
	var seen []string
	for _, r := range c.asked {
		if r.method != "" {
			seen = append(seen, fmt.Sprintf("%s %s (%d)", r.method, r.path, r.requests))
		}
	}
	text := "its methods and paths weren't seen"
	if len(seen) > 0 {
		slices.Sort(seen)
		text = limited(seen)
	}
	w("  # %.0f requests: %s", c.requests, strings.Map(printable, text))
	w("  - from:\n    - %s", who)
	operations := o.operations(c.asked)
	if len(operations) == 0 {
		return
	}
	w("    to:")
	for _, x := range operations {
		var lines []string
		if len(x.methods) > 0 {
			lines = append(lines, "methods: ["+strings.Join(x.methods, ", ")+"]")
		}
		if len(x.paths) > 0 {
			lines = append(lines, "paths:")
			for _, p := range x.paths {
				lines = append(lines, "- {type: PathPrefix, value: "+strconv.Quote(p)+"}")
			}
		}
		if x.port != 0 {
			lines = append(lines, fmt.Sprintf("ports: [%d]", x.port))
		}
		w("    - %s", strings.Join(lines, "\n      "))
	}
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}

// observedOperation is some paths of a port with the same methods.
type observedOperation struct {
	port    uint16
	methods []string
	paths   []string
}

// operations make the least of what was asked. Nothing is anything, at any port.
func (o *observation) operations(asked []observedRequest) []observedOperation {
	type place struct {
		port uint16
		path string
	}
	methods := map[place][]string{}
	for _, r := range asked {
		p := place{port: r.port, path: plainPrefix(r.path)}
		if len(o.ports) < 2 {
			p.port = 0
		}
		switch have := methods[p]; {
		case r.method == "" || r.method == "*":
			methods[p] = []string{}
		case have == nil:
			methods[p] = []string{r.method}
		case len(have) > 0 && !slices.Contains(have, r.method):
			methods[p] = append(have, r.method)
		}
	}
	group := map[string]*observedOperation{}
	var out []*observedOperation
	for p, list := range methods {
		slices.Sort(list)
		key := fmt.Sprint(p.port, list, p.path == "")
		if group[key] == nil {
			group[key] = &observedOperation{port: p.port, methods: list}
			out = append(out, group[key])
		}
		if p.path != "" {
			group[key].paths = append(group[key].paths, p.path)
		}
	}
	var final []observedOperation
	for _, x := range out {
		slices.Sort(x.paths)
		if len(x.paths) > maxRulePaths {
			x.paths = []string{"/"}
		}
		if x.port == 0 && len(x.methods) == 0 && len(x.paths) == 0 {
			return nil
		}
		final = append(final, *x)
	}
	slices.SortFunc(final, func(x, y observedOperation) int {
		return cmp.Or(cmp.Compare(x.port, y.port), slices.Compare(x.paths, y.paths), slices.Compare(x.methods, y.methods))
	})
	if len(final) > maxOperations {
		return nil
	}
	return final
}

// plainPrefix is the path that a rule names: without parts that are many, "" for
// any.
func plainPrefix(path string) string {
	if path == "" || path == "*" {
		return ""
	}
	if i := strings.IndexByte(path, '*'); i >= 0 {
		path = path[:i]
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	_, err := access.Compile(access.Spec{Rules: []access.Rule{{To: []access.Operation{{Paths: []access.Path{{Kind: access.PathPrefix, Value: path}}}}}}}, "")
	if path == "" || err != nil {
		return "/"
	}
	return path
}
