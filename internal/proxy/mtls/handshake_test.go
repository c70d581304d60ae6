package mtls

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inline runs computations at once, as a simulation does.
type inline struct{ steps int }

func (r *inline) Run(compute func()) { r.steps++; compute() }

// wait bounds whatever a test waits for.
const wait = 30 * time.Second

// way is where handshakes compute.
type way struct {
	max    int
	runner Runner
}

var ways = map[string]way{"goroutines": {2, nil}, "inline": {2, &inline{}}, "on the loop": {0, nil}}

// client is a loop with a connection to a server that take has accepted.
func client(t *testing.T, w way) (*loop.Loop, *Handshakes, *loop.Conn, net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	l := loop.New(p, 0, 1)
	t.Cleanup(p.Shut)
	fd, err := p.Connect(netip.MustParseAddrPort(listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	peer, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	c := &loop.Conn{}
	c.InitConnecting(l, fd, netip.AddrPort{}, nobody{})
	t.Cleanup(func() { c.Close(); l.Turn(0) })
	for c.Connecting() {
		l.Turn(l.Now() + wait)
	}
	return l, New(l, w.max, w.runner), c, peer
}

type nobody struct{}

func (nobody) Ready() {}

// turn turns the loop until done says so.
func turn(t *testing.T, l *loop.Loop, done func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); !done(); {
		if time.Now().After(end) {
			t.Fatal("nothing comes of it")
		}
		l.Turn(l.Now() + 10*time.Millisecond)
	}
}

// TestPeerLeaves: a peer that goes away in the middle ends the handshake, and
// its coroutine.
func TestPeerLeaves(t *testing.T) {
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			l, handshakes, c, peer := client(t, w)
			var got error
			h := handshakes.Client(c, &tls.Config{InsecureSkipVerify: true}, func(_ *Session, err error) { got = err })
			turn(t, l, func() bool { return !h.computing })
			peer.Read(make([]byte, 5)) // some of the ClientHello
			peer.Close()
			turn(t, l, func() bool { return got != nil })
		})
	}
}

// TestCancel: a handshake that nobody wants any more says nothing and leaves
// nothing behind.
func TestCancel(t *testing.T) {
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			l, handshakes, c, _ := client(t, w)
			h := handshakes.Client(c, &tls.Config{InsecureSkipVerify: true}, func(*Session, error) { t.Error("done was called") })
			turn(t, l, func() bool { return !h.computing })
			h.Cancel()
			l.Turn(l.Now())
		})
	}
}

// TestNonsense: bytes that are no handshake end it with crypto/tls's own words.
func TestNonsense(t *testing.T) {
	l, handshakes, c, peer := client(t, ways["goroutines"])
	var got error
	handshakes.Client(c, &tls.Config{InsecureSkipVerify: true}, func(_ *Session, err error) { got = err })
	peer.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	turn(t, l, func() bool { return got != nil })
	var record tls.RecordHeaderError
	if !errors.As(got, &record) {
		t.Errorf("got %v", got)
	}
}

// TestBound: no more handshakes compute at once than may.
func TestBound(t *testing.T) {
	r := &held{}
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Shut()
	l := loop.New(p, 0, 1)
	handshakes := New(l, 2, r)
	var all []*Handshake
	for range 5 {
		c := &loop.Conn{}
		fd, _, err := p.Listen(netip.MustParseAddrPort("127.0.0.1:0"), false) // any socket will do
		if err != nil {
			t.Fatal(err)
		}
		c.Init(l, fd, netip.AddrPort{}, nobody{})
		defer c.Close()
		all = append(all, handshakes.Client(c, &tls.Config{InsecureSkipVerify: true}, func(*Session, error) {}))
	}
	if len(r.waiting) != 2 || len(handshakes.waiting) != 3 {
		t.Errorf("%d compute and %d wait, want 2 and 3", len(r.waiting), len(handshakes.waiting))
	}
	for len(r.waiting) > 0 {
		compute := r.waiting[0]
		r.waiting = r.waiting[1:]
		compute()
		l.Turn(l.Now())
		if handshakes.running > 2 {
			t.Errorf("%d compute", handshakes.running)
		}
	}
	for _, h := range all {
		h.Cancel()
	}
	for len(r.waiting) > 0 {
		compute := r.waiting[0]
		r.waiting = r.waiting[1:]
		compute()
	}
}

// held keeps computations back until the test runs them.
type held struct{ waiting []func() }

func (r *held) Run(compute func()) { r.waiting = append(r.waiting, compute) }
