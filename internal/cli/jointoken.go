package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
)

func (a *app) joinTokenCommand() *cobra.Command {
	var services []string
	var ttl time.Duration
	c := &cobra.Command{
		Use:   "join-token SERVICE-ACCOUNT [--service NAME]...",
		Short: "Make a single-use token with which a proxy joins the mesh",
		Long: `Prints a token that grants one proxy an identity and the right to serve the named
services. It works once, and for a while. It is a secret: write it to a file that
only the proxy's user can read, and give that to tulle-proxy --join-token-file.

` + "`tulle run` and `tulle up`" + ` do this by themselves; it is for proxies that something
else starts, and for one whose certificate ended while it was away.`,
		Example: `  tulle join-token cart --service cart > token
  tulle-proxy --control-plane HOST:9440 --data cart.data --name cart --join-token-file token
  tulle join-token edge -n shop --ttl 1h > token`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringArrayVarP(&services, "service", "s", nil, "service that the proxy may serve, `NAME` or NAME.NAMESPACE; may be repeated")
	c.Flags().DurationVar(&ttl, "ttl", 10*time.Minute, "how long the token may be used, at most 24h")
	a.namespaceFlag(c)
	_ = c.RegisterFlagCompletionFunc("service", a.completeServices)
	ask := func(q *question) (*client.JoinToken, error) {
		request := client.JoinTokenRequest{Identity: q.args[0], TTL: ttl.String()}
		if !strings.ContainsAny(q.args[0], "/:") {
			request.Identity = a.namespaceOrDefault() + "/" + q.args[0]
		}
		for _, s := range services {
			request.Services = append(request.Services, a.qualified(s))
		}
		return q.conn.CreateJoinToken(q.ctx, request)
	}
	return asks(a, c, ask, func(_ *question, token *client.JoinToken) error {
		fmt.Fprintln(a.Out, token.Token)
		return nil
	}, formatJSON, formatYAML)
}
