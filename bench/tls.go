//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// certificates makes the two identities that every pair uses. Tulle makes them
// itself (tulle view --identity); without it they are made here.
func (r *rig) certificates() error {
	ids := r.identities()
	if err := os.MkdirAll(ids, 0o700); err != nil {
		return err
	}
	if r.has("tulle") {
		mesh, err := r.file("ids-mesh/mesh.yaml", fmt.Sprintf(pairMesh, "http", port(r.address), 1, 2, between.tulle))
		if err != nil {
			return err
		}
		for _, name := range []string{"web", "cart"} {
			if _, err := r.view(mesh, name, ids); err != nil {
				return err
			}
		}
	} else if err := issue(ids, "web", "cart"); err != nil {
		return err
	}
	// HAProxy wants certificate and key in one file.
	for _, name := range []string{"web", "cart"} {
		cert, err := os.ReadFile(filepath.Join(ids, name+".pem"))
		if err != nil {
			return err
		}
		key, err := os.ReadFile(filepath.Join(ids, name+"-key.pem"))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(ids, name+"-both.pem"), slices.Concat(cert, key), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// issue makes a CA and a P-256 certificate for each name, as Tulle would.
func issue(dir string, names ...string) error {
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	write := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	if err := write("bundle.pem", "CERTIFICATE", der); err != nil {
		return err
	}
	for i, name := range names {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		id := &url.URL{Scheme: "spiffe", Host: "mesh.local", Path: "/ns/default/sa/" + name}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 2)), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, URIs: []*url.URL{id},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
		if err != nil {
			return err
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		if err := errors.Join(write(name+".pem", "CERTIFICATE", der), write(name+"-key.pem", "PRIVATE KEY", keyDER)); err != nil {
			return err
		}
	}
	return nil
}

// negotiated is what two proxies agreed on.
type negotiated struct {
	suite, group uint16
	// server is the certificate the inbound proxy showed.
	server string
	// tickets says the inbound proxy sent a session ticket; open that it
	// accepted a client without a certificate.
	tickets, open bool
}

func (n negotiated) String() string {
	return fmt.Sprintf("TLS 1.3, %s, %s, %s, client certificate required, tickets: %v", tls.CipherSuiteName(n.suite), tls.CurveID(n.group), n.server, n.tickets)
}

// inspect starts the named pair with a relay between the two, reads the
// ServerHello that passes, then calls the inbound proxy itself.
func (r *rig) inspect(ctx context.Context, name string, f form) (negotiated, error) {
	var n negotiated
	ports, err := freePorts(2)
	if err != nil {
		return n, err
	}
	hello, stop, err := relay(local(ports[1]), local(ports[0]))
	if err != nil {
		return n, err
	}
	defer stop()
	h, err := r.pair(ctx, name, f, ports[0], ports[1])
	if err != nil {
		return n, err
	}
	defer h.stop()
	var speaks http.Protocols
	speaks.SetHTTP1(!f.http2)
	speaks.SetUnencryptedHTTP2(f.http2)
	transport := &http.Transport{Protocols: &speaks}
	defer transport.CloseIdleConnections()
	client := http.Client{Timeout: 5 * time.Second, Transport: transport}
	resp, err := client.Get("http://" + h.address + "/")
	if err != nil {
		return n, fmt.Errorf("the %s pair: %w\n%s\n%s", name, err, h.procs[0].said, h.procs[1].said)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		return n, fmt.Errorf("the %s pair answered %s\n%s\n%s", name, resp.Status, h.procs[0].said, h.procs[1].said)
	}
	select {
	case b := <-hello:
		if n.suite, n.group, err = serverHello(b); err != nil {
			return n, fmt.Errorf("the %s pair: %w", name, err)
		}
	case <-time.After(time.Second):
		return n, fmt.Errorf("nothing went between the two proxies of the %s pair", name)
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(r.identities(), "web.pem"), filepath.Join(r.identities(), "web-key.pem"))
	if err != nil {
		return n, err
	}
	cache := &ticketWatch{}
	if n.server, err = call(local(ports[0]), &tls.Config{Certificates: []tls.Certificate{cert}, ClientSessionCache: cache}); err != nil {
		return n, fmt.Errorf("the inbound proxy of the %s pair: %w", name, err)
	}
	n.tickets = cache.put
	_, err = call(local(ports[0]), &tls.Config{})
	n.open = err == nil
	return n, nil
}

// call makes one request of an inbound proxy and describes its certificate.
func call(address string, c *tls.Config) (string, error) {
	// Its certificate has no DNS name; what matters here is what it is.
	c.InsecureSkipVerify = true
	c.ServerName = "8080.cart.default.svc.mesh.local"
	c.NextProtos = []string{"tulle-h1", "http/1.1"}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 2 * time.Second}, "tcp", address, c)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: cart\r\n\r\n"); err != nil {
		return "", err
	}
	if _, err := io.ReadAtLeast(conn, make([]byte, 64), 12); err != nil {
		return "", err
	}
	return certificateName(conn.ConnectionState().PeerCertificates[0]), nil
}

