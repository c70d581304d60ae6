package proxy_test

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/view"
)

// world is what lies outside the mesh in these tests: addresses of the internet
// stand for servers on loopback, and a resolver knows names.
type world struct {
	mu       sync.Mutex
	original netip.AddrPort                    // where the next connection was sent to
	servers  map[netip.AddrPort]netip.AddrPort // who is at an address
	names    map[string][]netip.Addr
	asked    []string
	dialled  []string
}

func newWorld() *world {
	return &world{servers: map[netip.AddrPort]netip.AddrPort{}, names: map[string][]netip.Addr{}}
}

func (w *world) name(name string, addrs ...string) {
	for _, a := range addrs {
		w.names[name+"."] = append(w.names[name+"."], netip.MustParseAddr(a))
	}
}

func (w *world) at(addr string, server netip.AddrPort) {
	w.servers[netip.MustParseAddrPort(addr)] = server
}

// LookupNetIP is the resolver.
func (w *world) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, host)
	if a := w.names[host]; a != nil {
		return a, nil
	}
	return nil, errors.New("no such name")
}

// poller is a poller in that world.
type worldPoller struct {
	poll.Poller
	w *world
}

func (p worldPoller) Original(poll.FD) (netip.AddrPort, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.w.original, nil
}

func (p worldPoller) Connect(to netip.AddrPort) (poll.FD, error) {
	p.w.mu.Lock()
	at, ok := p.w.servers[to]
	p.w.dialled = append(p.w.dialled, to.String())
	p.w.mu.Unlock()
	if !ok {
		return poll.None, unix.ECONNREFUSED
	}
	return p.Poller.Connect(at)
}

// egressView is a sidecar with a policy.
func egressView(e *policy.Egress) *view.View {
	return &view.View{Version: 1, Proxy: view.Proxy{
		Name: "web", Namespace: "default", Role: view.Sidecar, TrustDomain: "mesh.local", ClusterDomain: "cluster.local", Egress: e,
		Listeners: []view.Listener{
			{Name: "capture", Kind: view.Capture, Address: netip.AddrPortFrom(loopback, 0)},
			{Name: "forward", Kind: view.Forward, Address: netip.MustParseAddrPort("127.0.0.2:0")},
		},
	}}
}

// start runs a proxy with a policy in the world.
func (w *world) start(t testing.TB, e *policy.Egress, loops int) *running {
	return startWith(t, egressView(e), proxy.Config{Loops: loops, Resolver: w, Poller: func(int) (poll.Poller, error) {
		p, err := poll.New()
		return worldPoller{p, w}, err
	}})
}

// dial is a program that connects to an address and is redirected.
func (w *world) dial(t testing.TB, p *running, to string) net.Conn {
	t.Helper()
	w.mu.Lock()
	w.original, w.dialled = netip.MustParseAddrPort(to), nil
	w.mu.Unlock()
	return dialTo(t, p.addr(t, "capture"))
}

func (w *world) reached() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.dialled)
}

// saying is a web server that answers with its name and the Host it was asked for.
func saying(name string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body := fmt.Sprintf("%s was asked for %s", name, req.Host)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			if req.Close {
				return
			}
		}
	}
}

// web is a CA and servers with certificates of it.
type web struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newWeb(t testing.TB) *web {
	w := &web{key: newKey(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &w.key.PublicKey, w.key)
	if err != nil {
		t.Fatal(err)
	}
	w.cert, _ = x509.ParseCertificate(der)
	return w
}

func (w *web) roots() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.cert.Raw})
}

func (w *web) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(w.cert)
	return p
}

// certificate is one for some names; for a client without any.
func (w *web) certificate(t testing.TB, names ...string) (chain, key []byte) {
	k := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "web"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, w.cert, &k.PublicKey, w.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// secure serves TLS and, in it, whatever next does. It needs no client certificate
// unless the config says so.
func (w *web) secure(t testing.TB, config *tls.Config, next func(net.Conn), names ...string) func(net.Conn) {
	chain, key := w.certificate(t, names...)
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	config = config.Clone()
	config.Certificates = []tls.Certificate{pair}
	return func(c net.Conn) {
		s := tls.Server(c, config)
		if s.Handshake() == nil {
			next(s)
			s.Close()
		}
	}
}

// greets is a server over TLS that says who it is and which name it was asked for.
func greets(name string) func(net.Conn) {
	return func(c net.Conn) {
		fmt.Fprintf(c, "%s as %s", name, c.(*tls.Conn).ConnectionState().ServerName)
	}
}

// echList is an ECHConfigList (draft-ietf-tls-esni, 4) with a public name.
func echList(t testing.TB, public string) []byte {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte{7, 0, 0x20} // config_id, kem_id: DHKEM(X25519, HKDF-SHA256)
	b = binary.BigEndian.AppendUint16(b, 32)
	b = append(b, key.PublicKey().Bytes()...)
	b = append(b, 0, 4, 0, 1, 0, 1) // one suite: HKDF-SHA256, AES-128-GCM
	b = append(b, 64, byte(len(public)))
	b = append(append(b, public...), 0, 0)
	config := binary.BigEndian.AppendUint16([]byte{0xfe, 0x0d}, uint16(len(b)))
	config = append(config, b...)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(config))), config...)
}
