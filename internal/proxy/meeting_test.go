package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// silence is much longer than any client's silence that counts: the machine may be
// busy.
const silence = 1200 * time.Millisecond

// greeter speaks first, then echoes.
func greeter(greeting string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, greeting)
		echo(c)
	}
}

// roundabout is a way from a client to a program on a port that declares nothing.
type roundabout struct {
	name    string
	start   func(t *testing.T, app netip.AddrPort) (addr string, decides *running)
	service string
	silence time.Duration // of the client, that counts
	learns  bool
}

var roundabouts = []roundabout{
	{"outbound", func(t *testing.T, app netip.AddrPort) (string, *running) {
		p := explicit(t, app, view.Detect, 1)
		return p.addr(t, "out"), p
	}, "outbound", 75 * time.Millisecond, true},
	{"mutual TLS", func(t *testing.T, app netip.AddrPort) (string, *running) {
		client, _ := pair(t, app, view.Detect, 2)
		return client.addr(t, "out"), client
	}, "outbound", 75 * time.Millisecond, true},
	{"inbound plaintext", func(t *testing.T, app netip.AddrPort) (string, *running) {
		v := serverView(app)
		v.Proxy.Listeners[0].Plaintext = true
		p := start(t, v, 1)
		return p.addr(t, "in"), p
	}, "inbound", 300 * time.Millisecond, false}, // it may be a proxy that is late
}

// TestMeeting: whoever speaks first decides, and HTTP is always HTTP.
func TestMeeting(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for _, test := range []struct {
		name   string
		handle func(net.Conn)
		// speak is the client's part; it returns what it got.
		speak func(c net.Conn) (string, error)
		want  string // in what it got
		count string // the decision that is counted
	}{
		{"the server greets", greeter("220 ready\r\n"), func(c net.Conn) (string, error) {
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil {
				return line, err
			}
			return line, half(c, "QUIT\r\n")
		}, "220 ready", `protocol="tcp",how="server"`},
		{"a request in two parts", answering(hello), func(c net.Conn) (string, error) {
			io.WriteString(c, "GET ")
			time.Sleep(silence)
			io.WriteString(c, request[4:])
			return all(c)
		}, "Via: 1.1 tulle", `protocol="http1",how="client"`},
		{"a request after a long silence", answering(hello), func(c net.Conn) (string, error) {
			time.Sleep(2 * silence)
			io.WriteString(c, request)
			return all(c)
		}, "Via: 1.1 tulle", `protocol="http1",how="client"`},
		{"a server that speaks HTTP first", first("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"), func(c net.Conn) (string, error) {
			time.Sleep(2 * silence)
			io.WriteString(c, request)
			return all(c)
		}, "Via: 1.1 tulle", `protocol="http1",how="server"`},
		{"a server that sends settings first", first("\x00\x00\x00\x04\x00\x00\x00\x00\x00"), func(c net.Conn) (string, error) {
			time.Sleep(2 * silence)
			io.WriteString(c, request)
			return all(c)
		}, "Via: 1.1 tulle", `protocol="http2",how="server"`},
		{"opaque bytes after a long silence", echo, func(c net.Conn) (string, error) {
			time.Sleep(2 * silence)
			io.WriteString(c, "*1\r\n$4\r\nPING\r\n")
			c.(*net.TCPConn).CloseWrite()
			return all(c)
		}, "PING", `protocol="tcp",how="client"`},
		{"a client that only listens", func(c net.Conn) {
			io.Copy(io.Discard, c)
			io.WriteString(c, "Wed Nov 25")
		}, func(c net.Conn) (string, error) {
			c.(*net.TCPConn).CloseWrite()
			return all(c)
		}, "Wed Nov 25", `protocol="tcp",how="client"`},
		{"a server that ends at once", func(net.Conn) {}, all, "", ""},
		{"a server that breaks", func(c net.Conn) {
			c.(*net.TCPConn).SetLinger(0)
		}, func(c net.Conn) (string, error) {
			got, err := all(c)
			if !errors.Is(err, syscall.ECONNRESET) {
				return got, fmt.Errorf("%v, want a reset", err)
			}
			return "", nil
		}, "", ""},
	} {
		for _, way := range roundabouts {
			t.Run(test.name+"/"+way.name, func(t *testing.T) {
				t.Parallel()
				handle := test.handle
				if strings.HasPrefix(test.name, "opaque") {
					handle = once(handle) // the connection that was dialled early is the one
				}
				addr, p := way.start(t, serve(t, handle))
				c := dialTo(t, addr)
				got, err := test.speak(c)
				if err != nil || !strings.Contains(got, test.want) {
					t.Errorf("got %q, %v; want %q", got, err, test.want)
				}
				c.Close()
				settled(t, p)
				if m := p.metrics(t); test.count != "" && !strings.Contains(m, `tulle_detections_total{direction="`+way.service+`",service="cart.default:8080",`+test.count+"} 1\n") {
					t.Errorf("no %s in\n%s", test.count, m)
				}
			})
		}
	}
}

