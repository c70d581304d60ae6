package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control"
)

// controlFlags are the flags of a control plane, shared with `up`.
type controlFlags struct {
	config   control.Config
	logLevel string
}

func (f *controlFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.config.Listen, "listen", control.DefaultListen, "`ADDRESS` where proxies and remote CLIs connect (TLS); port 0 takes a free one, none for sockets only")
	flags.StringVar(&f.config.Dashboard, "dashboard", control.DefaultDashboard, "`ADDRESS` of the dashboard and the Prometheus query API, or none")
	flags.StringSliceVar(&f.config.DashboardHosts, "dashboard-host", nil, "further names under which a browser may ask for the dashboard (localhost always may)")
	flags.StringVar(&f.config.DashboardCertificate, "dashboard-certificate", "", "PEM `FILE` with a certificate that browsers trust: the dashboard speaks TLS, at any address")
	flags.StringVar(&f.config.DashboardKey, "dashboard-key", "", "PEM `FILE` with the key of --dashboard-certificate")
	flags.StringVar(&f.config.SignIn.Issuer, "dashboard-oidc-issuer", "", "`URL` of an OpenID Connect provider at whose page operators log in to the dashboard")
	flags.StringVar(&f.config.SignIn.ClientID, "dashboard-oidc-client", "", "`ID` of the dashboard as a client there, and audience of Operators' oidc")
	flags.StringVar(&f.config.SignIn.SecretFile, "dashboard-oidc-secret-file", "", "`FILE` with the client's secret, if it has one")
	flags.StringVar(&f.config.SignIn.Redirect, "dashboard-oidc-redirect", "", "`URL` to which browsers come back, as it is registered there: https://HOST/login/callback")
	flags.StringSliceVar(&f.config.SignIn.Scopes, "dashboard-oidc-scopes", nil, "`SCOPES` to ask for beside openid, such as email or groups")
	flags.StringVar(&f.config.TrustDomain, "trust-domain", "", "trust `DOMAIN` of a new mesh (default mesh.local)")
	flags.StringSliceVar(&f.config.Etcd.Endpoints, "etcd-endpoints", nil, "`URLS` of an etcd cluster of yours, instead of the embedded one")
	flags.StringVar(&f.config.Etcd.CAFile, "etcd-ca", "", "PEM `FILE` with the roots of that etcd")
	flags.StringVar(&f.config.Etcd.CertFile, "etcd-certificate", "", "PEM `FILE` with the client certificate for it")
	flags.StringVar(&f.config.Etcd.KeyFile, "etcd-key", "", "PEM `FILE` with that certificate's key")
	flags.StringVar(&f.config.CAFiles.IssuerChain, "ca-issuer", "", "PEM `FILE` with the chain of an issuing certificate of yours, or a directory with tls.crt, tls.key and ca.crt (a Secret of cert-manager), followed as it is renewed")
	flags.StringVar(&f.config.CAFiles.IssuerKey, "ca-key", "", "PEM `FILE` with the key of --ca-issuer")
	flags.StringVar(&f.config.CAFiles.Roots, "ca-roots", "", "PEM `FILE` with the roots that --ca-issuer leads to")
	flags.StringVar(&f.config.CAFiles.Root, "ca-root", "", "PEM `FILE` with a root of yours, under which issuing certificates are made here, or a directory with tls.crt and tls.key")
	flags.StringVar(&f.config.CAFiles.RootKey, "ca-root-key", "", "PEM `FILE` with the key of --ca-root; both are copied into the data directory at the first start")
	flags.StringVar(&f.config.CAFiles.Signer, "ca-signer", "", "`ADDRESS` of a tulle-signer, unix:PATH, that has the key of --ca-issuer or --ca-root")
	flags.StringVar(&f.config.Kubernetes.URL, "kubernetes-api", "", "`URL` of a Kubernetes API server that says whose projected service account tokens (audience tulle) are: https://HOST:PORT")
	flags.StringVar(&f.config.Kubernetes.CAFile, "kubernetes-ca", "", "PEM `FILE` with the roots of its certificate (default: a pod's)")
	flags.StringVar(&f.config.Kubernetes.TokenFile, "kubernetes-token-file", "", "`FILE` with the token of an account that may create tokenreviews (default: a pod's)")
	flags.StringVar(&f.config.WrappingKey, "ca-wrapping-key", "", "`FILE` with 32 random bytes that encrypt the CA's keys on disk; without, the systemd credential "+ca.CredentialName+", if there is one")
	flags.StringVar(&f.config.JWTIssuer, "jwt-issuer", "", "iss claim of JWT-SVIDs, an https `URL` at which a proxy of yours has the control plane's /.well-known/openid-configuration (default spiffe://TRUST-DOMAIN)")
	flags.DurationVar(&f.config.Retention, "retention", 6*time.Hour, "how long metrics are kept")
	flags.StringVar(&f.logLevel, "log-level", "info", "`LEVEL`: debug, info, warn or error")
}

// dashboardURL is where a browser finds the dashboard.
func (f *controlFlags) dashboardURL(at control.Addresses) string {
	if f.config.DashboardCertificate != "" {
		return "https://" + at.Dashboard + "/"
	}
	return "http://" + at.Dashboard + "/"
}

func (f *controlFlags) level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return 0, couldNot("", "--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	return level, nil
}

func (a *app) controlPlaneCommand() *cobra.Command {
	var f controlFlags
	c := &cobra.Command{
		Use:   "control-plane",
		Short: "Run a control plane until it is told to stop",
		Long: `Runs the control plane of a mesh in the foreground: it keeps the objects, issues
identities, tells proxies what they need to know, collects their figures and serves
the dashboard. It stops in order on SIGINT or SIGTERM; proxies go on without it.

Everything it keeps is in --data-dir; one control plane runs in each.`,
		Example: `  tulle control-plane
  tulle control-plane --data-dir /var/lib/tulle --listen 0.0.0.0:9440
  tulle control-plane --etcd-endpoints https://etcd-1:2379,https://etcd-2:2379 --etcd-ca ca.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level, err := f.level()
			if err != nil {
				return err
			}
			if f.config.DataDir, err = a.dir(); err != nil {
				return err
			}
			f.config.Version = version()
			f.config.Log = slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level}))
			f.config.Ready = func(at control.Addresses) {
				fmt.Fprintf(a.Out, "control plane ready: data directory %s\n", f.config.DataDir)
				if at.Listen != "" {
					fmt.Fprintf(a.Out, "proxies and CLIs:    %s\n", at.Listen)
				}
				if at.Dashboard != "" {
					fmt.Fprintf(a.Out, "dashboard:           %s\n", f.dashboardURL(at))
				}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return runControl(ctx, f.config)
		},
	}
	f.add(c)
	return c
}

func runControl(ctx context.Context, config control.Config) error {
	c, err := control.New(config)
	if err != nil {
		return couldNot("see `tulle control-plane --help`", "%w", err)
	}
	err = c.Run(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		return wrong("", "control plane: %w", err)
	}
	return nil
}
