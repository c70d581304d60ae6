package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
)

// hello is a plain answer of a backend.
const hello = "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello"

// TestAnswers sends raw bytes to an edge listener whose backend gives a raw
// answer, and looks at what comes back until the connection ends.
func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name, send, answer string
		want               string   // all of it, Date fields aside
		has                []string // or parts of it
	}{
		{
			name: "GET", send: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", answer: hello,
			want: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\nVia: 1.1 tulle\r\n\r\nhello",
		},
		{
			name: "HEAD has no body", send: "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			answer: "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\n",
			want:   "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\nVia: 1.1 tulle\r\n\r\n",
		},
		{
			name: "204 has no body", send: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			answer: "HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n",
			want:   "HTTP/1.1 204 No Content\r\nConnection: close\r\nVia: 1.1 tulle\r\n\r\n",
		},
		{
			name: "304 has no body whatever its length", send: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			answer: "HTTP/1.1 304 Not Modified\r\nDate: x\r\nContent-Length: 5\r\n\r\n",
			has:    []string{"HTTP/1.1 304 Not Modified\r\n", "\r\n\r\n"},
		},
		{
			name: "chunked", send: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			answer: "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
			want:   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nVia: 1.1 tulle\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
		},
		{
			name: "trailers for who takes them", send: "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n",
			answer: "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGrpc-Status: 0\r\n\r\n",
			has:    []string{"0\r\nGrpc-Status: 0\r\n\r\n"},
		},
		{
			name: "chunked for an HTTP/1.0 client lasts until close", send: "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
			answer: "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
			want:   "HTTP/1.1 200 OK\r\nConnection: close\r\nVia: 1.1 tulle\r\n\r\nhello",
		},
		{
			name:   "HTTP/1.0 keep-alive",
			send:   "GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\nHost: x\r\n\r\n",
			answer: hello,
			has:    []string{"Connection: keep-alive\r\n", "helloHTTP/1.1 200 OK"},
		},
		{
			name: "interim responses are passed on", send: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			answer: "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + hello,
			has:    []string{"HTTP/1.1 103 Early Hints\r\nLink: a\r\n", "\r\n\r\nHTTP/1.1 200 OK\r\n", "hello"},
		},
		{
			name: "but not to HTTP/1.0", send: "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
			answer: "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + hello,
			want:   "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\nVia: 1.1 tulle\r\n\r\nhello",
		},
		{
			name: "hop-by-hop fields stay", send: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			answer: "HTTP/1.1 200 OK\r\nDate: x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n",
			want:   "HTTP/1.1 200 OK\r\nX-End: 2\r\nContent-Length: 0\r\nConnection: close\r\nVia: 1.1 tulle\r\n\r\n",
		},
		{
			name: "CONNECT", send: "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", answer: hello,
			has: []string{"HTTP/1.1 501 ", "Proxy-Status: tulle; error="},
		},
		{
			name: "OPTIONS that may go no further", send: "OPTIONS * HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n",
			answer: hello, has: []string{"HTTP/1.1 200 ", "Content-Length: 0\r\n"},
		},
		{
			name: "two lengths", send: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", answer: hello,
			has: []string{"HTTP/1.1 400 ", "Connection: close\r\n", "Proxy-Status: tulle; error=http_request_error"},
		},
		{
			name: "length and chunked", send: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", answer: hello,
			has: []string{"HTTP/1.1 400 "},
		},
		{
			name: "no Host", send: "GET / HTTP/1.1\r\n\r\n", answer: hello, has: []string{"HTTP/1.1 400 "},
		},
		{
			name: "an unknown version", send: "GET / HTTP/2.0\r\nHost: x\r\n\r\n", answer: hello, has: []string{"HTTP/1.1 505 "},
		},
		{
			name: "a head without end", send: "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 20_000), answer: hello,
			has: []string{"HTTP/1.1 431 "},
		},
		{
			name: "a target without end", send: "GET /" + strings.Repeat("a", 100_000) + " HTTP/1.1\r\nHost: x\r\n\r\n", answer: hello,
			has: []string{"HTTP/1.1 414 "},
		},
		{
			name: "a chunk that is none", send: "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", answer: "",
			has: []string{"HTTP/1.1 400 "},
		},
		{
			name: "an answer that is none", send: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", answer: "SSH-2.0-x\r\n\r\n",
			has: []string{"HTTP/1.1 502 ", "Proxy-Status: tulle; error=http_protocol_error"},
		},
		{
			name: "an answer with two lengths", send: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
			has:    []string{"HTTP/1.1 502 "},
		},
		{
			name: "a 101 nobody asked for", send: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
			has:    []string{"HTTP/1.1 502 "},
		},
		{
			name: "interim responses without end", send: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			answer: strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100),
			has:    []string{"HTTP/1.1 502 "},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachLoops(t, func(t *testing.T, loops int) {
				p := start(t, edgeView(serve(t, answering(test.answer))), loops)
				got := talk(t, p.addr(t, "http"), test.send)
				plain := withoutDate(got)
				if test.want != "" && plain != test.want {
					t.Errorf("got  %q\nwant %q", plain, test.want)
				}
				for _, part := range test.has {
					if !strings.Contains(got, part) {
						t.Errorf("no %q in %q", part, got)
					}
				}
				settled(t, p)
			})
		})
	}
}

