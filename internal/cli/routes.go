package cli

import (
	"encoding/json"
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
	var output string
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
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(output, formatTable, formatWide, formatJSON, formatYAML); err != nil {
				return err
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			answer, err := conn.Routes(ctx, window)
			if err != nil {
				return advise(err)
			}
			kept := []telemetry.Route{}
			for _, r := range answer.Routes {
				if len(args) == 0 || a.concerns(&r, args) {
					kept = append(kept, r)
				}
			}
			answer.Routes = kept
			for _, s := range args {
				if slices.ContainsFunc(kept, func(r telemetry.Route) bool { return a.concerns(&r, []string{s}) }) {
					continue
				}
				name, namespace, _ := strings.Cut(a.qualified(s), ".")
				if _, err := conn.Get(ctx, resource(object.Service), namespace, name); client.IsNotFound(err) {
					return wrong("`tulle get services -A` lists them all", "there is no service %q in namespace %q", name, namespace)
				} else if err != nil {
					return advise(err)
				}
			}
			if output == formatJSON || output == formatYAML {
				data, err := json.Marshal(answer)
				if err != nil {
					return err
				}
				return printData(a.Out, output, data)
			}
			a.printRouteFigures(kept, output == formatWide)
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: wide, json or yaml")
	c.Flags().DurationVarP(&window, "window", "w", time.Minute, "how far back to look")
	a.namespaceFlag(c)
	completeFormats(c, formatWide, formatJSON, formatYAML)
	return c
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
