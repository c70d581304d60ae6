package cli

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
)

func (a *app) operatorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "operator",
		Short: "Who may use the control plane's API from elsewhere",
		Long: `An Operator object says who may use the API over the network, by certificate, token
or OpenID Connect, in which role (View, Edit, Admin) and for which namespaces. The user
who runs the control plane needs none. "tulle get operators" lists them.`,
		Example: `  tulle operator token alice --role Edit --for-namespace shop > alice.token
  tulle get operators`,
	}
	c.AddCommand(a.operatorTokenCommand())
	return c
}

func (a *app) operatorTokenCommand() *cobra.Command {
	var role string
	var ttl time.Duration
	var namespaces []string
	c := &cobra.Command{
		Use:   "token OPERATOR [--role ROLE]",
		Short: "Make a token for an operator; makes the operator, too, when there is none",
		Long: `Prints a new bearer token for an operator, once: the mesh keeps only its SHA-256 sum.
Write it to a file that only its owner can read, for --token-file.`,
		Example: `  tulle operator token alice --role Edit --for-namespace shop > alice.token
  tulle --control-plane mesh.example:9440 --ca roots.pem --token-file alice.token get services`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			o := object.Operator.New().(*v1alpha1.Operator)
			o.Name = args[0]
			data, err := conn.Get(ctx, resource(object.Operator), "", args[0])
			switch {
			case client.IsNotFound(err) && role == "":
				return wrong("give --role View, Edit or Admin to make it", "there is no operator %q", args[0])
			case err != nil && !client.IsNotFound(err):
				return advise(err)
			case err == nil:
				have, err := object.Unmarshal(object.Operator, data)
				if err != nil {
					return couldNot("", "%w", err)
				}
				o = have.(*v1alpha1.Operator)
				identify(o, object.Operator)
			}
			if role != "" {
				o.Spec.Role = v1alpha1.OperatorRole(role)
			}
			if len(namespaces) > 0 {
				o.Spec.Namespaces = namespaces
			}
			token := rand.Text()
			sum := sha256.Sum256([]byte(token))
			t := v1alpha1.OperatorToken{SHA256: hex.EncodeToString(sum[:])}
			if ttl > 0 {
				end := metav1.NewTime(a.now().Add(ttl).Truncate(time.Second))
				t.Expires = &end
			}
			o.Spec.Tokens = append(o.Spec.Tokens, t)
			body, err := object.Encode(o)
			if err != nil {
				return err
			}
			if _, err := conn.Apply(ctx, resource(object.Operator), "", o.Name, body, false); err != nil {
				return advise(err)
			}
			fmt.Fprintln(a.Out, token)
			return nil
		},
	}
	c.Flags().StringVar(&role, "role", "", "`ROLE` of the operator: View, Edit or Admin")
	c.Flags().StringArrayVar(&namespaces, "for-namespace", nil, "`NAMESPACE` that the role is for; may be repeated; without, all of them")
	c.Flags().DurationVar(&ttl, "ttl", 0, "how long the token may be used; without, until it is removed from the Operator")
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"View", "Edit", "Admin"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) auditCommand() *cobra.Command {
	var f client.AuditFilter
	c := &cobra.Command{
		Use:   "audit",
		Short: "Who changed what, and when",
		Long: `Lists the changes that were made over the control plane's API, the newest last. With
-o json each has the object before and after; the contents of Secrets are never kept.`,
		Example: `  tulle audit
  tulle audit --kind AccessPolicy --last 20 -o json
  tulle audit --who alice`,
		Args: cobra.NoArgs,
	}
	c.Flags().IntVar(&f.Last, "last", 100, "how many, at most 10000")
	c.Flags().StringVar(&f.Who, "who", "", "only of this `OPERATOR`")
	c.Flags().StringVar(&f.Kind, "kind", "", "only of objects of this `KIND`")
	c.Flags().StringVar(&f.Name, "name", "", "only of objects of this `NAME`")
	c.Flags().StringVarP(&f.Namespace, "namespace", "n", "", "only of objects in this `NAMESPACE`")
	_ = c.RegisterFlagCompletionFunc("namespace", a.completeNamespaces)
	_ = c.RegisterFlagCompletionFunc("kind", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, k := range object.Kinds() {
			names = append(names, k.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	ask := func(q *question) ([]client.AuditEntry, error) { return q.conn.Audit(q.ctx, f) }
	return asks(a, c, ask, func(_ *question, entries []client.AuditEntry) error {
		a.printAudit(entries)
		return nil
	}, formatJSON, formatYAML)
}

func (a *app) printAudit(entries []client.AuditEntry) {
	t := newTable("TIME", "WHO", "FROM", "ACTION", "WHAT", "RESULT")
	for _, e := range entries {
		what := e.Name
		if e.Kind != "" {
			what = e.Kind + " " + e.Name
		}
		if e.Namespace != "" {
			what += " in " + e.Namespace
		}
		result := "done"
		if e.Error != "" {
			result = a.paint.bad("refused: " + strings.SplitN(e.Error, "\n", 2)[0])
		}
		t.row(e.Time.Local().Format(time.DateTime), e.Who, orDash(e.From), e.Action, orDash(what), result)
	}
	t.write(a.Out)
}
