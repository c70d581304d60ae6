package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/explain"
)

func (a *app) explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain",
		Short: "What would become of a request, and why",
		Example: `  tulle explain request --from web GET http://cart:8080/items
  tulle explain request --from web POST http://cart/items -H 'x-user: 7' -o json`,
	}
	c.AddCommand(a.explainRequest())
	return c
}

func (a *app) explainRequest() *cobra.Command {
	var from string
	var headers []string
	c := &cobra.Command{
		Use:   "request --from PROXY [METHOD] URL [-H 'NAME: VALUE']...",
		Short: "Which route, rule, policies and endpoints a request would meet, and why",
		Long: `Works out what the proxy of a workload or gateway would do with a request, with what
that proxy is told and the code that it runs; nothing is sent. It shows which service
the URL means, which rule the request meets and what the rules before that lack, what
filters do to it, every policy's value with the object it is from, and the endpoints
with the identity that must answer. -o wide shows the defaults too.

Exit codes: 0 it would be sent on, 1 the proxy would answer it itself with 4xx or 5xx,
or there is no such proxy, 2 couldn't ask.`,
		Example: `  tulle explain request --from web http://cart:8080/items
  tulle explain request --from web POST http://cart/items -H 'x-user: 7'
  tulle explain request --from edge http://shop.example:8080/cart -o json | jq .rule

  # A gateway found by its address: say which host is asked for
  tulle explain request --from edge http://127.0.0.1:8080/ -H 'Host: shop.example'`,
		Args: cobra.RangeArgs(1, 2),
	}
	c.Flags().StringVar(&from, "from", "", "`PROXY` that gets the request: a workload's or a gateway's, NAME or NAME.NAMESPACE")
	c.Flags().StringArrayVarP(&headers, "header", "H", nil, "`HEADER` of the request, 'NAME: VALUE'; may be repeated")
	_ = c.MarkFlagRequired("from")
	_ = c.RegisterFlagCompletionFunc("from", a.completeCaller)
	a.namespaceFlag(c)
	var asked explain.Question
	ask := func(q *question) (*explain.Answer, error) {
		var err error
		if asked, err = a.requestToExplain(from, q.args, headers); err != nil {
			return nil, err
		}
		answer, err := q.conn.Explain(q.ctx, asked)
		if err == nil && answer.Outcome == explain.Answered && answer.Status >= 400 {
			q.verdict = exit(ExitWrong)
		}
		return answer, err
	}
	return asks(a, c, ask, func(q *question, answer *explain.Answer) error {
		a.printAnswer(asked, answer, q.wide())
		return nil
	}, formatWide, formatJSON, formatYAML)
}

// requestToExplain reads [METHOD] URL and the headers.
func (a *app) requestToExplain(from string, args, headers []string) (explain.Question, error) {
	q := explain.Question{From: a.proxyToAsk(from), Method: "GET", URL: args[len(args)-1]}
	if len(args) == 2 {
		q.Method = args[0]
	}
	if !strings.Contains(q.URL, "://") {
		q.URL = "http://" + q.URL
	}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return q, couldNot("", "-H %q: want 'NAME: VALUE'", h)
		}
		q.Headers = append(q.Headers, explain.Header{Name: name, Value: strings.TrimSpace(value)})
	}
	return q, nil
}

// proxyToAsk adds the namespace to a proxy's name when one was asked for.
func (a *app) proxyToAsk(from string) string {
	from = strings.TrimPrefix(strings.TrimPrefix(from, "workload/"), "gateway/")
	if a.namespace == "" || strings.ContainsAny(from, "./") {
		return from
	}
	return from + "." + a.namespace
}

