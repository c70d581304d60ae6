package cli

import (
	"encoding/json"
	"fmt"
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
	var output, from string
	c := &cobra.Command{
		Use:   "endpoints SERVICE...",
		Short: "Where a service is served, how the control plane sees each place, and which proxies leave it out",
		Long: `Where a service is served, and how the control plane sees each place. Below it
says which endpoints some proxy leaves out of balance or doubts: "ejected" for
failures (consecutive, success_rate, latency), "unhealthy" by its health check,
"suspect" because endpoints of its address time out together.

With --from, what one proxy thinks of each endpoint that it knows.`,
		Example: `  tulle diagnostics endpoints cart
  tulle diagnostics endpoints cart --from web
  tulle diagnostics endpoints cart.shop -o json`,
		Args:              cobra.MinimumNArgs(1),
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
			var services []string
			for _, name := range args {
				services = append(services, a.qualified(name))
			}
			if from != "" {
				namespace, name := a.proxyName(from)
				list, err := statesOf(ctx, conn, namespace, name, services)
				switch {
				case client.IsNotFound(err):
					return wrong("`tulle diagnostics proxy` lists them all", "there is no proxy %q in namespace %q", name, namespace)
				case err != nil:
					return advise(err)
				case output == formatJSON || output == formatYAML:
					data, err := json.Marshal(list)
					if err != nil {
						return err
					}
					return printData(a.Out, output, data)
				}
				a.printEndpointStates(list)
				return nil
			}
			var answers []*client.Endpoints
			for _, name := range args {
				answer, err := conn.Endpoints(ctx, a.qualified(name))
				if client.IsNotFound(err) {
					return wrong("`tulle get services -A` lists them all", "there is no service %q", a.qualified(name))
				}
				if err != nil {
					return advise(err)
				}
				answers = append(answers, answer)
			}
			if output == formatJSON || output == formatYAML {
				return a.printOneOrMany(output, answers)
			}
			for i, answer := range answers {
				if i > 0 {
					fmt.Fprintln(a.Out)
				}
				a.printEndpoints(answer, "")
			}
			a.printDoubts(ctx, conn, services)
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: json or yaml")
	c.Flags().StringVar(&from, "from", "", "what the `PROXY` thinks of them: NAME or NAME.NAMESPACE")
	a.namespaceFlag(c)
	completeFormats(c, formatJSON, formatYAML)
	return c
}

// qualified adds the namespace to a service's name that has none.
func (a *app) qualified(service string) string {
	service = strings.TrimPrefix(strings.TrimPrefix(service, "service/"), "svc/")
	if strings.Contains(service, ".") {
		return service
	}
	return service + "." + a.namespaceOrDefault()
}

func (a *app) printOneOrMany(output string, answers []*client.Endpoints) error {
	var v any = answers
	if len(answers) == 1 {
		v = answers[0]
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printData(a.Out, output, data)
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
	var output string
	c := &cobra.Command{
		Use:   "proxy [NAME]",
		Short: "All that a proxy believes; without a name, every proxy and whether it is up to date",
		Example: `  tulle diagnostics proxy
  tulle diagnostics proxy web
  tulle diagnostics proxy web -o json | jq .endpoints`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeProxies,
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
			if len(args) == 0 {
				proxies, err := conn.Proxies(ctx)
				if err != nil {
					return advise(err)
				}
				if output == formatJSON || output == formatYAML {
					data, err := json.Marshal(proxies)
					if err != nil {
						return err
					}
					return printData(a.Out, output, data)
				}
				a.printProxies(proxies, output == formatWide)
				return nil
			}
			namespace, name := a.proxyName(args[0])
			dump, err := conn.ProxyDump(ctx, namespace, name)
			if client.IsNotFound(err) {
				return wrong("`tulle diagnostics proxy` lists them all", "there is no proxy %q in namespace %q", name, namespace)
			}
			if err != nil {
				return advise(err)
			}
			if output == formatJSON || output == formatYAML {
				return printData(a.Out, output, dump)
			}
			return a.printDump(dump)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: wide, json or yaml")
	a.namespaceFlag(c)
	completeFormats(c, formatWide, formatJSON, formatYAML)
	return c
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
	var output string
	c := &cobra.Command{
		Use:   "identity [PROXY]",
		Short: "The mesh's certificate authority, and who holds which certificate",
		Example: `  tulle diagnostics identity
  tulle diagnostics identity web
  tulle diagnostics identity -o pem > roots.pem   # for --ca, on another machine`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeProxies,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(output, formatTable, formatPEM, formatJSON, formatYAML); err != nil {
				return err
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			identity, err := conn.Identity(ctx)
			if err != nil {
				return advise(err)
			}
			if output == formatPEM {
				fmt.Fprint(a.Out, identity.Bundle)
				return nil
			}
			if output == formatJSON || output == formatYAML {
				data, err := json.Marshal(identity)
				if err != nil {
					return err
				}
				return printData(a.Out, output, data)
			}
			proxies, err := conn.Proxies(ctx)
			if err != nil {
				return advise(err)
			}
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
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: pem, json or yaml")
	a.namespaceFlag(c)
	completeFormats(c, formatPEM, formatJSON, formatYAML)
	return c
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
