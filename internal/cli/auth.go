package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/explain"
)

func (a *app) authCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "auth",
		Short: "Who may call what: ask, test, and write the policy",
		Example: `  tulle auth can-i --from web --to payment POST /charge
  tulle auth generate --for payment > payment-access.yaml
  tulle auth test access-cases.yaml -f payment-access.yaml -f services.yaml`,
	}
	c.AddCommand(a.authCanI(), a.authTest(), a.authGenerate())
	return c
}

func (a *app) authCanI() *cobra.Command {
	var output, from, to, gateway, host, serverName string
	var headers, claims []string
	var all bool
	c := &cobra.Command{
		Use:   "can-i --from CALLER --to SERVICE[:PORT]|--gateway GATEWAY[:PORT] [METHOD] [PATH] [-H 'NAME: VALUE']...",
		Short: "Say whether a caller may do something, and which rule decides",
		Long: `Works out what the called service's proxies would decide, with the rules that they are
told and the code that they run; nothing is sent. It names the deciding rule, or, of a
refusal without one, the rule that came nearest and what of it fails.

The caller is ACCOUNT.NAMESPACE, a workload or a service (its identity is meant), or a
SPIFFE id; --from none is a caller who proves nothing. A path without a method is GET.
--claim adds a claim of the caller's token.

With --gateway the caller is somebody outside who comes through a Gateway: --from is an
address, or left out, --host the authority that is asked for, --server-name what TLS
asked for where that is another. The answer is that of the listener and of the route,
and then of the services it leads to, to whom the gateway is the caller.

Operators of some namespaces ask about the services and gateways of those.

Exit codes: 0 yes, 1 no, 2 couldn't ask.`,
		Example: `  tulle auth can-i --from web --to payment POST /charge
  tulle auth can-i --from none --to payment:8080 && echo open to everybody
  tulle auth can-i --from web --list
  tulle auth can-i --gateway edge:443 --host shop.example --claim role=payer POST /charge`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(output, formatTable, formatJSON, formatYAML); err != nil {
				return err
			}
			q, err := a.accessQuestion(from, to, gateway, all)
			if err != nil {
				return err
			}
			if q.Host, q.ServerName = host, serverName; gateway == "" && (host != "" || serverName != "") {
				return couldNot("", "--host and --server-name go with --gateway; of a service -H 'Host: NAME' is looked at")
			}
			for _, arg := range args {
				if strings.HasPrefix(arg, "/") || q.Method != "" {
					q.Path = arg
				} else {
					q.Method = arg
				}
			}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if name = strings.TrimSpace(name); !ok || name == "" {
					return couldNot("", "-H %q: want 'NAME: VALUE'", h)
				}
				q.Headers = append(q.Headers, explain.Header{Name: name, Value: strings.TrimSpace(value)})
			}
			for _, text := range claims {
				name, value, ok := strings.Cut(text, "=")
				if !ok || name == "" {
					return couldNot("", "--claim %q: want NAME=VALUE", text)
				}
				if q.Claims == nil {
					q.Claims = map[string]any{}
				}
				q.Claims[name] = value
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			answers, err := conn.Access(ctx, q)
			if err != nil {
				return advise(err)
			}
			return a.showAccess(output, all, answers)
		},
	}
	c.Flags().StringVar(&from, "from", "", "`CALLER`: ACCOUNT[.NAMESPACE], a workload, a service, a SPIFFE id, or none; an address with --gateway")
	c.Flags().StringVar(&to, "to", "", "`SERVICE` that is called, with :PORT where it has several")
	c.Flags().StringVar(&gateway, "gateway", "", "`GATEWAY` that is called from outside, with :PORT or :LISTENER where it has several")
	c.Flags().StringVar(&host, "host", "", "`HOST` that is asked for, at a gateway")
	c.Flags().StringVar(&serverName, "server-name", "", "`NAME` that TLS asks for, at a gateway (default: the host)")
	c.Flags().StringArrayVarP(&headers, "header", "H", nil, "`HEADER` of the request, 'NAME: VALUE'; may be repeated")
	c.Flags().StringArrayVar(&claims, "claim", nil, "`CLAIM` of the caller's token, NAME=VALUE; may be repeated")
	c.Flags().BoolVar(&all, "list", false, "list all services, and whether the caller may call them")
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: json or yaml")
	_ = c.RegisterFlagCompletionFunc("to", a.completeServices)
	_ = c.RegisterFlagCompletionFunc("from", a.completeCaller)
	a.namespaceFlag(c)
	completeFormats(c, formatJSON, formatYAML)
	return c
}