// settled waits until the proxy has no client connection left.
func settled(t testing.TB, p *running) {
	t.Helper()
	for end := time.Now().Add(wait); p.Connections() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are left", p.Connections())
		}
	}
}

func withoutDate(s string) string {
	for {
		i := strings.Index(s, "Date: ")
		if i < 0 {
			return s
		}
		j := strings.Index(s[i:], "\r\n")
		s = s[:i] + s[i+j+2:]
	}
}

// TestRequests looks at what the backend gets.
func TestRequests(t *testing.T) {
	for _, test := range []struct{ name, send, want string }{
		{
			"fields of the hop stay", "GET /a?b=c HTTP/1.1\r\nHost: x.example\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nA: b\r\n\r\n",
			"GET /a?b=c HTTP/1.1\r\nHost: x.example\r\nA: b\r\nFROM x.example\r\nVia: 1.1 tulle\r\n\r\n",
		},
		{
			"absolute-form becomes origin-form", "GET http://x.example/a HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n",
			"GET /a HTTP/1.1\r\nHost: x.example\r\nFROM x.example\r\nVia: 1.1 tulle\r\n\r\n",
		},
		{
			"chunks are written anew", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n00005;a=b\r\nhello\r\n0\r\nT: 1\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: x\r\nFROM x\r\nTransfer-Encoding: chunked\r\nVia: 1.1 tulle\r\n\r\n5\r\nhello\r\n0\r\nT: 1\r\n\r\n",
		},
		{
			"HTTP/1.0 is sent on as 1.1", "POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
			"POST / HTTP/1.1\r\nHost: x\r\nFROM x\r\nContent-Length: 2\r\nVia: 1.0 tulle\r\n\r\nhi",
		},
		{
			"Max-Forwards counts down", "OPTIONS * HTTP/1.1\r\nHost: x\r\nMax-Forwards: 7\r\nConnection: close\r\n\r\n",
			"OPTIONS * HTTP/1.1\r\nHost: x\r\nFROM x\r\nMax-Forwards: 6\r\nVia: 1.1 tulle\r\n\r\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			// What every edge says of the client (TestForwarded).
			want := regexp.MustCompile(`FROM ([a-z.]+)`).ReplaceAllString(test.want, "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: $1")
			got := make(chan string, 1)
			backend := serve(t, func(c net.Conn) {
				b := make([]byte, len(want))
				n, _ := io.ReadFull(c, b)
				got <- string(b[:n])
				io.WriteString(c, hello)
				io.Copy(io.Discard, c)
			})
			p := start(t, edgeView(backend), 1)
			talk(t, p.addr(t, "http"), test.send)
			if g := <-got; g != want {
				t.Errorf("got  %q\nwant %q", g, want)
			}
		})
	}
}

// TestPipelining: answers come in the order of the requests, whatever each takes.
func TestPipelining(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		backend := serve(t, func(c net.Conn) {
			r := bufio.NewReader(c)
			for {
				head, err := readHead(r)
				if err != nil {
					return
				}
				path := strings.Fields(head)[1]
				if path == "/0" {
					time.Sleep(50 * time.Millisecond)
				}
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(path), path)
			}
		})
		p := start(t, edgeView(backend), loops)
		var send, want strings.Builder
		const n = 500
		for i := range n {
			last := ""
			if i == n-1 {
				last = "Connection: close\r\n"
			}
			fmt.Fprintf(&send, "GET /%d HTTP/1.1\r\nHost: x\r\n%s\r\n", i, last)
			fmt.Fprintf(&want, "/%d ", i)
		}
		r := bufio.NewReader(strings.NewReader(talk(t, p.addr(t, "http"), send.String())))
		var got strings.Builder
		for {
			head, err := readHead(r)
			if err != nil {
				break
			}
			var length int
			fmt.Sscanf(head[strings.Index(head, "Content-Length"):], "Content-Length: %d", &length)
			body := make([]byte, length)
			io.ReadFull(r, body)
			got.WriteString(string(body) + " ")
		}
		if got.String() != want.String() {
			t.Errorf("got %q", got.String())
		}
	})
}

