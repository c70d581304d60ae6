package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
)

func (a *app) joinTokenCommand() *cobra.Command {
	var services []string
	var ttl time.Duration
	var output string
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
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(output, formatTable, formatJSON, formatYAML); err != nil {
				return err
			}
			request := client.JoinTokenRequest{Identity: args[0], TTL: ttl.String()}
			if !strings.ContainsAny(args[0], "/:") {
				request.Identity = a.namespaceOrDefault() + "/" + args[0]
			}
			for _, s := range services {
				request.Services = append(request.Services, a.qualified(s))
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			token, err := conn.CreateJoinToken(ctx, request)
			if err != nil {
				return advise(err)
			}
			if output != formatTable {
				data, err := json.Marshal(token)
				if err != nil {
					return err
				}
				return printData(a.Out, output, data)
			}
			fmt.Fprintln(a.Out, token.Token)
			return nil
		},
	}
	c.Flags().StringArrayVarP(&services, "service", "s", nil, "service that the proxy may serve, `NAME` or NAME.NAMESPACE; may be repeated")
	c.Flags().DurationVar(&ttl, "ttl", 10*time.Minute, "how long the token may be used, at most 24h")
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: json or yaml")
	a.namespaceFlag(c)
	_ = c.RegisterFlagCompletionFunc("service", a.completeServices)
	completeFormats(c, formatJSON, formatYAML)
	return c
}
