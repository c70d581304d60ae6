package identity_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/identity/identitytest"
)

// rename replaces the URI names of a template.
func rename(uris ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = nil
		for _, s := range uris {
			u, err := url.Parse(s)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// TestVerify holds the rules of the X.509-SVID specification one by one, and
// asks go-spiffe the same.
func TestVerify(t *testing.T) {
	home, other := identitytest.New(t, "mesh.local"), identitytest.New(t, "other.example")
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	nonCritical := func(oid ...int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			value, _ := asn1.Marshal(asn1.BitString{Bytes: []byte{0x80}, BitLength: 1})
			c.KeyUsage = 0
			c.ExtraExtensions = []pkix.Extension{{Id: oid, Value: value}}
		}
	}
	for _, test := range []struct {
		name   string
		issuer *identitytest.Domain
		change func(*x509.Certificate)
		want   string // of the error; empty: accepted
		// lenient: go-spiffe accepts what this refuses, and why that is right.
		lenient string
	}{
		{name: "right", issuer: home},
		{name: "no extended key usage", issuer: home, change: func(c *x509.Certificate) { c.ExtKeyUsage = nil }},
		{name: "no URI name", issuer: home, change: rename(), want: "0 URI names"},
		{name: "two URI names", issuer: home, change: rename("spiffe://mesh.local/ns/default/sa/web", "spiffe://mesh.local/ns/default/sa/admin"), want: "2 URI names"},
		{name: "second URI of another scheme", issuer: home, change: rename("spiffe://mesh.local/ns/default/sa/web", "https://example/"), want: "2 URI names"},
		{name: "not SPIFFE", issuer: home, change: rename("https://mesh.local/ns/default/sa/web"), want: "begin with spiffe://"},
		{name: "no path", issuer: home, change: rename("spiffe://mesh.local"), want: "want spiffe://",
			lenient: "the specification says that a leaf's id has a path"},
		{name: "another form of path", issuer: home, change: rename("spiffe://mesh.local/web"), want: "want spiffe://",
			lenient: "Tulle's ids have a namespace and a service account"},
		{name: "query", issuer: home, change: rename("spiffe://mesh.local/ns/default/sa/web?x"), want: "not allowed"},
		{name: "port", issuer: home, change: rename("spiffe://mesh.local:1/ns/default/sa/web"), want: "not allowed"},
		{name: "dot segment", issuer: home, change: rename("spiffe://mesh.local/ns/../sa/web"), want: "not allowed"},
		{name: "upper case domain", issuer: home, change: rename("spiffe://Mesh.local/ns/default/sa/web"), want: "not allowed"},
		{name: "CA as leaf", issuer: home, change: func(c *x509.Certificate) {
			c.IsCA = true
			c.KeyUsage |= x509.KeyUsageCertSign
		}, want: "certificate authority"},
		{name: "may sign certificates", issuer: home, change: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, want: "signing certificates"},
		{name: "may sign lists", issuer: home, change: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }, want: "signing certificates"},
		{name: "no key usage", issuer: home, change: func(c *x509.Certificate) { c.KeyUsage = 0 }, want: "no key usage",
			lenient: "the specification says that the extension must be set"},
		{name: "key usage not critical", issuer: home, change: nonCritical(2, 5, 29, 15), want: "isn't critical",
			lenient: "the specification says that it must be critical"},
		{name: "no digital signature", issuer: home, change: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }, want: "digital signatures",
			lenient: "the specification says that a leaf must have it"},
		{name: "server only", issuer: home, change: func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}, want: "both client and server", lenient: "the specification says that both must be set"},
		{name: "foreign issuer", issuer: other, want: "unknown authority"},
		{name: "foreign id by the home root", issuer: home, change: rename("spiffe://other.example/ns/default/sa/web"), want: "unknown authority"},
		{name: "untrusted domain", issuer: home, change: rename("spiffe://third.example/ns/default/sa/web"), want: "not trusted"},
		{name: "expired", issuer: home, change: func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}, want: "expired"},
		{name: "not yet", issuer: home, change: func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		}, want: "not yet valid"},
		{name: "clock behind a little", issuer: home, change: func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(50*time.Second), time.Now().Add(time.Hour)
		}, lenient: "a minute of skew is tolerated here"},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaf := test.issuer.Certificate(home.ID("web"), key.Public(), time.Hour, test.change)
			id, err := identitytest.Bundle(t, home, other).Verify([]*x509.Certificate{leaf}, time.Now())
			if test.want == "" && (err != nil || id != home.ID("web")) {
				t.Errorf("got %v, %v, want it accepted", id, err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want an error about %q", err, test.want)
			}
			bundles := x509bundle.NewSet(
				x509bundle.FromX509Authorities(spiffeid.RequireTrustDomainFromString("mesh.local"), []*x509.Certificate{home.Root}),
				x509bundle.FromX509Authorities(spiffeid.RequireTrustDomainFromString("other.example"), []*x509.Certificate{other.Root}))
			_, _, oracle := x509svid.Verify([]*x509.Certificate{leaf}, bundles)
			if (oracle == nil) != (err == nil) && test.lenient == "" {
				t.Errorf("go-spiffe says %v, this says %v", oracle, err)
			}
			if (oracle == nil) == (err == nil) && test.lenient != "" {
				t.Errorf("go-spiffe agrees (%v), the note is out of date", oracle)
			}
		})
	}
}