// TestExpectContinue: the backend decides whether the body is wanted.
func TestExpectContinue(t *testing.T) {
	backend := serve(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		head, _ := readHead(r)
		if !strings.Contains(head, "Expect: 100-continue") {
			t.Errorf("got %q", head)
		}
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		body := make([]byte, 5)
		io.ReadFull(r, body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%s", body)
		io.Copy(io.Discard, c)
	})
	p := start(t, edgeView(backend), 1)
	c := dialTo(t, p.addr(t, "http"))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	r := bufio.NewReader(c)
	if head, err := readHead(r); !strings.HasPrefix(head, "HTTP/1.1 100 ") {
		t.Fatalf("got %q, %v", head, err)
	}
	io.WriteString(c, "hello")
	if head, err := readHead(r); !strings.HasPrefix(head, "HTTP/1.1 200 ") || strings.Contains(head, "close") {
		t.Fatalf("got %q, %v", head, err)
	}
	body := make([]byte, 5)
	if _, err := io.ReadFull(r, body); err != nil || string(body) != "hello" {
		t.Errorf("got %q, %v", body, err)
	}
}

// TestUpgrade: after a 101 bytes go both ways, those sent along with the
// request included.
func TestUpgrade(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		backend := serve(t, func(c net.Conn) {
			r := bufio.NewReader(c)
			head, _ := readHead(r)
			if !strings.Contains(head, "Upgrade: websocket\r\n") || !strings.Contains(head, "Connection: upgrade\r\n") {
				t.Errorf("got %q", head)
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst ")
			io.Copy(c, r)
			c.(*net.TCPConn).CloseWrite()
		})
		p := start(t, edgeView(backend), loops)
		got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
		if !strings.HasPrefix(got, "HTTP/1.1 101 ") || !strings.HasSuffix(got, "\r\n\r\nfirst early") {
			t.Errorf("got %q", got)
		}
		settled(t, p)
	})
}

// TestEarlyResponse: the answer comes while the client still sends, and nothing
// of it is lost.
func TestEarlyResponse(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		backend := serve(t, func(c net.Conn) {
			readHead(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
			c.(*net.TCPConn).CloseWrite()
			time.Sleep(50 * time.Millisecond) // and closes with bytes unread
		})
		p := start(t, edgeView(backend), loops)
		c := dialTo(t, p.addr(t, "http"))
		go func() {
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 64<<20)
			block := make([]byte, 64<<10)
			for range 1024 {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		}()
		got, _ := io.ReadAll(c)
		if !bytes.HasPrefix(got, []byte("HTTP/1.1 413 ")) || !bytes.HasSuffix(got, []byte("much")) {
			t.Errorf("got %q", got)
		}
	})
}

// TestStaleConnections: a backend closes each connection after its answer
// without saying so; no request is lost.
func TestStaleConnections(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		var served atomic.Int64
		backend := serve(t, func(c net.Conn) {
			r := bufio.NewReader(c)
			for range 2 {
				if _, err := readHead(r); err != nil {
					return
				}
				served.Add(1)
				io.WriteString(c, hello)
			}
		})
		p := start(t, edgeView(backend), loops)
		c := dialTo(t, p.addr(t, "http"))
		r := bufio.NewReader(c)
		for i := range 200 {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			head, err := readHead(r)
			if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				t.Fatalf("request %d: %q %v", i, head, err)
			}
			io.ReadFull(r, make([]byte, 5))
		}
		if served.Load() != 200 {
			t.Errorf("the backend served %d requests, want 200", served.Load())
		}
	})
}

// TestNextEndpoint: a refused connection is tried elsewhere.
func TestNextEndpoint(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := dead.Addr().(*net.TCPAddr).AddrPort()
	dead.Close()
	p := start(t, edgeView(gone, serve(t, answering(hello))), 1)
	for range 20 {
		got := talk(t, p.addr(t, "http"), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
		if !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Fatalf("got %q", got)
		}
	}
	p = start(t, edgeView(gone), 1)
	got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 502 ") || !strings.Contains(got, "error=connection_refused") {
		t.Errorf("got %q", got)
	}
	p = start(t, edgeView(), 1)
	got = talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "error=destination_unavailable") {
		t.Errorf("got %q", got)
	}
}