func all(c net.Conn) (string, error) {
	b, err := io.ReadAll(c)
	return string(b), err
}

// half sends something, ends, and waits for its echo.
func half(c net.Conn, s string) error {
	io.WriteString(c, s)
	c.(*net.TCPConn).CloseWrite()
	if got, err := all(c); err != nil || got != s {
		return fmt.Errorf("sent %q, got %q, %v", s, got, err)
	}
	return nil
}

// first is a server that speaks before a silent client has said anything, and
// otherwise answers.
func first(s string) func(net.Conn) {
	return func(c net.Conn) {
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		r := bufio.NewReader(c)
		if _, err := r.Peek(1); err != nil {
			io.WriteString(c, s)
			return
		}
		c.SetReadDeadline(time.Now().Add(wait))
		if _, err := readHead(r); err == nil {
			io.WriteString(c, hello)
		}
	}
}

// once handles one connection and refuses all others.
func once(handle func(net.Conn)) func(net.Conn) {
	var n atomic.Int32
	return func(c net.Conn) {
		if n.Add(1) == 1 {
			handle(c)
		}
	}
}

// TestGreetingTime: the first client waits as long as silence counts, the ones
// after it don't, through either loop of either proxy.
func TestGreetingTime(t *testing.T) {
	for _, way := range roundabouts {
		t.Run(way.name, func(t *testing.T) {
			addr, p := way.start(t, serve(t, greeter("220 ready\r\n")))
			quick, asked := wait, 0
			// The ones after the first are quick, if the machine isn't busy just then.
			for i := 0; i < 9 || way.learns && quick > 50*time.Millisecond && i < 200; i++ {
				asked++
				began := time.Now()
				c := dialTo(t, addr)
				if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "220 ready\r\n" {
					t.Fatalf("%q, %v", line, err)
				}
				took := time.Since(began)
				c.Close()
				switch {
				case (i == 0 || !way.learns) && took < way.silence:
					t.Errorf("time %d it took %s: nobody waited for the client", i, took)
				case i > 0:
					quick = min(quick, took)
				}
			}
			if !way.learns {
				return
			}
			if quick > 50*time.Millisecond {
				t.Errorf("afterwards it took %s at best", quick)
			}
			settled(t, p)
			// The other loop may hear of it one connection late.
			learnt := func(n int) string { return fmt.Sprintf(`protocol="tcp",how="learnt"} %d`+"\n", n) }
			if m := p.metrics(t); !strings.Contains(m, learnt(asked-1)) && !strings.Contains(m, learnt(asked-2)) {
				t.Errorf("not %d learnt:\n%s", asked-1, m)
			}
		})
	}
}

