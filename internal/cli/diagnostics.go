package cli

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
)

func (a *app) diagnosticsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "diagnostics",
		Aliases: []string{"diag", "dg"},
		Short:   "What the parts of the mesh believe: endpoints, proxies, identity, connections",
	}
	c.AddCommand(a.diagnosticsEndpoints(), a.diagnosticsProxy(), a.diagnosticsIdentity(), a.diagnosticsConnections())
	return c
}

func (a *app) diagnosticsEndpoints() *cobra.Command {
	var from string
	c := &cobra.Command{
		Use:   "endpoints SERVICE...",
		Short: "Where a service is served, how the control plane sees each place, and which proxies leave it out",
		Long: `Where a service is served, and how the control plane sees each place. Below it
says which endpoints some proxy leaves out of balance or doubts: "ejected" for
failures (consecutive, success_rate, latency), "unhealthy" by its health check,
"suspect" because endpoints of its address time out together, "wrong_workload"
because another workload with its identity answers there and was sent nothing.

With --from, what one proxy thinks of each endpoint that it knows.`,
		Example: `  tulle diagnostics endpoints cart
  tulle diagnostics endpoints cart --from web
  tulle diagnostics endpoints cart.shop -o json`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeServices,
	}
	c.Flags().StringVar(&from, "from", "", "what the `PROXY` thinks of them: NAME or NAME.NAMESPACE")
	a.namespaceFlag(c)
	ask := func(q *question) (any, error) {
		var services []string
		for _, name := range q.args {
			services = append(services, a.qualified(name))
		}
		if from != "" {
			namespace, name := a.proxyName(from)
			list, err := statesOf(q.ctx, q.conn, namespace, name, services)
			return list, noProxy(err, namespace, name)
		}
		var answers []*client.Endpoints
		for _, service := range services {
			answer, err := q.conn.Endpoints(q.ctx, service)
			if client.IsNotFound(err) {
				return nil, wrong("`tulle get services -A` lists them all", "there is no service %q", service)
			}
			if err != nil {
				return nil, err
			}
			answers = append(answers, answer)
		}
		if len(answers) == 1 {
			return answers[0], nil
		}
		return answers, nil
	}
	return asks(a, c, ask, func(q *question, answer any) error {
		switch answer := answer.(type) {
		case []endpointState:
			a.printEndpointStates(answer)
		case *client.Endpoints:
			a.printEndpoints(answer, "")
			a.printDoubts(q.ctx, q.conn, []string{a.qualified(q.args[0])})
		case []*client.Endpoints:
			var services []string
			for i, one := range answer {
				if i > 0 {
					fmt.Fprintln(a.Out)
				}
				a.printEndpoints(one, "")
				services = append(services, a.qualified(q.args[i]))
			}
			a.printDoubts(q.ctx, q.conn, services)
		}
		return nil
	}, formatJSON, formatYAML)
}

// noProxy says of an error that there is no such proxy, if that is what it is.
func noProxy(err error, namespace, name string) error {
	if client.IsNotFound(err) {
		return wrong("`tulle diagnostics proxy` lists them all", "there is no proxy %q in namespace %q", name, namespace)
	}
	return err
}

// qualified adds the namespace to a service's name that has none.
func (a *app) qualified(service string) string {
	service = strings.TrimPrefix(strings.TrimPrefix(service, "service/"), "svc/")
	if strings.Contains(service, ".") {
		return service
	}
	return service + "." + a.namespaceOrDefault()
}

func (a *app) printEndpoints(e *client.Endpoints, indent string) {
	t := newTable(indent+"PORT", "ENDPOINT", "HEALTH", "WORKLOAD", "IDENTITY", "ZONE", "WEIGHT")
	for _, p := range e.Ports {
		if len(p.Endpoints) == 0 {
			t.row(indent+strconv.Itoa(int(p.Port)), a.paint.bad("none"), "-", "-", "-", "-", "-")
		}
		for _, one := range p.Endpoints {
			identity := a.paint.warn("none (plaintext)")
			if one.Identity != "" {
				identity = one.Identity
			}
			weight := max(one.Weight, 1)
			t.row(indent+strconv.Itoa(int(p.Port)), one.Address, a.health(one.Health), orDash(one.Workload), identity, orDash(one.Zone), strconv.Itoa(int(weight)))
		}
	}
	t.write(a.Out)
}

func (a *app) health(h string) string {
	switch h {
	case "healthy":
		return a.paint.good(h)
	case "suspect", "draining":
		return a.paint.warn(h)
	}
	return a.paint.bad(orDash(h))
}

// proxyName reads NAME or NAME.NAMESPACE.
func (a *app) proxyName(arg string) (namespace, name string) {
	arg = strings.TrimPrefix(strings.TrimPrefix(arg, "workload/"), "gateway/")
	if name, namespace, ok := strings.Cut(arg, "."); ok && namespace != "" {
		return namespace, name
	}
	return a.namespaceOrDefault(), arg
}

func (a *app) diagnosticsProxy() *cobra.Command {
	c := &cobra.Command{
		Use:   "proxy [NAME]",
		Short: "All that a proxy believes; without a name, every proxy and whether it is up to date",
		Example: `  tulle diagnostics proxy
  tulle diagnostics proxy web
  tulle diagnostics proxy web -o json | jq .endpoints`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeProxies,
	}
	a.namespaceFlag(c)
	ask := func(q *question) (any, error) {
		if len(q.args) == 0 {
			return q.conn.Proxies(q.ctx)
		}
		namespace, name := a.proxyName(q.args[0])
		dump, err := q.conn.ProxyDump(q.ctx, namespace, name)
		return dump, noProxy(err, namespace, name)
	}
	return asks(a, c, ask, func(q *question, answer any) error {
		if dump, ok := answer.(json.RawMessage); ok {
			return a.printDump(dump)
		}
		a.printProxies(answer.([]client.Proxy), q.wide())
		return nil
	}, formatWide, formatJSON, formatYAML)
}

