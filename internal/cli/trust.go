package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
)

func (a *app) trustCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "trust",
		Short: "Which roots the mesh trusts, and who has taken them",
		Long: `Shows the roots that the mesh's proxies trust, which of them signs certificates, and
how far each proxy has followed a change. "tulle trust rotate" changes the root.`,
		Example: `  tulle trust
  tulle trust -o json | jq '.proxies[] | select(.waiting)'
  tulle trust rotate --watch`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(a.trustRotateCommand(), a.trustBundleCommand())
	ask := func(q *question) (*client.Trust, error) { return q.conn.Trust(q.ctx) }
	return asks(a, c, ask, func(_ *question, t *client.Trust) error {
		a.printTrust(t)
		return nil
	}, formatJSON, formatYAML)
}

func (a *app) trustBundleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "bundle",
		Short: "Print the mesh's roots, for another mesh to trust",
		Long: `Prints the roots as PEM: what another mesh begins with in its Mesh object's
federatedTrustDomains[].bundle. From then on it follows our bundle by itself, at
https://CONTROL-PLANE/.well-known/spiffe/bundle.`,
		Example: `  tulle trust bundle > our-roots.pem`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			id, err := conn.Identity(ctx)
			if err != nil {
				return advise(err)
			}
			fmt.Fprint(a.Out, id.Bundle)
			return nil
		},
	}
}

func (a *app) printTrust(t *client.Trust) {
	fmt.Fprintf(a.Out, "Trust domain %s, roots version %d: %s\n\n", t.TrustDomain, t.Version, trustStage(t))
	roots := newTable("ROOT (SHA-256)", "SIGNS", "FROM", "UNTIL")
	for _, r := range t.Roots {
		signs := "no"
		if r.Signs {
			signs = "yes"
		}
		roots.row(r.SHA256[:min(len(r.SHA256), 32)]+"…", signs, r.NotBefore.Local().Format(time.DateOnly), r.NotAfter.Local().Format(time.DateOnly))
	}
	roots.write(a.Out)
	if len(t.JWTKeys) > 0 {
		fmt.Fprintln(a.Out)
		keys := newTable("KEY OF JWT-SVIDS", "SIGNS", "FROM", "BELIEVED UNTIL")
		for _, k := range t.JWTKeys {
			signs, end := "no", "-"
			switch {
			case k.Signs:
				signs = "yes"
			case k.Elsewhere:
				signs = "elsewhere"
			}
			if !k.Until.IsZero() {
				end = k.Until.Local().Format(time.DateTime)
			}
			keys.row(k.ID, signs, k.From.Local().Format(time.DateTime), end)
		}
		keys.write(a.Out)
	}
	if len(t.Proxies) == 0 {
		return
	}
	fmt.Fprintln(a.Out)
	proxies := newTable("PROXY", "CONNECTED", "NEWEST ROOTS", "CERTIFICATE", "ENDS", "WAITING")
	yes := func(b bool, good, bad string) string {
		if b {
			return good
		}
		return a.paint.warn(bad)
	}
	for _, p := range t.Proxies {
		proxies.row(p.Name+"."+p.Namespace, yes(p.Connected, "yes", "no"), yes(p.Roots, "yes", "not yet"),
			yes(p.Certificate, "of the signing root", "of the other root"), p.CertificateExpires.Local().Format(time.DateTime), orDash(p.Waiting))
	}
	proxies.write(a.Out)
}

// trustStage says in words where a change stands.
func trustStage(t *client.Trust) string {
	switch {
	case t.Stage == "added" && t.Back:
		return "the old root signs again; the new one goes when no proxy has a certificate of it"
	case t.Stage == "added":
		return "a new root is trusted and will sign when every proxy knows it"
	case t.Stage == "switched":
		return "the new root signs; the old one goes when no proxy has a certificate of it"
	}
	return "steady"
}

func (a *app) trustRotateCommand() *cobra.Command {
	var watch, back bool
	c := &cobra.Command{
		Use:   "rotate [--watch] [--back]",
		Short: "Change the CA's root without a failed request",
		Long: `Makes a new root and takes the mesh over to it: first every proxy is told to trust it
beside the old one, then certificates come from it and every proxy renews its own, then
the old one is trusted no more. No step is taken before every proxy is ready for it. A
proxy that is away is waited for until its certificate ends.

It goes on in the control plane, whether or not somebody watches, and after a restart.
--back turns it round for as long as the old root is trusted. Join tokens that were made
before the new root signs don't work afterwards. Where another mesh follows our bundle,
each step lasts long enough for it to see.

JWT-SVIDs get another key too, which signs as soon as everybody can know it. --back
doesn't change that.`,
		Example: `  tulle trust rotate --watch
  tulle trust rotate --back --watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			action := client.TrustRotate
			if back {
				action = client.TrustBack
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			t, err := conn.ChangeTrust(ctx, action)
			if err != nil {
				return advise(err)
			}
			if !watch {
				fmt.Fprintf(a.Out, "%s\n`tulle trust` says how far it is.\n", trustStage(t))
				return nil
			}
			return a.watchTrust(cmd.Context(), conn)
		},
	}
	c.Flags().BoolVar(&watch, "watch", false, "stay and tell the progress, until it is done")
	c.Flags().BoolVar(&back, "back", false, "go back to the root from before")
	return c
}

// watchPause is how often a change is asked about.
const watchPause = time.Second

// watchTrust tells each thing that changes once.
func (a *app) watchTrust(ctx context.Context, conn *client.Client) error {
	said := ""
	for {
		asked, cancel := context.WithTimeout(ctx, a.timeout)
		t, err := conn.Trust(asked)
		cancel()
		if err != nil {
			return advise(err)
		}
		var waiting []string
		const most = 5
		for _, p := range t.Proxies {
			if p.Waiting != "" && len(waiting) < most {
				waiting = append(waiting, p.Name+"."+p.Namespace+" "+p.Waiting)
			}
		}
		line := trustStage(t)
		if t.Waiting > 0 {
			line += fmt.Sprintf("\n  waiting for %d of %d proxies: %s", t.Waiting, len(t.Proxies), strings.Join(waiting, "; "))
			if t.Waiting > len(waiting) {
				line += "; …"
			}
		}
		if line != said {
			said = line
			fmt.Fprintf(a.Out, "%s  %s\n", a.paint.faint(a.now().Format(time.TimeOnly)), line)
		}
		if t.Stage == "steady" {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchPause):
		}
	}
}