// TestToldGreeting: what the control plane says is used the first time, and
// HTTP stays HTTP with it.
func TestToldGreeting(t *testing.T) {
	told := func(app netip.AddrPort, routed bool) *running {
		v := clientView(app, "", view.Detect)
		v.Proxy.Identity = ""
		d := v.Destinations[cart]
		d.ServerFirst = true
		if routed {
			d.Routes = route.Spec{Hosts: []route.Host{{Hostnames: []string{"*"}, Rules: []route.Rule{{
				Name: "all", Backends: []route.Backend{{Destination: cart, Weight: 1}},
			}}}}}
		}
		return start(t, v, 1)
	}
	greets := serve(t, greeter("220 ready\r\n"))
	p := told(greets, false)
	c := dialTo(t, p.addr(t, "out"))
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "220 ready\r\n" {
		t.Errorf("%q, %v", line, err)
	}
	c.Close()
	settled(t, p)
	if m := p.metrics(t); !strings.Contains(m, `how="learnt"} 1`) {
		t.Errorf("not learnt:\n%s", m)
	}

	p = told(serve(t, answering(hello)), false)
	if got := talk(t, p.addr(t, "out"), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "Via: 1.1 tulle") {
		t.Errorf("HTTP went unparsed: %q", got)
	}
	settled(t, p)

	// A port with routes: the server's word is never heard.
	p = told(greets, true)
	c = dialTo(t, p.addr(t, "out"))
	c.SetReadDeadline(time.Now().Add(2 * silence))
	if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, syscall.EAGAIN) && !isTimeout(err) {
		t.Errorf("the server of a port with routes was heard: %q, %v", b, err)
	}
	c.SetReadDeadline(time.Now().Add(wait))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if got, err := all(c); err != nil || !strings.HasPrefix(got, "HTTP/1.1 502 ") {
		t.Errorf("got %q, %v, want 502: the server isn't HTTP", got, err)
	}
	settled(t, p)
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestSegmentedHello: a ClientHello that comes in pieces is TLS, and the
// program's own: nobody but the program answers it.
func TestSegmentedHello(t *testing.T) {
	p := explicit(t, serve(t, echo), view.Detect, 1)
	c := dialTo(t, p.addr(t, "out"))
	sent := "\x16\x03\x01\x06\x00\x01\x00\x05\xfc\x03\x03" + strings.Repeat("k", 1500)
	for _, part := range []string{sent[:1], sent[1:4], sent[4:700], sent[700:]} {
		io.WriteString(c, part)
		time.Sleep(10 * time.Millisecond)
	}
	c.(*net.TCPConn).CloseWrite()
	if got, err := all(c); err != nil || got != sent {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	settled(t, p)
	if m := p.metrics(t); !strings.Contains(m, `protocol="tls",how="client"} 1`) {
		t.Errorf("not seen as TLS:\n%s", m)
	}
}

// TestNobodyThere: a server that can't be reached is told by a reset, as soon
// as it is known.
func TestNobodyThere(t *testing.T) {
	nobody := closedPort(t)
	p := explicit(t, nobody, view.Detect, 1)
	c := dialTo(t, p.addr(t, "out"))
	if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v, want a reset", b, err)
	}
	settled(t, p)
}

// TestConnectionList: what is open, what it is and why.
func TestConnectionList(t *testing.T) {
	client, server := pair(t, serve(t, greeter("220 ready\r\n")), view.Detect, 1)
	c := dialTo(t, client.addr(t, "out"))
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[*running]string{
		client: `"service":"cart.default:8080","received_bytes":0,"sent_bytes":11,"protocol":"tcp","streams":1,"direction":"outbound","decided":"server"`,
		server: `"service":"cart.default:8080","received_bytes":0,"sent_bytes":11,"protocol":"tcp","streams":1,"direction":"inbound","identity":"` + webID + `","decided":"told"`,
	} {
		if got := list(t, p.Proxy); !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	http, _ := pair(t, serve(t, answering(hello)), view.Detect, 1)
	c = dialTo(t, http.addr(t, "out"))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := readHead(bufio.NewReader(c)); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, http.Proxy), `"direction":"outbound","decided":"client"`; !strings.Contains(got, want) || !strings.Contains(got, `"protocol":"http1"`) {
		t.Errorf("no %s in %s", want, got)
	}
}

func list(t *testing.T, p *proxy.Proxy) string {
	t.Helper()
	b, err := json.Marshal(p.ConnectionList())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestGreetingHeard: the server's own proxy hears it from the streams of its
// peers. Their TLS is TLS all the same, however early the server would speak.
func TestGreetingHeard(t *testing.T) {
	v := serverView(serve(t, greeter("220 ready\r\n")))
	v.Proxy.Listeners[0].Plaintext = true
	server := start(t, v, 1)
	mesh := netip.MustParseAddrPort(server.addr(t, "in"))
	client := start(t, clientView(mesh, cartID, view.Detect), 1)
	for range 20 {
		c := dialTo(t, client.addr(t, "out"))
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "220 ready\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		c.Close()
	}
	// A peer whose ClientHello is late is a peer all the same.
	id, err := identity.Parse(cartID)
	if err != nil {
		t.Fatal(err)
	}
	line := ""
	for try := 0; try < 10 && line != "220 ready\r\n"; try++ { // not later than it may be, if the machine isn't busy just then
		raw := dialTo(t, mesh.String())
		time.Sleep(120 * time.Millisecond)
		peer := tls.Client(raw, client.credentials.ClientConfig(id, "tulle-tcp"))
		line, err = bufio.NewReader(peer).ReadString('\n')
		peer.Close()
	}
	if line != "220 ready\r\n" {
		t.Errorf("%q, %v", line, err)
	}
	settled(t, client)
	settled(t, server)
	if m := server.metrics(t); !strings.Contains(m, `direction="inbound",service="cart.default:8080",protocol="tcp",how="told"} 21`) {
		t.Errorf("not all were peers:\n%s", m)
	}
}
