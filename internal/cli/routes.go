package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/telemetry"
)

func (a *app) routesCommand() *cobra.Command {
	var window time.Duration
	c := &cobra.Command{
		Use:   "routes [SERVICE...]",
		Short: "Live figures of each route's rules and backends",
		Long: `Shows what each rule of a route did over the window, by backend: requests per second,
the backend's share of the rule's requests, success rate (answers that aren't 5xx) and
latency percentiles, as counted by the proxies that hold to the rule: callers' and
gateways'. With a service, only requests for it or to it. A service without routes has
no line here: see tulle stat.

A line without a rule is requests that no rule is for (404); one without a backend is
what a rule answers itself (redirects, or a backend that doesn't exist). -o wide shows
where the rule was met.`,
		Example: `  tulle routes
  tulle routes cart --window 5m        # is the split 90 to 10, and is v2 as good?
  tulle routes web -o json | jq '.routes[] | select(.success_rate < 0.99)'`,
		ValidArgsFunction: a.completeServices,
	}
	c.Flags().DurationVarP(&window, "window", "w", time.Minute, "how far back to look")
	a.namespaceFlag(c)
	ask := func(q *question) (*telemetry.Routes, error) {
		answer, err := q.conn.Routes(q.ctx, window)
		if err != nil {
			return nil, err
		}
		kept := []telemetry.Route{}
		for _, r := range answer.Routes {
			if len(q.args) == 0 || a.concerns(&r, q.args) {
				kept = append(kept, r)
			}
		}
		answer.Routes = kept
		for _, s := range q.args {
			if slices.ContainsFunc(kept, func(r telemetry.Route) bool { return a.concerns(&r, []string{s}) }) {
				continue
			}
			name, namespace, _ := strings.Cut(a.qualified(s), ".")
			if _, err := q.conn.Get(q.ctx, resource(object.Service), namespace, name); client.IsNotFound(err) {
				return nil, wrong("`tulle get services -A` lists them all", "there is no service %q in namespace %q", name, namespace)
			} else if err != nil {
				return nil, err
			}
		}
		return answer, nil
	}
	return asks(a, c, ask, func(q *question, answer *telemetry.Routes) error {
		a.printRouteFigures(answer.Routes, q.wide())
		return nil
	}, formatWide, formatJSON, formatYAML)
}

// concerns reports whether a route's requests are for or to one of the services.
func (a *app) concerns(r *telemetry.Route, services []string) bool {
	for _, s := range services {
		s = a.qualified(s) + ":"
		if strings.HasPrefix(r.Service, s) || strings.HasPrefix(r.Backend, s) {
			return true
		}
	}
	return false
}

func (a *app) printRouteFigures(list []telemetry.Route, wide bool) {
	if len(list) == 0 {
		fmt.Fprintln(a.Err, "no rule of a route has met a request")
		return
	}
	header := []string{"SERVICE", "RULE", "BACKEND", "RPS", "SHARE", "SUCCESS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"}
	if wide {
		header = append(header, "DIRECTION")
	}
	t := newTable(header...)
	for _, r := range list {
		rule, backend := r.Route, r.Backend
		if rule == "" {
			rule = a.paint.warn("none (404)")
		} else if backend == "" {
			backend = a.paint.warn("none")
		}
		service := r.Service
		if service == "" && r.Direction == "edge" {
			service = "(gateway)"
		}
		row := []string{orDash(service), rule, orDash(backend), number(r.RPS, "%.1f"), portion(r.Share), a.success(r.SuccessRate),
			milliseconds(r.Latency.P50), milliseconds(r.Latency.P95), milliseconds(r.Latency.P99)}
		if wide {
			row = append(row, r.Direction)
		}
		t.row(row...)
	}
	t.write(a.Out)
}

// portion is a share that is neither good nor bad.
func portion(v *float64) string {
	if v == nil {
		return "-"
	}
	return percent(*v)
}
