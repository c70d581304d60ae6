package control

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/identity"
)

// This file is where and how the dashboard is served.

// webCertificate is the certificate that browsers see, read again when its file
// changed. Safe for concurrent use.
type webCertificate struct {
	chain, key string
	log        *slog.Logger

	mu      sync.Mutex
	have    *tls.Certificate
	read    time.Time // when it was looked at last
	changed time.Time // the key's time of change then
}

// webCertificateEvery is how often a changed certificate is looked for.
const webCertificateEvery = 10 * time.Second

// openWeb reads the certificate; nil when there is none.
func (c *Config) openWeb() (*webCertificate, error) {
	if c.DashboardCertificate == "" {
		return nil, nil
	}
	w := &webCertificate{chain: c.DashboardCertificate, key: c.DashboardKey, log: c.Log}
	if err := w.load(time.Now()); err != nil {
		return nil, fmt.Errorf("--dashboard-certificate: %w", err)
	}
	return w, nil
}

// load reads both files. The caller holds mu, or is alone.
func (w *webCertificate) load(now time.Time) error {
	info, err := os.Stat(w.key)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(w.chain, w.key)
	if err != nil {
		return err
	}
	w.have, w.read, w.changed = &pair, now, info.ModTime()
	return nil
}

// get returns the certificate; a new one that can't be read leaves the old one.
func (w *webCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.read) >= webCertificateEvery {
		w.read = now
		if info, err := os.Stat(w.key); err == nil && !info.ModTime().Equal(w.changed) {
			if err := w.load(now); err != nil {
				w.log.Warn("the dashboard's new certificate can't be used, the present one stays", "error", err)
			}
		}
	}
	return w.have, nil
}

// names are the hosts that the certificate is for.
func (w *webCertificate) names() []string {
	if w == nil {
		return nil
	}
	names := append([]string(nil), w.have.Leaf.DNSNames...)
	for _, ip := range w.have.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// config is TLS for browsers: they may show an SVID of this mesh.
func (w *webCertificate) config(own *identity.Credentials) *tls.Config {
	verify := own.JoinServerConfig().VerifyConnection
	config := &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, GetCertificate: w.get, NextProtos: []string{protocolGRPC, protocolHTTP},
		ClientAuth: tls.RequestClientCert, VerifyConnection: verify}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		// Naming the roots, a browser asks its user only where there is a choice.
		c := config.Clone()
		c.GetConfigForClient = nil
		c.ClientCAs = x509.NewCertPool()
		if s := own.SVID(); s != nil {
			for _, root := range own.Bundle().Roots(s.ID.TrustDomain) {
				c.ClientCAs.AddCert(root)
			}
		}
		return c, nil
	}
	return config
}

// serve serves over TLS, where there is a certificate.
func (w *webCertificate) serve(s *http.Server, l net.Listener, own *identity.Credentials) error {
	if w == nil {
		return s.Serve(l)
	}
	s.TLSConfig = w.config(own)
	return s.ServeTLS(l, "", "")
}

// checkWeb says whether the dashboard may be served at an address.
func (c *Config) checkWeb(l net.Listener, w *webCertificate) error {
	if l == nil || w != nil || len(c.DashboardHosts) > 0 || l.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return nil
	}
	return fmt.Errorf("--dashboard %s: without TLS the dashboard listens on loopback addresses only: give --dashboard-certificate and --dashboard-key, or put a reverse proxy with TLS in front and name the host it serves with --dashboard-host", c.Dashboard)
}

// checkWebFiles says what is wrong with the flags.
func (c *Config) checkWebFiles() error {
	if (c.DashboardCertificate == "") != (c.DashboardKey == "") {
		return errors.New("--dashboard-certificate and --dashboard-key belong together: give both")
	}
	return nil
}

// logins makes login links; nil without a dashboard.
func (c *Config) logins(at string, w *webCertificate, s *operator.Sessions) func(*operator.Who) *client.DashboardLogin {
	if at == "" {
		return nil
	}
	scheme, host := "http://", at
	if w != nil {
		scheme = "https://"
	}
	if h, port, err := net.SplitHostPort(at); err == nil {
		// A certificate is for names, and nobody can ask for "all addresses".
		names := append(append([]string(nil), c.DashboardHosts...), w.names()...)
		if ip := net.ParseIP(h); len(names) > 0 && (w != nil || ip != nil && ip.IsUnspecified()) {
			host = net.JoinHostPort(names[0], port)
		}
	}
	return func(who *operator.Who) *client.DashboardLogin {
		code, ends := s.Invite(who)
		path := "/login#" + code
		return &client.DashboardLogin{URL: scheme + host + path, Path: path, Expires: ends, Operator: who.Name, Role: string(who.Role)}
	}
}
