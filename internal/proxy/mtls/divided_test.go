package mtls

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

// slow is a poller by whose clock everything takes at least a part's time.
type slow struct {
	poll.Poller
	passed time.Duration
}

func (s *slow) Now() time.Duration {
	s.passed += part
	return s.Poller.Now() + s.passed
}

// divided is a loop where a handshake is interrupted wherever it can be, both ends
// of n connections, and what both sides are configured with.
func divided(t *testing.T, n int) (*loop.Loop, *Handshakes, []*loop.Conn, []*loop.Conn, *tls.Config) {
	t.Helper()
	l, clients, servers := both(t, n)
	l.Poller = &slow{Poller: l.Poller}
	cert := certificate(t)
	return l, New(l, 0, nil), clients, servers, &tls.Config{
		Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			hello.Conn.(interface{ Pause() }).Pause()
			return &cert, nil
		},
	}
}

// TestDivided: a handshake on the loop is interrupted several times, and goes on
// before others begin; in the end both sides agree.
func TestDivided(t *testing.T) {
	const n = 3
	l, o, clients, servers, config := divided(t, n)
	agreed := 0
	done := func(s *Session, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if st := s.State(); !st.HandshakeComplete || len(st.PeerCertificates) != 1 {
			t.Errorf("%+v", st)
		}
		agreed++
	}
	for i := range n {
		o.Client(clients[i], config, done)
		o.Server(servers[i], config, done)
	}
	interrupted := 0
	turn(t, l, func() bool {
		if h := o.interrupted; h != nil {
			interrupted++
			if !h.computing || !h.wire.paused {
				t.Fatalf("%+v is interrupted", h)
			}
		}
		return agreed == 2*n
	})
	// A server at its certificate's signature, and before each of the client's three
	// messages but the first; a client before most of the server's five.
	if interrupted < 4*n {
		t.Errorf("%d handshakes were interrupted %d times in all, want at least %d", 2*n, interrupted, 4*n)
	}
	if o.interrupted != nil || len(o.waiting)+o.serving > 0 || o.employed {
		t.Errorf("%+v: there is nothing to do any more", o)
	}
	clients[0].Write([]byte("sealed"))
	turn(t, l, func() bool {
		servers[0].Fill(loop.SmallBuffer)
		return string(servers[0].In().Bytes()) == "sealed"
	})
}

// TestDividedEnds: an interrupted handshake can be given up, and ends when its
// connection has ended; nothing of it stays.
func TestDividedEnds(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*Handshake)
		want error
	}{
		"canceled": {func(h *Handshake) { h.Cancel() }, nil},
		"expired":  {func(h *Handshake) { h.Expire(nil) }, ErrTimeout},
		"closed":   {func(h *Handshake) { h.conn.Close() }, errEnded},
	} {
		t.Run(name, func(t *testing.T) {
			l, o, clients, servers, config := divided(t, 1)
			client := o.Client(clients[0], config, func(*Session, error) {})
			var got error
			server := o.Server(servers[0], config, func(s *Session, err error) {
				if s != nil {
					t.Error("the handshake succeeded")
				}
				got = err
			})
			turn(t, l, func() bool { return o.interrupted == server })
			test.end(server)
			turn(t, l, func() bool { return o.interrupted != server && !server.computing })
			if !errors.Is(got, test.want) || !server.over || !server.finished {
				t.Errorf("got %v, want %v; %+v", got, test.want, server)
			}
			client.Cancel()
			turn(t, l, func() bool { return !o.employed })
		})
	}
}

// TestUndivided: a handshake isn't interrupted while every client of the loop does its
// own, and is as soon as there is another.
func TestUndivided(t *testing.T) {
	for others, want := range []bool{false, true} {
		l, o, clients, servers, config := divided(t, 2)
		o.Clients = func() int { return o.serving + others }
		agreed, interrupted := 0, false
		done := func(_ *Session, err error) {
			if err != nil {
				t.Fatal(err)
			}
			agreed++
		}
		for i := range servers {
			o.Client(clients[i], config, done)
			o.Server(servers[i], config, done)
		}
		turn(t, l, func() bool {
			interrupted = interrupted || o.interrupted != nil
			return agreed == 4
		})
		if interrupted != want {
			t.Errorf("with %d other clients: interrupted: %v", others, interrupted)
		}
	}
}

// TestRecords: what is read in parts of a record is a whole one for crypto/tls,
// however the bytes come.
func TestRecords(t *testing.T) {
	l, _, _ := both(t, 0)
	given := []byte{22, 3, 3, 0, 2, 'a', 'b', 20, 3, 3, 0, 1, 'c', 22, 3, 3, 0, 0, 23, 3}
	for size := 1; size <= len(given); size++ {
		w := &wire{loop: l, divided: true, begun: l.Poller.Now() + time.Hour}
		rest := given
		w.yield = func(struct{}) bool {
			if n := min(size, len(rest)); n > 0 {
				w.in, rest = append(w.in, rest[:n]...), rest[n:]
			} else {
				w.ended = true
			}
			return true
		}
		var got []byte
		for {
			var b [64]byte
			n, err := w.Read(b[:])
			if err != nil {
				break
			}
			if len(got) < 7 && len(got)+n > 7 || len(got) < 13 && len(got)+n > 13 {
				t.Errorf("size %d: one reading crosses from a record into the next", size)
			}
			got = append(got, b[:n]...)
		}
		if string(got) != string(given) {
			t.Errorf("size %d: read %q, want %q", size, got, given)
		}
	}
}