func TestVerifyChain(t *testing.T) {
	d := identitytest.New(t, "mesh.local")
	leaf := d.SVID(d.ID("web")).Leaf
	b := identitytest.Bundle(t, d)
	long := []*x509.Certificate{leaf}
	for range 10 {
		long = append(long, d.Root)
	}
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		want  string
	}{
		"empty":     {nil, "no certificate"},
		"with root": {[]*x509.Certificate{leaf, d.Root}, ""},
		"too long":  {long, "want at most 8"},
		"a leaf signs": {[]*x509.Certificate{leaf, d.SVID(d.ID("evil")).Leaf},
			"may not sign"},
		"signer of another domain": {[]*x509.Certificate{leaf, identitytest.New(t, "other.example").Root}, "want spiffe://mesh.local"},
	} {
		_, err := b.Verify(test.chain, time.Now())
		if got := fmt.Sprint(err); test.want == "" && err != nil || !strings.Contains(got, test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if _, err := (*identity.Bundle)(nil).Verify([]*x509.Certificate{leaf}, time.Now()); err == nil {
		t.Error("accepted without a bundle")
	}
}

// shake does a TLS handshake over loopback and returns each side's error.
func shake(t *testing.T, client, server *tls.Config) (clientErr, serverErr error, cs tls.ConnectionState) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		err = s.Handshake()
		if err == nil {
			cs = s.ConnectionState()
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	tc := tls.Client(c, client)
	clientErr = tc.Handshake()
	if clientErr == nil {
		_, clientErr = tc.Read(make([]byte, 1)) // a refused client learns it here
	} else {
		c.Close()
	}
	return clientErr, <-done, cs
}

func TestCredentials(t *testing.T) {
	d := identitytest.New(t, "mesh.local")
	stranger := identitytest.New(t, "mesh.local") // same name, another root
	web, cart := d.Credentials(d.ID("web")), d.Credentials(d.ID("cart"))

	client, server, cs := shake(t, web.ClientConfig(d.ID("cart"), "tulle-h1"), cart.ServerConfig(nil, "tulle-h1", "tulle-tcp"))
	if client != nil || server != nil {
		t.Errorf("right: client %v, server %v", client, server)
	}
	if identity.Peer(cs) != d.ID("web") || cs.NegotiatedProtocol != "tulle-h1" || cs.Version != tls.VersionTLS13 {
		t.Errorf("peer %v, protocol %q, version %x", identity.Peer(cs), cs.NegotiatedProtocol, cs.Version)
	}
	client, _, _ = shake(t, web.ClientConfig(d.ID("payment")), cart.ServerConfig(nil))
	if client == nil || !strings.Contains(client.Error(), "want spiffe://mesh.local/ns/default/sa/payment") {
		t.Errorf("another server: %v", client)
	}
	_, server, _ = shake(t, stranger.Credentials(d.ID("web")).ClientConfig(identity.ID{}), cart.ServerConfig(nil))
	if server == nil {
		t.Error("a client of a stranger's root was accepted")
	}
	client, _, _ = shake(t, web.ClientConfig(d.ID("cart")), stranger.Credentials(d.ID("cart")).ServerConfig(nil))
	if client == nil || !strings.Contains(client.Error(), "unknown authority") {
		t.Errorf("a server of a stranger's root: %v", client)
	}
	_, server, _ = shake(t, web.AnonymousConfig(d.ID("cart")), cart.ServerConfig(nil))
	if server == nil {
		t.Error("a client without a certificate was accepted")
	}
	_, server, _ = shake(t, web.ClientConfig(d.ID("cart")), cart.ServerConfig(func(id identity.ID) error { return fmt.Errorf("not %v", id) }))
	if server == nil || !strings.Contains(server.Error(), "not spiffe://mesh.local/ns/default/sa/web") {
		t.Errorf("allow: %v", server)
	}

	// First contact: pinned by the root's sum.
	control := d.Credentials(identity.ControlPlane("mesh.local"))
	pin := sha256.Sum256(d.Root.Raw)
	client, server, cs = shake(t, identity.PinnedConfig(pin, nil), control.JoinServerConfig())
	if client != nil || server != nil || !identity.Peer(cs).IsZero() {
		t.Errorf("pinned: client %v, server %v, peer %v", client, server, identity.Peer(cs))
	}
	client, _, _ = shake(t, identity.PinnedConfig(sha256.Sum256(stranger.Root.Raw), nil), control.JoinServerConfig())
	if client == nil || !strings.Contains(client.Error(), "another mesh") {
		t.Errorf("another pin: %v", client)
	}
	// A workload with the right root is still not the control plane.
	client, _, _ = shake(t, identity.PinnedConfig(pin, nil), cart.JoinServerConfig())
	if client == nil || !strings.Contains(client.Error(), "sa/control-plane") {
		t.Errorf("a workload as control plane: %v", client)
	}
	client, server, cs = shake(t, web.ClientConfig(identity.ControlPlane("mesh.local")), control.JoinServerConfig())
	if client != nil || server != nil || identity.Peer(cs) != d.ID("web") {
		t.Errorf("renewal: client %v, server %v, peer %v", client, server, identity.Peer(cs))
	}
	_, server, _ = shake(t, stranger.Credentials(d.ID("web")).ClientConfig(identity.ID{}), control.JoinServerConfig())
	if server == nil {
		t.Error("a wrong certificate was accepted where none is needed")
	}
	var none identity.Credentials
	client, _, _ = shake(t, none.ClientConfig(d.ID("cart")), cart.ServerConfig(nil))
	if client == nil {
		t.Error("connected without a bundle")
	}
}

func TestFiles(t *testing.T) {
	d := identitytest.New(t, "mesh.local")
	dir := t.TempDir()
	s := d.SVID(d.ID("web"))
	if err := identity.WriteKey(filepath.Join(dir, "web-key.pem"), s.Key()); err != nil {
		t.Fatal(err)
	}
	if err := identity.WriteCertificates(filepath.Join(dir, "web.pem"), s.Certificate.Certificate); err != nil {
		t.Fatal(err)
	}
	if err := identity.WriteCertificates(filepath.Join(dir, "bundle.pem"), [][]byte{d.Root.Raw}); err != nil {
		t.Fatal(err)
	}
	got, b, err := identity.ReadDir(dir, "web")
	if err != nil || got.ID != d.ID("web") {
		t.Fatalf("got %v, %v", got, err)
	}
	if _, err := b.Verify([]*x509.Certificate{got.Leaf}, time.Now()); err != nil {
		t.Error(err)
	}
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", f.Name(), info.Mode(), err)
		}
	}
	if len(files) != 3 {
		t.Errorf("%d files, want 3", len(files))
	}
	// The key of another.
	if err := identity.WriteKey(filepath.Join(dir, "web-key.pem"), d.SVID(d.ID("web")).Key()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := identity.ReadDir(dir, "web"); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("another's key: %v", err)
	}
	for name, content := range map[string]string{"empty": "", "text": "hello", "pem": "-----BEGIN X-----\n-----END X-----\n"} {
		path := filepath.Join(dir, name)
		os.WriteFile(path, []byte(content), 0o600)
		if _, err := identity.ReadKey(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("key from %s: %v", name, err)
		}
		if _, err := identity.ReadCertificates(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("certificates from %s: %v", name, err)
		}
	}
}

