package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) dashboardCommand() *cobra.Command {
	var base string
	c := &cobra.Command{
		Use:   "dashboard",
		Short: "Print a link that logs a browser in to the dashboard",
		Long: `Prints the dashboard's address with a code that lets one browser in, once, within two
minutes, as whoever runs this command: the user who runs the control plane, or an
Operator (--token-file, --certificate), who sees what they may see. The session lasts
eight hours at most, and an hour without use.

Without an Operator the dashboard is open on the control plane's own machine; with one,
and from elsewhere, everybody logs in. --url is for a dashboard behind a reverse proxy
or a tunnel.`,
		Example: `  tulle dashboard
  tulle --control-plane mesh.example:9440 --ca roots.pem --token-file alice.token dashboard --url https://mesh.example`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if base != "" && !strings.HasPrefix(base, "http://") && !strings.HasPrefix(base, "https://") {
				return couldNot("", "--url %q: want https://HOST[:PORT]", base)
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			l, err := conn.LogIn(ctx)
			if err != nil {
				return advise(err)
			}
			link := l.URL
			if base != "" {
				link = strings.TrimSuffix(base, "/") + l.Path
			}
			fmt.Fprintln(a.Out, link)
			fmt.Fprintf(a.Err, "for one browser, until %s, as %s (%s)\n", l.Expires.Local().Format(time.TimeOnly), l.Operator, l.Role)
			return nil
		},
	}
	c.Flags().StringVar(&base, "url", "", "`URL` under which the browser reaches the dashboard, when it isn't the control plane's own")
	return c
}
