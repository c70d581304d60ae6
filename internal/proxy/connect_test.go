package proxy_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/view"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// end is one end of HTTP/2 over a net.Conn, for what net/http can't do. It runs
// in one goroutine; handle acts on each event.
type end struct {
	conn   net.Conn
	env    h2.Env
	engine h2.Conn
	in     []byte
}

func newEnd(c net.Conn, server bool) *end {
	e := &end{conn: c}
	e.env.Now = time.Hour
	e.engine.Init(&e.env, &h2.Config{Server: server, MaxStreams: 100, StreamWindow: wire.InitialWindow, ConnWindow: wire.InitialWindow, ConnectProtocol: true})
	return e
}

func (e *end) flush() error {
	for {
		b := e.engine.Flush(h2.MaxOutput)
		if len(b) == 0 {
			return nil
		}
		_, err := e.conn.Write(b)
		e.engine.Flushed()
		e.engine.Unsent(0)
		if err != nil {
			return err
		}
	}
}

// run carries on until handle says so, or the connection ends.
func (e *end) run(handle func(h2.Event) (more bool)) error {
	buf := make([]byte, 32<<10)
	for {
		for {
			n, ev := e.engine.Feed(e.in)
			e.in = e.in[n:]
			if ev.Kind == h2.None && n == 0 {
				break
			}
			if ev.Kind != h2.None && !handle(*ev) {
				return e.flush()
			}
		}
		for ev := e.engine.Poll(); ev.Kind != h2.None; ev = e.engine.Poll() {
			if ev.Kind == h2.Closed {
				return e.engine.Err()
			}
			if !handle(*ev) {
				return e.flush()
			}
		}
		if err := e.flush(); err != nil {
			return err
		}
		n, err := e.conn.Read(buf)
		if err != nil {
			return err
		}
		e.in = append(e.in, buf[:n]...)
	}
}

func b(s string) []byte { return []byte(s) }

// connectClient opens a stream with extended CONNECT, sends "ping" and returns
// the status and what came back.
func connectClient(t *testing.T, addr, protocol string) (status int, head, body string) {
	t.Helper()
	c := dialTo(t, addr)
	e := newEnd(c, false)
	for !e.engine.PeerConnect() {
		e.run(func(ev h2.Event) bool { return false })
	}
	s := e.engine.Open(b("CONNECT"), b("http"), b("cart"), b("/chat"), b(protocol))
	e.engine.Field(b("sec-websocket-version"), b("13"), false)
	e.engine.EndHead(s, false)
	err := e.run(func(ev h2.Event) bool {
		switch ev.Kind {
		case h2.Response:
			status = ev.Head.Status
			for _, f := range ev.Head.Fields {
				head += fmt.Sprintf("%s: %s\n", f.Name, f.Value)
			}
			if status != 200 {
				return false
			}
			e.engine.Write(s, b("ping"), true)
		case h2.Body:
			body += string(ev.Data)
			e.engine.Consumed(s, len(ev.Data))
			return !ev.End
		case h2.Reset:
			t.Errorf("reset: %v", ev.Code)
			return false
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return status, head, body
}

// chatProgram is a WebSocket server in HTTP/1.1 that skips the frames.
func chatProgram(t *testing.T, seen chan<- string) netip.AddrPort {
	return serve(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		head, err := readHead(r)
		if err != nil {
			return
		}
		seen <- head
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\nwelcome ", acceptFor(head))
		io.Copy(c, r)
		c.(*net.TCPConn).CloseWrite()
	})
}

// acceptFor answers the key in a request's head (RFC 6455, 4.2.2).
func acceptFor(head string) string {
	const name = "sec-websocket-key: "
	i := strings.Index(strings.ToLower(head), name)
	if i < 0 {
		return "nothing"
	}
	key, _, _ := strings.Cut(head[i+len(name):], "\r\n")
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A WebSocket that enters over HTTP/2 leaves over HTTP/1.1 where the program
// speaks that, through one proxy or two.
func TestWebSocketFromHTTP2(t *testing.T) {
	for name, addr := range map[string]func(app netip.AddrPort) string{
		"edge": func(app netip.AddrPort) string { return start(t, edgeView(app), 1).addr(t, "http") },
		"pair": func(app netip.AddrPort) string {
			return muxPair(t, app, view.HTTP, view.PeerHTTP2).addr(t, "out")
		},
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan string, 1)
			status, answer, body := connectClient(t, addr(chatProgram(t, seen)), "websocket")
			if status != 200 || body != "welcome ping" || strings.Contains(answer, "sec-websocket-accept") {
				t.Errorf("%d %q %q", status, answer, body)
			}
			head := strings.ToLower(<-seen)
			for _, want := range []string{"get /chat http/1.1\r\n", "upgrade: websocket\r\n", "connection: upgrade", "sec-websocket-key: ", "sec-websocket-version: 13\r\n"} {
				if !strings.Contains(head, want) {
					t.Errorf("the program got %q, without %q", head, want)
				}
			}
		})
	}
}

