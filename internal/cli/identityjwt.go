package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
)

func (a *app) identityJWTCommand() *cobra.Command {
	var audience []string
	var ttl time.Duration
	c := &cobra.Command{
		Use:   "jwt SERVICE-ACCOUNT --audience NAME",
		Short: "Print a token that proves an identity (JWT-SVID), to try who believes it",
		Long: `Prints a JWT-SVID of a service account, for the audiences that it is to be shown to.
Whoever has it is that identity to them until it ends: it is a secret. Programs under
` + "`tulle run`" + ` get their own from the SPIFFE Workload API.`,
		Example: `  tulle identity jwt web -n shop --audience payment
  (printf 'Authorization: Bearer '; tulle identity jwt web --audience payment) | curl -H @- http://payment.example/`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringArrayVar(&audience, "audience", nil, "`NAME` of who the token is for; may be repeated")
	c.Flags().DurationVar(&ttl, "ttl", 5*time.Minute, "how long it is good, 30s to 1h")
	_ = c.MarkFlagRequired("audience")
	a.namespaceFlag(c)
	ask := func(q *question) (*client.JWTSVID, error) {
		r := client.JWTSVIDRequest{Identity: q.args[0], Audience: audience, TTL: ttl.String()}
		if !strings.ContainsAny(r.Identity, "/:") {
			r.Identity = a.namespaceOrDefault() + "/" + r.Identity
		}
		return q.conn.CreateJWTSVID(q.ctx, r)
	}
	return asks(a, c, ask, func(_ *question, t *client.JWTSVID) error {
		fmt.Fprintln(a.Out, t.Token)
		return nil
	}, formatJSON, formatYAML)
}
