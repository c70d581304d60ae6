package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/explain"
	"tulle.dev/tulle/internal/telemetry"
)

func (a *app) adoptCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "adopt",
		Short: "Bring services to mutual TLS and access rules, one by one",
		Example: `  tulle adopt status
  tulle adopt strict cart`,
	}
	c.AddCommand(a.adoptStatus(), a.adoptStrict())
	return c
}

// adoption is how far one service port has come.
type adoption struct {
	Service string `json:"service"`
	Mode    string `json:"mutual_tls"`
	// Requests counts requests, and opaque connections, of the window. The shares
	// are 0 to 1, null without traffic.
	Requests      float64  `json:"requests"`
	Encrypted     *float64 `json:"encrypted"`
	Authenticated *float64 `json:"authenticated"`
	// Authorised by a rule; ByDefault because no rule decided; Denied.
	Authorised *float64 `json:"authorised"`
	ByDefault  *float64 `json:"allowed_by_default"`
	Denied     *float64 `json:"denied"`
	// AuditDenied were let in, and would be denied by what is in audit.
	AuditDenied float64 `json:"audit_denied"`
	// WouldBreak are requests over plaintext, which a strict port doesn't take, and
	// From addresses of such callers that are connected now.
	WouldBreak float64  `json:"would_break"`
	From       []string `json:"would_break_from,omitempty"`
	// Refused are connections without TLS that a strict port has refused.
	Refused float64 `json:"plaintext_refused"`
	// Next is the next rung of the ladder.
	Next string `json:"next"`
}

func (a *app) adoptStatus() *cobra.Command {
	var window time.Duration
	c := &cobra.Command{
		Use:   "status [SERVICE...]",
		Short: "Show what share of each service's traffic is encrypted, authenticated, authorised",
		Long: `Shows of each service port what its proxies take (strict, permissive, off) and, of the
window's requests, how many arrived over mutual TLS (encrypted), from a caller who proved
who it is (authenticated) and were let in by an access rule (authorised; the rest by the
default). WOULD BREAK counts requests over plaintext: their callers are cut off when the
port turns strict. NEXT is the next step.`,
		Example: `  tulle adopt status
  tulle adopt status cart --window 24h -o json | jq '.[] | select(.would_break > 0)'`,
		ValidArgsFunction: a.completeServices,
	}
	c.Flags().DurationVarP(&window, "window", "w", 10*time.Minute, "how far back to look")
	a.namespaceFlag(c)
	ask := func(q *question) ([]adoption, error) { return a.adoption(q.ctx, q.conn, window, q.args) }
	return asks(a, c, ask, func(_ *question, list []adoption) error {
		a.printAdoption(list)
		return nil
	}, formatJSON, formatYAML)
}

// adoption asks how far the ports of services have come, of all without names.
func (a *app) adoption(ctx context.Context, conn *client.Client, window time.Duration, services []string) ([]adoption, error) {
	ports, err := conn.Access(ctx, explain.AccessQuestion{})
	if err != nil {
		return nil, advise(err)
	}
	figures, err := conn.Adoption(ctx, window)
	if err != nil {
		return nil, advise(err)
	}
	list := []adoption{}
	for i := range ports {
		p := &ports[i]
		name, _, _ := strings.Cut(p.To, ":")
		if len(services) > 0 && !slices.ContainsFunc(services, func(s string) bool { return a.qualified(s) == name }) {
			continue
		}
		x := adoptionOf(p, figures)
		if x.WouldBreak > 0 {
			x.From = a.plaintextCallers(ctx, conn, name)
		}
		x.Next = x.next(p)
		list = append(list, x)
	}
	for _, s := range services {
		if !slices.ContainsFunc(list, func(x adoption) bool { return strings.HasPrefix(x.Service, a.qualified(s)+":") }) {
			return nil, wrong("`tulle get services -A` lists them", "there is no Service %s with a port", a.qualified(s))
		}
	}
	return list, nil
}