func (a *app) printAnswer(q explain.Question, x *explain.Answer, wide bool) {
	fmt.Fprintf(a.Out, "%s from %s: %s\n", a.paint.bold(q.Method+" "+q.URL), x.Proxy, a.verdict(x))
	for _, n := range x.Notes {
		fmt.Fprintf(a.Out, "  %s\n", n)
	}
	if x.Rule != "" || len(x.Missed) > 0 {
		fmt.Fprintln(a.Out, "\nRules, in the order in which they are tried:")
		t := newTable("  RULE", "MATCH", "MET")
		if x.More > 0 {
			t.row(fmt.Sprintf("  %d more", x.More), "", a.paint.faint("no"))
		}
		for _, m := range x.Missed {
			t.row("  "+m.Rule, m.Match, a.paint.faint(strings.TrimSpace("no: "+m.Clause+" "+m.Name)))
		}
		if x.Rule != "" {
			name := x.Rule
			if x.Section != "" {
				name += " (" + x.Section + ")"
			}
			t.row("  "+name, x.Match, a.paint.good("yes"))
		}
		t.write(a.Out)
	}
	if len(x.Filters) > 0 || x.Session != "" {
		fmt.Fprintln(a.Out, "\nThe rule's filters:")
		for _, f := range x.Filters {
			fmt.Fprintf(a.Out, "  %s\n", f)
		}
		if x.Session != "" {
			fmt.Fprintf(a.Out, "  keeps clients at one endpoint: %s\n", x.Session)
		}
	}
	a.printFields("The request's policy", x.Policy, wide)
	for i := range x.Backends {
		a.printBackend(&x.Backends[i], wide)
	}
}

func (a *app) verdict(x *explain.Answer) string {
	switch x.Outcome {
	case explain.Forwarded:
		to := x.Rule
		if to == "" {
			to = x.Service
		}
		return a.paint.good("sent on by " + to)
	case explain.Answered:
		text := fmt.Sprintf("answered %d by the proxy: %s", x.Status, x.Text)
		if x.Status >= 400 {
			return a.paint.bad(text)
		}
		return a.paint.good(text)
	case explain.Opaque:
		return a.paint.warn("the port is opaque")
	}
	return a.paint.warn("outside the mesh")
}

// printFields lists values, those that somebody said unless all are wanted.
func (a *app) printFields(title string, list []explain.Field, all bool) {
	t := newTable("  FIELD", "VALUE", "FROM")
	defaults := 0
	for _, f := range list {
		if f.Source == "" && !all {
			defaults++
			continue
		}
		t.row("  "+f.Name, f.Value, orElse(f.Source, a.paint.faint("default")))
	}
	if len(t.rows) > 0 {
		fmt.Fprintf(a.Out, "\n%s:\n", title)
		t.write(a.Out)
	} else if defaults > 0 {
		fmt.Fprintf(a.Out, "\n%s: %s\n", title, a.paint.faint("the defaults (-o wide shows them)"))
	}
}

func (a *app) printBackend(b *explain.Backend, wide bool) {
	share := strconv.FormatFloat(b.Share, 'f', -1, 64)
	if len(share) > 5 {
		share = strconv.FormatFloat(b.Share, 'f', 2, 64)
	}
	if b.Service == "" {
		fmt.Fprintf(a.Out, "\n%s%% go to %s and are answered 500\n", share, a.paint.bad("a backend that doesn't exist"))
		return
	}
	fmt.Fprintf(a.Out, "\n%s%% go to %s\n", share, a.paint.bold(b.Service))
	for _, f := range b.Filters {
		fmt.Fprintf(a.Out, "  %s\n", f)
	}
	if len(b.Endpoints) == 0 {
		fmt.Fprintf(a.Out, "  %s\n", a.paint.bad("no endpoint: answered 503"))
	} else {
		t := newTable("  ENDPOINT", "STATE", "WORKLOAD", "ZONE", "IDENTITY")
		for _, e := range b.Endpoints {
			state := a.health(e.State)
			if e.Why != "" {
				state += " (" + e.Why + ")"
			}
			t.row("  "+e.Address, state, orDash(e.Workload), orDash(e.Zone), orElse(e.Identity, a.paint.warn("none (plaintext)")))
		}
		t.write(a.Out)
	}
	a.printFields("Policy of requests to "+b.Service, b.Request, wide)
	a.printFields("Policy of the endpoints of "+b.Service, b.Upstream, wide)
	a.printFields("Kept by the proxies of "+b.Service, b.Inbound, wide)
}