func TestNoRoute(t *testing.T) {
	v := edgeView(serve(t, answering(hello)))
	v.Proxy.Listeners[0].Routes.Hosts[0].Hostnames = []string{"shop.example"}
	p := start(t, v, 1)
	got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 404 ") {
		t.Errorf("got %q", got)
	}
}

// silent takes what it is sent and says nothing.
func silent(c net.Conn) { io.Copy(io.Discard, c) }

func TestTimeouts(t *testing.T) {
	const short = 100 * time.Millisecond
	for _, test := range []struct {
		name    string
		set     func(*view.View)
		send    string
		handle  func(net.Conn)
		want    string
		atLeast time.Duration
	}{
		{"a head that doesn't end", func(v *view.View) { v.Proxy.Settings.HeadTimeout = short },
			"GET / HTTP/1.1\r\nHost:", silent, "HTTP/1.1 408 ", short},
		{"a body that doesn't come", func(v *view.View) { v.Proxy.Settings.StreamIdle = short },
			"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", silent, "HTTP/1.1 408 ", short},
		{"an answer that doesn't come", func(v *view.View) { v.Proxy.Settings.StreamIdle = short },
			"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", silent, "HTTP/1.1 504 ", short},
		{"the route's timeout", func(v *view.View) {
			v.Proxy.Listeners[0].Routes.Hosts[0].Rules[0].Timeout = short
		}, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", silent, "HTTP/1.1 504 ", short},
		{"an idle connection", func(v *view.View) { v.Proxy.Settings.IdleTimeout = short }, "", silent, "", short},
		{"an answer that stops half-way", func(v *view.View) { v.Proxy.Settings.StreamIdle = short },
			"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			answering("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"), "HTTP/1.1 200 ", short},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := edgeView(serve(t, test.handle))
			test.set(v)
			p := start(t, v, 1)
			began := time.Now() // the proxy may accept before a dial returns
			c := dialTo(t, p.addr(t, "http"))
			io.WriteString(c, test.send)
			got, err := io.ReadAll(c)
			if took := time.Since(began); took < test.atLeast || took > wait/2 {
				t.Errorf("took %s", took)
			}
			if !strings.HasPrefix(string(got), test.want) || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			settled(t, p)
		})
	}
}

// TestHalfClose: a client that has ended its side still gets its answer.
func TestHalfClose(t *testing.T) {
	backend := serve(t, func(c net.Conn) {
		readHead(bufio.NewReader(c))
		time.Sleep(50 * time.Millisecond)
		io.WriteString(c, hello)
		io.Copy(io.Discard, c)
	})
	p := start(t, edgeView(backend), 1)
	if got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasSuffix(got, "hello") {
		t.Errorf("got %q", got)
	}
	settled(t, p)
}

// TestClientGone: a client that resets takes the exchange with it.
func TestClientGone(t *testing.T) {
	ended := make(chan struct{})
	backend := serve(t, func(c net.Conn) {
		io.Copy(io.Discard, c)
		close(ended)
	})
	p := start(t, edgeView(backend), 1)
	c := dialTo(t, p.addr(t, "http"))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	time.Sleep(20 * time.Millisecond)
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	select {
	case <-ended:
	case <-time.After(wait):
		t.Error("the backend's connection stays open")
	}
	settled(t, p)
}

// TestBackPressure: a client that doesn't read holds the backend up.
func TestBackPressure(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		const size = 64 << 20
		var written atomic.Int64
		backend := serve(t, func(c net.Conn) {
			readHead(bufio.NewReader(c))
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			block := make([]byte, 64<<10)
			for written.Load() < size {
				n, err := c.Write(block)
				written.Add(int64(n))
				if err != nil {
					return
				}
			}
			io.Copy(io.Discard, c)
		})
		p := start(t, edgeView(backend), loops)
		c := dialTo(t, p.addr(t, "http"))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		time.Sleep(300 * time.Millisecond)
		if w := written.Load(); w > size/2 {
			t.Errorf("the backend could write %d of %d bytes to a client that reads nothing", w, size)
		}
		n, err := io.Copy(io.Discard, c)
		if err != nil || n < size {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}