func (a *app) printProxies(proxies []client.Proxy, wide bool) {
	if len(proxies) == 0 {
		fmt.Fprintln(a.Err, "no proxies")
		return
	}
	header := []string{"NAMESPACE", "NAME", "ROLE", "CONNECTED", "READY", "MODE", "SYNC", "CERTIFICATE"}
	if wide {
		header = append(header, "IDENTITY", "VERSION", "PID", "SUBSCRIPTIONS")
	}
	t := newTable(header...)
	for _, p := range proxies {
		row := []string{p.Namespace, p.Name, p.Role, a.yes(p.Connected, age(a.now().Sub(p.Since))), a.yes(p.Ready, ""), orDash(p.Mode), a.synced(p), a.expiry(p.CertificateExpires)}
		if wide {
			row = append(row, orDash(p.Identity), orDash(p.Version), strconv.FormatUint(p.PID, 10), strconv.Itoa(p.Subscriptions))
		}
		t.row(row...)
	}
	t.write(a.Out)
	for _, p := range proxies {
		if p.Rejected != "" {
			fmt.Fprintf(a.Out, "\n%s %s.%s rejects what it is told: %s\n", a.paint.bad("×"), p.Name, p.Namespace, p.Rejected)
		}
	}
}

func (a *app) yes(v bool, since string) string {
	text := a.paint.bad("no")
	if v {
		text = a.paint.good("yes")
	}
	if since != "" {
		text += " (" + since + ")"
	}
	return text
}

func (a *app) synced(p client.Proxy) string {
	switch {
	case p.Rejected != "":
		return a.paint.bad("rejected")
	case p.Sent == p.Acknowledged:
		return a.paint.good("yes")
	}
	return a.paint.warn(fmt.Sprintf("behind (%d of %d)", p.Acknowledged, p.Sent))
}

// expiry says how long a certificate is still good.
func (a *app) expiry(end time.Time) string {
	if end.IsZero() {
		return "-"
	}
	left := end.Sub(a.now())
	if left <= 0 {
		return a.paint.bad("expired " + age(-left) + " ago")
	}
	return age(left) + " left"
}

func (a *app) diagnosticsIdentity() *cobra.Command {
	c := &cobra.Command{
		Use:   "identity [PROXY]",
		Short: "The mesh's certificate authority, and who holds which certificate",
		Example: `  tulle diagnostics identity
  tulle diagnostics identity web
  tulle diagnostics identity -o pem > roots.pem   # for --ca, on another machine`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeProxies,
	}
	a.namespaceFlag(c)
	ask := func(q *question) (*client.Identity, error) { return q.conn.Identity(q.ctx) }
	return asks(a, c, ask, func(q *question, identity *client.Identity) error {
		if q.format == formatPEM {
			fmt.Fprint(a.Out, identity.Bundle)
			return nil
		}
		proxies, err := q.conn.Proxies(q.ctx)
		if err != nil {
			return advise(err)
		}
		cleanse(reflect.ValueOf(&proxies))
		return a.printHolders(identity, proxies, q.args)
	}, formatPEM, formatJSON, formatYAML)
}

// printHolders shows the certificate authority, and who holds which certificate:
// all proxies, or the one that args names.
func (a *app) printHolders(identity *client.Identity, proxies []client.Proxy, args []string) error {
	fmt.Fprintf(a.Out, "Trust domain:  %s\n", a.paint.bold(identity.TrustDomain))
	fmt.Fprintf(a.Out, "Root:          %s, %s\n", identity.RootPin, a.expiry(identity.RootExpires))
	fmt.Fprintf(a.Out, "Issuer:        %s\n\n", a.expiry(identity.IssuerExpires))
	t := newTable("NAMESPACE", "PROXY", "IDENTITY", "CERTIFICATE")
	shown := 0
	for _, p := range proxies {
		if len(args) == 1 {
			if namespace, name := a.proxyName(args[0]); p.Name != name || p.Namespace != namespace {
				continue
			}
		}
		shown++
		t.row(p.Namespace, p.Name, orDash(p.Identity), a.expiry(p.CertificateExpires))
	}
	if shown == 0 && len(args) == 1 {
		return wrong("`tulle diagnostics proxy` lists them all", "there is no proxy %q", args[0])
	}
	if shown > 0 {
		t.write(a.Out)
	}
	return nil
}

func (a *app) completeProxies(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	conn, err := a.connect()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := contextFor(cmd)
	defer cancel()
	proxies, err := conn.Proxies(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, p := range proxies {
		if p.Namespace == a.namespaceOrDefault() {
			names = append(names, p.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// describeEndpoints shows where a service is served.
func (a *app) describeEndpoints(cmd *cobra.Command, conn *client.Client, namespace, name string) error {
	ctx, cancel := a.ask(cmd)
	defer cancel()
	answer, err := conn.Endpoints(ctx, name+"."+namespace)
	if err != nil {
		return advise(err)
	}
	fmt.Fprintln(a.Out, "Endpoints:")
	a.printEndpoints(answer, "  ")
	return nil
}