func adoptionOf(p *explain.AccessAnswer, figures *telemetry.Adoption) adoption {
	x := adoption{Service: p.To, Mode: p.MutualTLS}
	i := slices.IndexFunc(figures.Ports, func(f telemetry.AdoptionPort) bool { return f.Service == p.To })
	if i < 0 {
		return x
	}
	f := &figures.Ports[i]
	share := func(part, of float64) *float64 {
		if of <= 0 {
			return nil
		}
		v := min(part/of, 1)
		return &v
	}
	x.Requests, x.Refused, x.AuditDenied = f.Requests, f.Refused, f.Audit
	x.Encrypted, x.Authenticated = share(f.Mutual, f.Requests), share(f.Known, f.Requests)
	// Where there are no rules nothing is decided, and all of it is by default.
	decided := max(f.Allowed+f.ByDefault+f.Denied, f.Requests)
	x.Authorised, x.Denied, x.ByDefault = share(f.Allowed, decided), share(f.Denied, decided), share(decided-f.Allowed-f.Denied, decided)
	for _, c := range f.Callers {
		if c.TLS == "none" {
			x.WouldBreak += c.Requests
		}
	}
	return x
}

// next is the next rung: traffic, encryption, strictness, rules.
func (x *adoption) next(p *explain.AccessAnswer) string {
	service, _, _ := strings.Cut(x.Service, ":")
	switch {
	case slices.ContainsFunc(p.Notes, func(n string) bool { return strings.HasPrefix(n, "no endpoint") }):
		return "give it a proxy: tulle run --service " + service
	case x.Mode == "off":
		return "let it speak mutual TLS: mutualTLS: Permissive"
	case x.Requests == 0 && x.Mode != "strict":
		return "wait for traffic, or look further back: --window"
	case x.WouldBreak > 0 && x.Mode != "strict":
		return "bring its plaintext callers into the mesh"
	case x.Mode != "strict":
		return "tulle adopt strict " + service
	case x.AuditDenied > 0:
		return "look at what the rules in audit would deny"
	case x.ByDefault != nil && *x.ByDefault > 0:
		return "tulle auth generate --for " + service
	case x.Requests == 0:
		return "wait for traffic, or look further back: --window"
	}
	return "-"
}

// plaintextCallers are the addresses of callers without TLS that are connected now.
func (a *app) plaintextCallers(ctx context.Context, conn *client.Client, service string) []string {
	endpoints, err := conn.Endpoints(ctx, service)
	if err != nil {
		return nil
	}
	var out []string
	asked := map[string]bool{}
	for _, p := range endpoints.Ports {
		for _, e := range p.Endpoints {
			if name, namespace, ok := strings.Cut(e.Workload, "."); ok && !asked[e.Workload] {
				asked[e.Workload] = true
				out = append(out, plaintextClients(ctx, conn, namespace, name)...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (a *app) printAdoption(list []adoption) {
	slices.SortStableFunc(list, func(x, y adoption) int { return cmp.Compare(x.Service, y.Service) })
	t := newTable("SERVICE", "MUTUAL_TLS", "REQUESTS", "ENCRYPTED", "AUTHENTICATED", "AUTHORISED", "WOULD_BREAK", "NEXT")
	for _, x := range list {
		breaks := "-"
		if x.WouldBreak > 0 {
			breaks = a.paint.warn(fmt.Sprintf("%.0f", x.WouldBreak))
		}
		t.row(x.Service, x.Mode, fmt.Sprintf("%.0f", x.Requests), portion(x.Encrypted), portion(x.Authenticated), portion(x.Authorised), breaks, x.Next)
	}
	t.write(a.Out)
	for _, x := range list {
		if x.WouldBreak > 0 && len(x.From) > 0 {
			fmt.Fprintf(a.Out, "%s is called without TLS from %s\n", x.Service, limited(x.From))
		}
	}
}
