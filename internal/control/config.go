package control

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tulle.dev/tulle/internal/control/attest"
	"tulle.dev/tulle/internal/identity"
)

// Default addresses.
const (
	DefaultListen    = "127.0.0.1:9440"
	DefaultDashboard = "127.0.0.1:9441"
	// ControlSocket and ProxySocket are files of the data directory.
	ControlSocket = "control.sock"
	ProxySocket   = "proxy.sock"
	// None as an address means not to listen.
	None = "none"
)

// Config is all a control plane is told at its start. The zero value with a
// DataDir works.
type Config struct {
	// DataDir holds everything that is kept: ca, etcd, tsdb, the sockets.
	// It is made with mode 0700.
	DataDir string
	// Listen is the TCP address for proxies and remote CLIs; default
	// DefaultListen; port 0 takes a free one (see ready); "none" for none.
	Listen string
	// Dashboard is the address of dashboard and query API; default
	// DefaultDashboard; "none" for none.
	Dashboard string
	// DashboardHosts are names, besides those of the loopback interface, under
	// which a browser may ask for the dashboard: behind a reverse proxy.
	DashboardHosts []string
	// DashboardCertificate and DashboardKey are PEM files of a certificate that
	// browsers trust: with them the dashboard speaks TLS.
	DashboardCertificate, DashboardKey string
	// SignIn has operators log in to the dashboard at an OpenID Connect provider's page;
	// empty has none.
	SignIn SignInConfig
	// TrustDomain is used when the CA is first made; default mesh.local. A CA
	// that exists must be of that one.
	TrustDomain string
	// Etcd is an external etcd; without endpoints an embedded one is started.
	Etcd EtcdConfig
	// EtcdCommand starts the embedded etcd: a program and its first arguments;
	// "--dir DIR" is added. Default: this program with the argument "etcd".
	EtcdCommand []string
	// CAFiles brings an issuing CA along, instead of one that is made.
	CAFiles CAFiles
	// Kubernetes says whose service account tokens are; without a URL none are
	// taken.
	Kubernetes KubernetesConfig
	// JWTIssuer is the iss claim of JWT-SVIDs; default spiffe://TRUST-DOMAIN. With an
	// https URL OpenID Connect Discovery is served for it.
	JWTIssuer string
	// WrappingKey is a file that encrypts the CA's keys on disk; without, the
	// systemd credential of that name, and without that they lie in the clear.
	WrappingKey string
	// Retention bounds the metrics that are kept; default six hours.
	Retention time.Duration
	// Version is what `tulle version` says.
	Version string
	// Log is where the control plane says what happens; discarded when nil.
	Log *slog.Logger
	// Ready is called once, when everything is served, with the addresses.
	Ready func(Addresses)
}

// EtcdConfig names an external etcd.
type EtcdConfig struct {
	Endpoints                 []string // https://HOST:PORT
	CAFile, CertFile, KeyFile string
}

// KubernetesConfig names a Kubernetes API server. The files default to those of a
// pod.
type KubernetesConfig struct {
	URL, CAFile, TokenFile string
}

// CAFiles say what of the CA is brought along. All but Signer are PEM files.
type CAFiles struct {
	// IssuerChain is the issuing certificate, then what is between it and the
	// root; IssuerKey its key; Roots the trust roots. A directory as IssuerChain, or
	// as Root, is a mounted Secret with all of them (secret.go).
	IssuerChain, IssuerKey, Roots string
	// Root is a root under which issuing certificates are made here, and RootKey
	// its key: taken into the data directory once.
	Root, RootKey string
	// Signer is where the key of IssuerChain or Root is, instead of in a file:
	// unix:PATH.
	Signer string
}

// SignerPrefix begins CAFiles.Signer.
const SignerPrefix = "unix:"

// check says what is wrong with them, naming the flags.
func (f *CAFiles) check() error {
	given := *f
	f = given.named()
	issuer, root := f.IssuerChain != "" || f.IssuerKey != "" || f.Roots != "", f.Root != "" || f.RootKey != ""
	switch {
	case *f == CAFiles{}:
	case issuer && root:
		return errors.New("--ca-root is for issuing certificates that are made here, --ca-issuer for one of yours: give one of them")
	case f.Signer != "" && (!strings.HasPrefix(f.Signer, SignerPrefix) || f.Signer == SignerPrefix):
		return fmt.Errorf("--ca-signer %q: want unix:PATH", f.Signer)
	case f.Signer != "" && (f.IssuerKey != "" || f.RootKey != ""):
		return errors.New("--ca-signer says that the key is with a signer: leave --ca-key and --ca-root-key out")
	case f.Signer != "" && !issuer && !root:
		return errors.New("--ca-signer has the key of a certificate: give that, with --ca-issuer and --ca-roots or with --ca-root")
	case issuer && (f.IssuerChain == "" || f.IssuerKey == "" && f.Signer == "" || f.Roots == ""):
		return errors.New("--ca-issuer, --ca-key (or --ca-signer) and --ca-roots belong together: give all three")
	case root && (f.Root == "" || f.RootKey == "" && f.Signer == ""):
		return errors.New("--ca-root and --ca-root-key (or --ca-signer) belong together: give both")
	}
	return nil
}

// Addresses are where a running control plane listens.
type Addresses struct {
	ControlSocket, ProxySocket string
	Listen, Dashboard          string // HOST:PORT, empty for none
}

// Validate says what is wrong with the configuration, naming the flag.
func (c *Config) Validate() error {
	if c.DataDir == "" {
		return fmt.Errorf("--data-dir is missing: say where the control plane keeps its data")
	}
	if c.TrustDomain != "" {
		if _, err := identity.ParseTrustDomain(c.TrustDomain); err != nil {
			return fmt.Errorf("--trust-domain: %w", err)
		}
	}
	for _, e := range c.Etcd.Endpoints {
		if !strings.HasPrefix(e, "https://") && !strings.HasPrefix(e, "http://127.0.0.1:") && !strings.HasPrefix(e, "http://[::1]:") && !strings.HasPrefix(e, "unix://") {
			return fmt.Errorf("--etcd-endpoints: %q: want https://HOST:PORT (http only on loopback)", e)
		}
	}
	if k := c.Kubernetes; k.URL != "" {
		if err := attest.CheckURL(k.URL); err != nil {
			return fmt.Errorf("--kubernetes-api: %w", err)
		}
	}
	if err := checkJWTIssuer(c.JWTIssuer); err != nil {
		return fmt.Errorf("--jwt-issuer: %w", err)
	}
	if err := c.SignIn.check(); err != nil {
		return err
	}
	if err := c.checkWebFiles(); err != nil {
		return err
	}
	return c.CAFiles.check()
}

func (c *Config) fill() error {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.Dashboard == "" {
		c.Dashboard = DefaultDashboard
	}
	if c.Kubernetes.CAFile == "" {
		c.Kubernetes.CAFile = attest.DefaultCA
	}
	if c.Kubernetes.TokenFile == "" {
		c.Kubernetes.TokenFile = attest.DefaultToken
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.EtcdCommand) == 0 {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program to start etcd from it: %w", err)
		}
		c.EtcdCommand = []string{self, "etcd"}
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return err
	}
	c.DataDir = dir
	return nil
}
