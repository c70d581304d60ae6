package mtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

// certificate is self-signed.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// both is a loop with both ends of n connections.
func both(t *testing.T, n int) (l *loop.Loop, clients, servers []*loop.Conn) {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	l = loop.New(p, 0, 1)
	t.Cleanup(p.Shut)
	listener, at, err := p.Listen(netip.MustParseAddrPort("127.0.0.1:0"), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(listener) })
	for range n {
		fd, err := p.Connect(at)
		if err != nil {
			t.Fatal(err)
		}
		c, s := &loop.Conn{}, &loop.Conn{}
		c.InitConnecting(l, fd, at, nobody{})
		turn(t, l, func() bool { return !c.Connecting() })
		for fd, _, err = p.Accept(listener); err == poll.ErrAgain; fd, _, err = p.Accept(listener) {
			l.Turn(l.Now() + time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.Init(l, fd, at, nobody{})
		t.Cleanup(func() { c.Close(); s.Close(); l.Turn(0) })
		clients, servers = append(clients, c), append(servers, s)
	}
	return l, clients, servers
}

// TestHandshakes: wherever they compute, both sides agree, and know each other's
// certificate.
func TestHandshakes(t *testing.T) {
	cert := certificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true}
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			const n = 5
			l, clients, servers := both(t, n)
			handshakes := New(l, w.max, w.runner)
			agreed := 0
			done := func(s *Session, err error) {
				if err != nil {
					t.Fatal(err)
				}
				if st := s.State(); !st.HandshakeComplete || len(st.PeerCertificates) != 1 || st.CurveID != tls.X25519MLKEM768 {
					t.Errorf("%+v", st)
				}
				agreed++
			}
			for i := range n {
				handshakes.Client(clients[i], config, done)
				handshakes.Server(servers[i], config, done)
			}
			turn(t, l, func() bool { return agreed == 2*n })
			if handshakes.running+len(handshakes.waiting) != 0 || handshakes.employed {
				t.Errorf("%+v: there is nothing to do any more", handshakes)
			}
			clients[0].Write([]byte("sealed"))
			turn(t, l, func() bool {
				servers[0].Fill(loop.SmallBuffer)
				return string(servers[0].In().Bytes()) == "sealed"
			})
		})
	}
}

// TestOnLoop: handshakes on the loop compute in some turn, each gets on, and those
// that nobody wants any more cost nothing.
func TestOnLoop(t *testing.T) {
	const n = 6
	l, clients, _ := both(t, n)
	handshakes := New(l, 0, nil)
	var all []*Handshake
	for _, c := range clients {
		all = append(all, handshakes.Client(c, &tls.Config{InsecureSkipVerify: true}, func(*Session, error) { t.Error("done was called") }))
	}
	for i, h := range all {
		if h.next != nil {
			t.Errorf("handshake %d has computed within the caller's call", i)
		}
	}
	all[1].Cancel()
	all[3].Cancel()
	for turns := 0; len(handshakes.waiting) > 0; turns++ {
		if turns > n {
			t.Fatalf("after %d turns %d still wait", turns, len(handshakes.waiting))
		}
		l.Turn(poll.Forever)
	}
	for i, h := range all {
		canceled := i == 1 || i == 3
		if computed := h.next != nil; computed == canceled || h.computing {
			t.Errorf("handshake %d: computed %v, canceled %v", i, computed, canceled)
		}
		h.Cancel()
	}
}

// TestBusy: beyond those that may wait, one is told so.
func TestBusy(t *testing.T) {
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			l, handshakes, c, _ := client(t, w)
			handshakes.running = w.max
			for range maxWaiting {
				handshakes.waiting = append(handshakes.waiting, &Handshake{owner: handshakes, over: true})
			}
			var got error
			handshakes.Client(c, &tls.Config{InsecureSkipVerify: true}, func(_ *Session, err error) { got = err })
			l.Turn(0)
			if !errors.Is(got, ErrBusy) {
				t.Errorf("got %v, want %v", got, ErrBusy)
			}
		})
	}
}