func TestJoinToken(t *testing.T) {
	root := []byte("a root's DER")
	token := identity.NewJoinToken(root)
	text := token.Reveal()
	got, err := identity.ParseJoinToken("  " + text + "\n")
	if err != nil || got != token {
		t.Fatalf("got %v, %v", got, err)
	}
	if !strings.HasPrefix(text, "tulle-join.v1.") || token.Pin != sha256.Sum256(root) {
		t.Errorf("token %q", text)
	}
	secret := text[strings.LastIndex(text, ".")+1:]
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token)
	for _, shown := range []string{fmt.Sprint(token), fmt.Sprintf("%v %+v %#v %s", token, token, token, token), log.String()} {
		if strings.Contains(shown, secret) || strings.Contains(shown, fmt.Sprint(token.Secret[:4])[1:8]) {
			t.Errorf("the secret is shown: %s", shown)
		}
	}
	for _, bad := range []string{
		"", "tulle-join.v1.", "tulle-join.v2." + text[14:], text[:len(text)-1], text + "A", text + ".x",
		strings.Replace(text, ".v1.", ".v1..", 1), text[:len(text)-1] + "!",
	} {
		if _, err := identity.ParseJoinToken(bad); err == nil {
			t.Errorf("accepted %q", bad)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func FuzzParseJoinToken(f *testing.F) {
	f.Add(identity.NewJoinToken([]byte("root")).Reveal())
	f.Add("tulle-join.v1.a.b.c")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := identity.ParseJoinToken(s)
		if err != nil {
			return
		}
		if again := token.Reveal(); again != strings.TrimSpace(s) {
			t.Errorf("%q was read as %q", s, again)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("spiffe://mesh.local/ns/default/sa/web")
	f.Add("spiffe://a/ns/../sa/b")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.Parse(s)
		if err != nil {
			return
		}
		if id.String() != s {
			t.Errorf("%q was read as %q", s, id)
		}
		// Whatever is accepted is a SPIFFE id for go-spiffe, too.
		if _, err := spiffeid.FromString(s); err != nil {
			t.Errorf("go-spiffe: %v", err)
		}
	})
}

// FuzzVerify feeds certificates of any form: no panic, and nothing that the
// root didn't sign is accepted.
func FuzzVerify(f *testing.F) {
	d := identitytest.New(f, "mesh.local")
	b := identitytest.Bundle(f, d)
	leaf := d.SVID(d.ID("web")).Leaf
	f.Add(leaf.Raw)
	f.Add(d.Root.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if id, err := b.Verify([]*x509.Certificate{c}, time.Now()); err == nil && c.CheckSignatureFrom(d.Root) != nil {
			t.Errorf("accepted %v, which the root didn't sign", id)
		}
	})
}

