package control

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/view"
	wire "tulle.dev/tulle/internal/wire/control"
)

// externalEtcd runs an etcd as somebody else would, with TLS and client
// certificates, and returns its configuration.
func externalEtcd(t *testing.T) EtcdConfig {
	t.Helper()
	dir := shortDir(t)
	// Any CA will do; Tulle's own makes certificates without DNS names or
	// addresses, so this one is made by hand.
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "etcd"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 66, 0, 1)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c := EtcdConfig{CAFile: filepath.Join(dir, "cert.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	if err := identity.WriteCertificates(c.CertFile, [][]byte{der}); err != nil {
		t.Fatal(err)
	}
	if err := identity.WriteKey(c.KeyFile, key); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.66.0.1:0") // nobody else asks for a port there
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "etcd-tls", dir, address)
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		hold.Close()
		cmd.Wait()
	})
	c.Endpoints = []string{"https://" + address}
	return c
}

// serveTLS is the child: an etcd with its files in dir, until stdin ends.
func serveTLS(dir, address string) error {
	c := embed.NewConfig()
	c.Dir = filepath.Join(dir, "data")
	c.LogLevel = "panic"
	client := url.URL{Scheme: "https", Host: address}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(dir, "peer.sock")}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.Name + "=" + peer.String()
	pem, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	c.ClientTLSInfo = transport.TLSInfo{CertFile: pem, KeyFile: key, TrustedCAFile: pem, ClientCertAuth: true}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	defer e.Close()
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// TestReplicas runs two control planes on one external etcd: both serve, they
// agree on objects and leases, one is elected, and when it goes the other takes
// over with its proxies.
func TestReplicas(t *testing.T) {
	etcd := externalEtcd(t)
	one, two := shortDir(t), shortDir(t)
	with := func(c *Config) { c.Etcd = etcd }
	a := startWith(t, one, with)
	// Another root is refused; a copy of the first one's CA is right.
	c, err := New(Config{DataDir: two, Listen: None, Dashboard: None, Etcd: etcd})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "CA root") {
		t.Fatalf("another root: %v", err)
	}
	files := CAFiles{IssuerChain: filepath.Join(one, "ca/issuer.pem"), IssuerKey: filepath.Join(one, "ca/issuer-key.pem"), Roots: filepath.Join(one, "ca/root.pem")}
	b := startWith(t, two, func(c *Config) { with(c); c.CAFiles = files })

	a.apply(cartService)
	eventually(t, "the other sees the service", func() bool {
		_, err := b.client.Endpoints(t.Context(), "cart")
		return err == nil
	})
	address := netip.MustParseAddrPort("127.0.0.1:9")
	proxy := a.proxy("cart-1", a.token("default/cart", "cart"), wire.Registration{Service: "cart.default", Port: 80, App: address, Mesh: address, Protocol: view.HTTP})
	eventually(t, "a's proxy is connected", func() bool { return proxy.Link().Connected })
	eventually(t, "the other knows its endpoint", func() bool { return len(b.endpoints("cart")) == 1 })
	if list, err := b.client.Proxies(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("the other has %d proxies, want none of its own", len(list))
	}
	// A token made by one is good at the other, once.
	token := a.token("default/web")
	web := b.proxy("web", token)
	eventually(t, "b's proxy is connected", func() bool { return web.Link().Connected })
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	b.apply(strings.ReplaceAll(cartService, "cart", "after"))
	eventually(t, "the other writes statuses when it is elected", func() bool {
		files, err := store.LoadTLS(etcd.CAFile, etcd.CertFile, etcd.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		s, err := store.OpenEtcd(t.Context(), store.EtcdConfig{Endpoints: etcd.Endpoints, TLS: files})
		if err != nil {
			return false
		}
		defer s.Close()
		it, err := s.Get(t.Context(), "/tulle/leader")
		return err == nil && len(it.Value) > 0
	})
	if id, err := b.client.Identity(t.Context()); err != nil || id.TrustDomain != "mesh.local" {
		t.Errorf("%+v %v", id, err)
	}
}

// TestEtcdOverTLS: files that aren't there or wrong are named.
func TestEtcdOverTLS(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []EtcdConfig{
		{Endpoints: []string{"https://127.0.0.1:1"}, CAFile: bad},
		{Endpoints: []string{"https://127.0.0.1:1"}, CertFile: bad, KeyFile: bad},
	} {
		cp, err := New(Config{DataDir: shortDir(t), Listen: None, Dashboard: None, Etcd: c})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := cp.Run(ctx); err == nil || !strings.Contains(err.Error(), "etcd") {
			t.Errorf("%+v: %v", c, err)
		}
		cancel()
	}
	if _, err := New(Config{DataDir: "x", Etcd: EtcdConfig{Endpoints: []string{"http://etcd.example:2379"}}}); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("plain http to another machine: %v", err)
	}
}
