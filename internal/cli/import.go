package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/imports"
)

func (a *app) importCommand() *cobra.Command {
	var files, accounts []string
	var options imports.Options
	var strict bool
	c := &cobra.Command{
		Use:   "import -f FILE...",
		Short: "Translate access policies of Istio, Linkerd, Consul and SMI",
		Long: `Reads what another mesh says about access and prints the same as AccessPolicy and
AuthenticationPolicy objects, for you to read and apply. On the error stream comes a
report: every field that has no equal, and what was done instead. Where the meaning
can't be kept the result permits less, never more.

Translated are Istio's AuthorizationPolicy and PeerAuthentication; Linkerd's Server,
AuthorizationPolicy, ServerAuthorization and what they refer to; Consul's
service-intentions, as resources and as config entries; SMI's TrafficTarget with
HTTPRouteGroup and TCPRoute. Give the Services as well: policies that select workloads
become policies for the Services that lead to them.`,
		Example: `  kubectl get services,authorizationpolicies,peerauthentications -A -o yaml | tulle import -f - > access.yaml
  tulle import -f intentions.yaml -f services.yaml --strict && tulle diff -f access.yaml`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if len(files) == 0 {
				return couldNot("give -f FILE, or -f - for standard input", "nothing to translate")
			}
			options.Accounts = map[string]string{}
			for _, pair := range accounts {
				account, service, ok := strings.Cut(pair, "=")
				if !ok || !strings.Contains(account, "/") || service == "" {
					return couldNot("write --account NAMESPACE/ACCOUNT=SERVICE", "--account %q", pair)
				}
				options.Accounts[account] = service
			}
			var all []string
			for _, file := range files {
				data, err := a.readFile(file)
				if err != nil {
					return couldNot("", "%w", err)
				}
				all = append(all, string(data))
			}
			name := files[0]
			if len(files) > 1 {
				name = "input"
			}
			r, err := imports.Translate(name, []byte(strings.Join(all, "\n---\n")), options)
			if err != nil {
				return couldNot("", "%w", err)
			}
			if err := imports.Write(a.Out, r); err != nil {
				return couldNot("", "%w", err)
			}
			for _, n := range r.Notes {
				fmt.Fprintln(a.Err, n)
			}
			if strict && len(r.Notes) > 0 {
				return wrong("read the report above", "%d fields have no equal", len(r.Notes))
			}
			return nil
		},
	}
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "`FILE` to translate, - for standard input; may be repeated")
	c.Flags().StringVar(&options.Foreign, "trust-domain", "cluster.local", "the other mesh's `TRUST-DOMAIN`; its identities become those of "+object.DefaultTrustDomain)
	c.Flags().StringVar(&options.RootNamespace, "istio-root", "istio-system", "Istio's root `NAMESPACE`, whose policies are for the whole mesh")
	c.Flags().StringArrayVar(&accounts, "account", nil, "NAMESPACE/ACCOUNT=`SERVICE` where the two have different names; may be repeated")
	c.Flags().BoolVar(&strict, "strict", false, "exit with 1 when anything has no equal")
	return c
}

// readFile reads a file, or standard input for -.
func (a *app) readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(a.In, object.MaxInput))
	}
	return os.ReadFile(name)
}
