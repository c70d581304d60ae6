package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/telemetry"
)

func (a *app) statCommand() *cobra.Command {
	var window time.Duration
	var all bool
	c := &cobra.Command{
		Use:   "stat [SERVICE...]",
		Short: "Golden figures of services: requests, success, latency, share of mutual TLS",
		Long: `Shows each service's ready workloads, requests per second, success rate (answers
that aren't 5xx), latency percentiles and which share of it was mutual TLS, measured
by the proxies in front of the service over the window. "-" means nothing was seen.`,
		Example: `  tulle stat
  tulle stat cart payment --window 5m
  tulle stat -o json | jq '.services[] | select(.success_rate < 0.99)'`,
		ValidArgsFunction: a.completeServices,
	}
	c.Flags().DurationVarP(&window, "window", "w", time.Minute, "how far back to look")
	c.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of every namespace")
	a.namespaceFlag(c)
	ask := func(q *question) (*telemetry.Stat, error) {
		answer, err := q.conn.Stat(q.ctx, window)
		if err != nil {
			return nil, err
		}
		kept := []telemetry.Service{}
		for _, s := range answer.Services {
			if (all || s.Namespace == a.namespace) && named(s.Name, q.args) {
				kept = append(kept, s)
			}
		}
		for _, name := range q.args {
			if !hasService(kept, name) {
				return nil, wrong("`tulle get services -A` lists them all", "there is no service %q in namespace %q", name, a.namespace)
			}
		}
		answer.Services = kept
		return answer, nil
	}
	return asks(a, c, ask, func(q *question, answer *telemetry.Stat) error {
		a.printStat(answer.Services, all, q.wide())
		return nil
	}, formatWide, formatJSON, formatYAML)
}

func (a *app) printStat(services []telemetry.Service, withNamespace, wide bool) {
	if len(services) == 0 {
		fmt.Fprintln(a.Err, "no services")
		return
	}
	header := []string{"NAME", "MESHED", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "MUTUAL_TLS", "TCP_CONN"}
	if wide {
		header = append(header, "RECEIVED", "SENT")
	}
	if withNamespace {
		header = append([]string{"NAMESPACE"}, header...)
	}
	t := newTable(header...)
	for _, s := range services {
		row := []string{
			s.Name,
			fmt.Sprintf("%d/%d", s.Meshed.Ready, s.Meshed.Total),
			a.success(s.SuccessRate),
			number(s.RPS, "%.1f"),
			milliseconds(s.Latency.P50), milliseconds(s.Latency.P95), milliseconds(s.Latency.P99),
			a.share(s.MutualTLS),
			number(s.TCPConnections, "%.0f"),
		}
		if wide {
			row = append(row, byteRate(s.ReceivedBytes), byteRate(s.SentBytes))
		}
		if withNamespace {
			row = append([]string{s.Namespace}, row...)
		}
		t.row(row...)
	}
	t.write(a.Out)
}

func (a *app) edgesCommand() *cobra.Command {
	var window time.Duration
	var all bool
	c := &cobra.Command{
		Use:   "edges [SERVICE...]",
		Short: "Who calls whom, how much, and whether it is mutual TLS",
		Example: `  tulle edges
  tulle edges cart
  tulle edges -A -o json`,
		ValidArgsFunction: a.completeServices,
	}
	c.Flags().DurationVarP(&window, "window", "w", time.Minute, "how far back to look")
	c.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of every namespace")
	a.namespaceFlag(c)
	ask := func(q *question) (*telemetry.Edges, error) {
		answer, err := q.conn.Edges(q.ctx, window)
		if err != nil {
			return nil, err
		}
		kept := []telemetry.Edge{}
		for _, e := range answer.Edges {
			if (all || e.From.Namespace == a.namespace || e.To.Namespace == a.namespace) && (named(e.From.Name, q.args) || named(e.To.Name, q.args)) {
				kept = append(kept, e)
			}
		}
		answer.Edges = kept
		return answer, nil
	}
	return asks(a, c, ask, func(_ *question, answer *telemetry.Edges) error {
		a.printEdges(answer.Edges, all)
		return nil
	}, formatJSON, formatYAML)
}

func (a *app) printEdges(edges []telemetry.Edge, withNamespace bool) {
	if len(edges) == 0 {
		fmt.Fprintln(a.Err, "no traffic seen in the window")
		return
	}
	t := newTable("FROM", "TO", "PROTOCOL", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P99", "MUTUAL_TLS")
	for _, e := range edges {
		t.row(a.peer(e.From, withNamespace), a.peer(e.To, withNamespace), orDash(e.Protocol), a.success(e.SuccessRate), number(e.RPS, "%.1f"),
			milliseconds(e.Latency.P50), milliseconds(e.Latency.P99), a.share(e.MutualTLS))
	}
	t.write(a.Out)
}

// peer shows an end of an edge, with its namespace where it isn't the asked one.
func (a *app) peer(e telemetry.Peer, all bool) string {
	if e.Name == "" {
		return "(outside)"
	}
	if e.Namespace == "" || !all && e.Namespace == a.namespace {
		return e.Name
	}
	return e.Name + "." + e.Namespace
}

func named(name string, wanted []string) bool {
	if len(wanted) == 0 {
		return true
	}
	for _, w := range wanted {
		if strings.TrimPrefix(strings.TrimPrefix(w, "service/"), "svc/") == name {
			return true
		}
	}
	return false
}

func hasService(services []telemetry.Service, name string) bool {
	for _, s := range services {
		if named(s.Name, []string{name}) {
			return true
		}
	}
	return false
}

func number(v *float64, format string) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}

// The shares at which a figure is shown as good, and below which as bad.
const (
	goodSuccess = 0.995
	badSuccess  = 0.95
)

func (a *app) success(v *float64) string {
	if v == nil {
		return "-"
	}
	text := percent(*v)
	switch {
	case *v >= goodSuccess:
		return a.paint.good(text)
	case *v < badSuccess:
		return a.paint.bad(text)
	}
	return a.paint.warn(text)
}

func (a *app) share(v *float64) string {
	switch {
	case v == nil:
		return "-"
	case *v >= 1:
		return a.paint.good("100%")
	case *v <= 0:
		return a.paint.bad("0%")
	}
	return a.paint.warn(percent(*v))
}

// percent never rounds up to 100 %: one failure in a million is a failure.
func percent(v float64) string {
	if v >= 1 {
		return "100%"
	}
	const step = 1e4 // two digits after the point
	return fmt.Sprintf("%.2f%%", float64(int(v*step))/step*100)
}

func milliseconds(v *float64) string {
	switch {
	case v == nil:
		return "-"
	case *v < 10:
		return fmt.Sprintf("%.1fms", *v)
	case *v < 10_000:
		return fmt.Sprintf("%.0fms", *v)
	}
	return fmt.Sprintf("%.1fs", *v/1000)
}

func byteRate(v *float64) string {
	if v == nil {
		return "-"
	}
	units := []string{"B/s", "kB/s", "MB/s", "GB/s"}
	n, i := *v, 0
	for n >= 1000 && i < len(units)-1 {
		n, i = n/1000, i+1
	}
	return fmt.Sprintf("%.4g%s", n, units[i])
}