// certificateName says what a certificate's key is, and whose.
func certificateName(leaf *x509.Certificate) string {
	id := ""
	if len(leaf.URIs) > 0 {
		id = " " + leaf.URIs[0].String()
	}
	key := leaf.PublicKeyAlgorithm.String()
	if k, ok := leaf.PublicKey.(*ecdsa.PublicKey); ok {
		key += " " + k.Curve.Params().Name
	}
	return key + id
}

// ticketWatch notices a session ticket.
type ticketWatch struct{ put bool }

func (t *ticketWatch) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (t *ticketWatch) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		t.put = true
	}
}

// relay copies between listen and to, and hands over the first bytes that came
// from to on the first connection that had any.
func relay(listen, to string) (first <-chan []byte, stop func(), err error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, nil, err
	}
	hello := make(chan []byte, 1)
	var wg sync.WaitGroup
	go func() {
		for {
			a, err := ln.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				a.Close()
				continue
			}
			wg.Go(func() { io.Copy(b, a); b.Close() })
			wg.Go(func() {
				buf := make([]byte, 4096)
				if n, err := io.ReadAtLeast(b, buf, 5+4+2+32+1); err == nil {
					select {
					case hello <- slices.Clone(buf[:n]):
					default:
					}
					a.Write(buf[:n])
					io.Copy(a, b)
				}
				a.Close()
			})
		}
	}()
	return hello, func() { ln.Close() }, nil
}

// serverHello reads the suite and the key exchange group of a TLS 1.3
// ServerHello (RFC 8446 section 4.1.3) at the beginning of b.
func serverHello(b []byte) (suite, group uint16, err error) {
	bad := errors.New("what the server said first is no TLS 1.3 ServerHello")
	// record: type 22, version, length; handshake: type 2, length
	if len(b) < 44 || b[0] != 22 || b[5] != 2 {
		return 0, 0, bad
	}
	b = b[9:]
	b = b[2+32:] // legacy version, random
	take := func(n int) []byte {
		if n > len(b) {
			b = nil
			return nil
		}
		v := b[:n]
		b = b[n:]
		return v
	}
	u16 := func(v []byte) int {
		if len(v) < 2 {
			return 0
		}
		return int(v[0])<<8 | int(v[1])
	}
	if id := take(1); id != nil {
		take(int(id[0]))
	}
	suite = uint16(u16(take(2)))
	take(1) // compression
	ext := take(u16(take(2)))
	is13 := false
	for len(ext) >= 4 {
		kind, n := u16(ext), u16(ext[2:])
		if n > len(ext)-4 {
			return 0, 0, bad
		}
		switch v := ext[4 : 4+n]; kind {
		case 43: // supported_versions
			is13 = u16(v) == tls.VersionTLS13
		case 51: // key_share
			group = uint16(u16(v))
		}
		ext = ext[4+n:]
	}
	if !is13 || group == 0 {
		return 0, 0, bad
	}
	return suite, group, nil
}

// sameTLS inspects every pair, prints what was negotiated and refuses to
// compare what isn't the same.
func (r *rig) sameTLS(ctx context.Context, names []string, f form) error {
	if err := r.certificates(); err != nil {
		return err
	}
	var first negotiated
	for i, name := range names {
		n, err := r.inspect(ctx, name, f)
		if err != nil {
			return err
		}
		fmt.Printf("%-8s %v\n", name, n)
		switch {
		case n.open:
			return fmt.Errorf("the inbound proxy of the %s pair takes clients without a certificate", name)
		case n.tickets:
			return fmt.Errorf("the inbound proxy of the %s pair sends session tickets", name)
		case n.suite != tls.TLS_AES_128_GCM_SHA256:
			return fmt.Errorf("the %s pair negotiated %s, not TLS_AES_128_GCM_SHA256", name, tls.CipherSuiteName(n.suite))
		case i == 0:
			first = n
		case n != first:
			return fmt.Errorf("the %s pair differs from the %s pair: the figures would not compare", name, names[0])
		}
	}
	return nil
}