// accessQuestion begins a question.
func (a *app) accessQuestion(from, to, gateway string, all bool) (q explain.AccessQuestion, err error) {
	asked := 0
	for _, is := range []bool{to != "", gateway != "", all} {
		if is {
			asked++
		}
	}
	switch {
	case asked != 1:
		return q, couldNot("see `tulle auth can-i --help`", "want one of --to SERVICE, --gateway GATEWAY and --list")
	case gateway != "":
		q.Gateway = a.called(gateway)
		if from != "none" {
			q.From = from
		}
		return q, nil
	case from == "":
		return q, couldNot("--from none is a caller who proves nothing", "want --from CALLER")
	}
	q.From = a.caller(from)
	if to != "" {
		q.To = a.called(to)
	}
	return q, nil
}

// caller adds the namespace to the name of who calls.
func (a *app) caller(from string) string {
	switch {
	case from == "none":
		return ""
	case strings.HasPrefix(from, "spiffe://"):
		return from
	}
	return a.qualified(strings.TrimPrefix(from, "workload/"))
}

// called adds the namespace to a service that may have a port.
func (a *app) called(to string) string {
	host, port, ok := strings.Cut(to, ":")
	if host = a.qualified(host); ok {
		host += ":" + port
	}
	return host
}

func (a *app) showAccess(output string, all bool, answers []explain.AccessAnswer) error {
	code := ExitOK
	if !all && len(answers) == 1 && !answers[0].Allowed {
		code = ExitWrong
	}
	if output == formatJSON || output == formatYAML {
		var v any = answers
		if !all && len(answers) == 1 {
			v = answers[0]
		}
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := printData(a.Out, output, data); err != nil {
			return err
		}
		return exit(code)
	}
	if all {
		a.listAccess(answers)
		return nil
	}
	for i := range answers {
		a.printAccess(&answers[i])
	}
	return exit(code)
}

// listAccess shows one line for each port of each service.
func (a *app) listAccess(answers []explain.AccessAnswer) {
	t := newTable("SERVICE", "MAY CALL", "BY", "MUTUAL_TLS", "PLAINTEXT")
	for i := range answers {
		x := &answers[i]
		may, by := a.paint.bad("no"), x.By
		switch {
		case x.Some:
			may = a.paint.warn("some requests")
		case x.Allowed:
			may = a.paint.good("yes")
		}
		if by == "" && !x.Some {
			by = "the default"
		}
		t.row(x.To, may, orDash(by), x.MutualTLS, x.Plaintext)
	}
	t.write(a.Out)
}

func (a *app) printAccess(x *explain.AccessAnswer) {
	verdict := a.paint.bad("no")
	if x.Allowed {
		verdict = a.paint.good("yes")
	}
	fmt.Fprintf(a.Out, "%s: %s\n", verdict, x.Reason)
	if x.Audit {
		by := x.AuditRule
		if by == "" {
			by = "no rule of the policies in audit allows it"
		}
		fmt.Fprintf(a.Out, "%s\n", a.paint.warn("  if what is in audit were kept to: no ("+by+")"))
	}
	if x.Gateway {
		a.printThrough(x)
		return
	}
	who := x.Caller
	if who == "" {
		who = "nobody that is proven"
	}
	fmt.Fprintf(a.Out, "  caller: %s\n  called: %s, mutual TLS %s\n", who, x.To, x.MutualTLS)
	fmt.Fprintf(a.Out, "  the same from a caller without a proxy: %s\n", x.Plaintext)
	for _, n := range x.Notes {
		fmt.Fprintf(a.Out, "  %s\n", n)
	}
}

// printThrough prints the rest of an answer of a gateway.
func (a *app) printThrough(x *explain.AccessAnswer) {
	fmt.Fprintf(a.Out, "  gateway: %s%s\n", x.To, map[bool]string{true: ", route " + x.Route}[x.Route != ""])
	for i := range x.Then {
		then := &x.Then[i]
		verdict := a.paint.bad("no")
		if then.Allowed {
			verdict = a.paint.good("yes")
		}
		fmt.Fprintf(a.Out, "  then %s, called by %s: %s: %s\n", then.To, then.Caller, verdict, then.Reason)
		for _, n := range then.Notes {
			fmt.Fprintf(a.Out, "    %s\n", n)
		}
	}
	for _, n := range x.Notes {
		fmt.Fprintf(a.Out, "  %s\n", n)
	}
}

// describeModes prints what the ports of a service take.
func (a *app) describeModes(ctx context.Context, conn *client.Client, service string) error {
	answers, err := conn.Access(ctx, explain.AccessQuestion{To: service + ":*"})
	var said *client.Status
	if errors.As(err, &said) && (said.Reason == client.ReasonNotFound || said.Reason == client.ReasonForbidden) {
		return nil // of an older version, or for others to know
	}
	if err != nil {
		return advise(err)
	}
	var ports []string
	for i := range answers {
		if port, ok := strings.CutPrefix(answers[i].To, service+":"); ok {
			ports = append(ports, port+" "+answers[i].MutualTLS)
		}
	}
	if len(ports) > 0 {
		fmt.Fprintf(a.Out, "%-14s %s\n", "Mutual TLS:", strings.Join(ports, ", "))
	}
	return nil
}