// What follows on a stream that is a tunnel is DATA (RFC 9113, 8.5).
func TestHeadersInTunnel(t *testing.T) {
	seen := make(chan string, 1)
	c := dialTo(t, start(t, edgeView(chatProgram(t, seen)), 1).addr(t, "http"))
	e := newEnd(c, false)
	for !e.engine.PeerConnect() {
		e.run(func(h2.Event) bool { return false })
	}
	s := e.engine.Open(b("CONNECT"), b("http"), b("cart"), b("/chat"), b("websocket"))
	e.engine.EndHead(s, false)
	var code wire.Code
	if err := e.run(func(ev h2.Event) bool {
		switch ev.Kind {
		case h2.Response:
			e.engine.BeginTrailers(s)
			e.engine.Field(b("x"), b("y"), false)
			e.engine.EndHead(s, true)
		case h2.Reset:
			code = ev.Code
			return false
		}
		return true
	}); err != nil || code != wire.ProtocolError {
		t.Errorf("%v %v, want PROTOCOL_ERROR", code, err)
	}
}

// A client of extended CONNECT takes 2xx for a tunnel: it hears that only from a
// program that has switched, and answered the key (RFC 8441, 5; RFC 6455, 4.1).
func TestWebSocketMisunderstood(t *testing.T) {
	const switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
	for _, c := range []struct {
		answer string
		status int
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 502},
		{"HTTP/1.1 204 No Content\r\n\r\n", 502},
		{switched + "\r\n", 502},
		{switched + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", 502},
		{"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403},
		{"HTTP/1.1 301 Moved Permanently\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", 301},
	} {
		app := serve(t, answering(c.answer))
		for name, addr := range map[string]string{
			"edge": start(t, edgeView(app), 1).addr(t, "http"),
			"pair": muxPair(t, app, view.HTTP, view.PeerHTTP2).addr(t, "out"),
		} {
			if status, _, _ := connectClient(t, addr, "websocket"); status != c.status {
				t.Errorf("%s: %.40q gives %d, want %d", name, c.answer, status, c.status)
			}
		}
	}
}

// And one that enters over HTTP/1.1 leaves as extended CONNECT where the
// program takes that (RFC 8441).
func TestWebSocketToHTTP2(t *testing.T) {
	app := serve(t, func(c net.Conn) {
		e := newEnd(c, true)
		e.run(func(ev h2.Event) bool {
			switch ev.Kind {
			case h2.Request:
				s := ev.Stream
				if string(ev.Head.Method) != "CONNECT" || string(ev.Head.Protocol) != "websocket" {
					e.engine.BeginResponse(s, 204)
					e.engine.EndHead(s, true)
					return true
				}
				if _, ok := ev.Head.Get("sec-websocket-key"); ok {
					t.Error("the key went over HTTP/2")
				}
				e.engine.BeginResponse(s, 200)
				e.engine.EndHead(s, false)
				e.engine.Write(s, b("welcome "), false)
			case h2.Body:
				e.engine.Write(ev.Stream, ev.Data, ev.End)
				e.engine.Consumed(ev.Stream, len(ev.Data))
			}
			return true
		})
	})
	v := edgeView(app)
	v.Destinations[backendKey].Protocol = view.HTTP2
	p := start(t, v, 1)
	// The first request makes the connection, whose SETTINGS say what it takes.
	if got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 204") {
		t.Fatalf("%q", got)
	}
	c := dialTo(t, p.addr(t, "http"))
	io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: cart\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nping")
	c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HTTP/1.1 101 Switching Protocols\r\n", "Upgrade: websocket\r\n", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", "\r\n\r\nwelcome ping"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

// CONNECT over HTTP/2, to a forward listener.
func TestConnectOverHTTP2(t *testing.T) {
	app := serve(t, echo)
	v := clientView(app, "", view.TCP)
	v.Proxy.Listeners = append(v.Proxy.Listeners, view.Listener{Name: "forward", Kind: view.Forward, Address: netip.MustParseAddrPort("127.0.0.1:0")})
	p := start(t, v, 1)
	c := dialTo(t, p.addr(t, "forward"))
	e := newEnd(c, false)
	for e.engine.PeerConnect() == false {
		e.run(func(h2.Event) bool { return false })
	}
	s := e.engine.Open(b("CONNECT"), nil, b(app.String()), nil, nil)
	e.engine.EndHead(s, false)
	var got string
	if err := e.run(func(ev h2.Event) bool {
		switch ev.Kind {
		case h2.Response:
			if ev.Head.Status != 200 {
				t.Errorf("status %d", ev.Head.Status)
				return false
			}
			e.engine.Write(s, b("through"), true)
		case h2.Body:
			got += string(ev.Data)
			return !ev.End
		case h2.Reset:
			t.Errorf("reset: %v", ev.Code)
			return false
		}
		return true
	}); err != nil || got != "through" {
		t.Errorf("%q %v", got, err)
	}
}

// What an HTTP/2 client does wrong is counted, and costs nobody else anything.
func TestHTTP2Abuse(t *testing.T) {
	p := start(t, edgeView(serve(t, answering(hello))), 1)
	addr := p.addr(t, "http")
	raw := func(build func(dst []byte) []byte) string {
		c := dialTo(t, addr)
		in := wire.AppendSettings([]byte(wire.Preface))
		in = wire.AppendSettingsAck(in)
		c.Write(build(in))
		var got strings.Builder
		buf := make([]byte, 32<<10)
		var rest []byte
		c.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, err := c.Read(buf)
			rest = append(rest, buf[:n]...)
			for {
				f, k, _ := wire.Cut(rest, wire.MinMaxFrameSize)
				if k == 0 {
					break
				}
				if f.Type == wire.GoAway {
					g, _ := wire.ParseGoAway(f)
					fmt.Fprintf(&got, "GOAWAY %v ", g.Code)
				}
				rest = rest[k:]
			}
			if err != nil {
				return got.String()
			}
		}
	}
	get := []byte{0x82, 0x86, 0x84, 0x41, 1, 'a'}
	for name, build := range map[string]func([]byte) []byte{
		"rapid reset": func(b []byte) []byte {
			for i := range uint32(200) {
				b = wire.AppendHeaders(b, 2*i+1, true, get, wire.MinMaxFrameSize)
				b = wire.AppendRSTStream(b, 2*i+1, wire.Cancel)
			}
			return b
		},
		"ping flood": func(b []byte) []byte {
			for range 1000 {
				b = wire.AppendPing(b, false, [8]byte{})
			}
			return b
		},
		"settings flood": func(b []byte) []byte {
			for range 1000 {
				b = wire.AppendSettings(b)
			}
			return b
		},
		"continuation flood": func(b []byte) []byte {
			b = wire.AppendHeader(b, wire.Header{Type: wire.Headers, Stream: 1, Length: 1})
			b = append(b, 0x82)
			for range 1000 {
				b = wire.AppendHeader(b, wire.Header{Type: wire.Continuation, Stream: 1, Length: 1})
				b = append(b, 0x82)
			}
			return b
		},
	} {
		if got := raw(build); !strings.Contains(got, "GOAWAY ENHANCE_YOUR_CALM") {
			t.Errorf("%s: got %q", name, got)
		}
		if got := talk(t, addr, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(got, "hello") {
			t.Errorf("after %s another client got %q", name, got)
		}
	}
	want := `tulle_malformed_total{direction="edge",reason="http2_enhance_your_calm"} 4`
	if m := p.metrics(t); !strings.Contains(m, want) {
		t.Errorf("no %s in\n%s", want, m)
	}
}
