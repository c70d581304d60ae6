package proxy_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
)

// Pieces of messages, good and bad, of which the torture makes its own.
var (
	requestPieces = []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"5\r\nhello\r\n", "0\r\n\r\n", "0\r\nT: 1\r\n\r\n", "ffffffff\r\n", "\r\n", "\n", "\x00", "GET ", "HTTP/1.1\r\n",
		"Host: y\r\n", "Connection: close\r\n", "Connection: Upgrade\r\nUpgrade: x\r\n", "Expect: 100-continue\r\n",
		"HEAD / HTTP/1.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01", strings.Repeat("a", 5000),
		"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n",
	}
	responsePieces = []string{
		hello, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n", "0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", "body",
		"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "Content-Length: 1\r\n", "\r\n", "garbage", "\x00", strings.Repeat("b", 9000),
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 500 Oh\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
	}
)

// misbehave writes pieces at random, in writes of any size, and ends somehow.
func misbehave(rng *rand.Rand, c net.Conn, pieces []string, most int) {
	for range rng.IntN(most) + 1 {
		b := []byte(pieces[rng.IntN(len(pieces))])
		if rng.IntN(5) == 0 {
			b[rng.IntN(len(b))] ^= byte(1 << rng.IntN(8))
		}
		for len(b) > 0 {
			n := 1 + rng.IntN(len(b))
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
		if rng.IntN(8) == 0 {
			time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
		}
	}
	switch tcp := c.(*net.TCPConn); rng.IntN(4) {
	case 0:
		tcp.SetLinger(0)
		tcp.Close()
	case 1:
		tcp.Close()
	default:
		tcp.CloseWrite()
	}
}

// TestTorture: clients and programs that send anything whatever, and end in any
// way, cost nobody else anything: nothing crashes, no connection is left over,
// and the next request is served.
func TestTorture(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	mad := serve(t, func(c net.Conn) {
		rng := rand.New(rand.NewPCG(seed, uint64(time.Now().UnixNano())))
		c.SetDeadline(time.Now().Add(2 * time.Second))
		if rng.IntN(10) > 0 {
			c.Read(make([]byte, 1+rng.IntN(4000)))
		}
		misbehave(rng, c, responsePieces, 6)
		io.Copy(io.Discard, c)
	})
	sane := serve(t, answering(hello))
	short := func(v *view.View) *view.View {
		v.Proxy.Settings = view.Settings{
			HeadTimeout: 200 * time.Millisecond, StreamIdle: 200 * time.Millisecond,
			IdleTimeout: 200 * time.Millisecond, PoolIdle: 200 * time.Millisecond,
		}
		return v
	}
	v := short(edgeView(mad))
	const other = "sane.default:80"
	l := v.Proxy.Listeners[0]
	l.Name, l.Kind, l.Destination = "sane", view.Explicit, other
	l.Routes.Hosts = nil
	v.Proxy.Listeners = append(v.Proxy.Listeners, l)
	v.Destinations[other] = &view.Destination{Key: other, Protocol: view.HTTP}
	v.Endpoints[other] = &view.Endpoints{Key: other, List: []view.Endpoint{{Address: sane}}}
	edge := start(t, v, 2)

	server := start(t, short(serverView(mad)), 1)
	mesh := server.Bound()["in"]
	client := start(t, short(clientView(mesh, cartID, view.Detect)), 1)

	var clients sync.WaitGroup
	for i, addr := range []string{edge.addr(t, "http"), client.addr(t, "out"), server.addr(t, "in")} {
		for j := range 6 {
			clients.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(100*i+j)))
				for range 40 {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						t.Error(err)
						return
					}
					c.SetDeadline(time.Now().Add(2 * time.Second))
					misbehave(rng, c, requestPieces, 8)
					if rng.IntN(3) > 0 {
						io.Copy(io.Discard, c)
					}
					c.Close()
				}
			})
		}
	}
	clients.Go(func() {
		for i := range 100 {
			got := ""
			for try := 0; try < 20 && !strings.HasSuffix(got, "hello"); try++ { // on a busy machine the short times may be over
				got = talk(t, edge.addr(t, "sane"), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			}
			if !strings.HasSuffix(got, "hello") {
				t.Errorf("request %d beside the torture: %q", i, got)
			}
		}
	})
	clients.Wait()
	for name, p := range map[string]*running{"edge": edge, "client": client, "server": server} {
		for end := time.Now().Add(wait); p.Connections() > 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d connections are left: %s", name, p.Connections(), fmt.Sprint(p.ConnectionList()))
			}
		}
	}
}