// An id is trusted while its domain has roots and nobody has denied it.
func TestTrusts(t *testing.T) {
	home, other := identitytest.New(t, "mesh.local"), identitytest.New(t, "partner.example")
	b := identitytest.Bundle(t, home)
	for _, c := range []struct {
		b    *identity.Bundle
		id   identity.ID
		want bool
	}{{b, home.ID("cart"), true}, {b, other.ID("cart"), false}, {b.Deny([]identity.ID{home.ID("cart")}), home.ID("cart"), false}, {nil, home.ID("cart"), false}} {
		if got := c.b.Trusts(c.id); got != c.want {
			t.Errorf("%s: %v, want %v", c.id, got, c.want)
		}
	}
}

// interrupted is a connection whose handshake can be.
type interrupted struct {
	net.Conn
	times int
}

func (i *interrupted) Pause() { i.times++ }

// TestPause: a server's handshake is interrupted once, where its connection can be.
func TestPause(t *testing.T) {
	d := identitytest.New(t, "mesh.local")
	get := d.Credentials(d.ID("cart")).ServerConfig(nil).GetCertificate
	i := &interrupted{}
	for _, conn := range []net.Conn{i, nil} {
		if _, err := get(&tls.ClientHelloInfo{Conn: conn}); err != nil {
			t.Fatal(err)
		}
	}
	if i.times != 1 {
		t.Errorf("interrupted %d times", i.times)
	}
}
