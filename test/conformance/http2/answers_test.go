package http2

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h2"
)

// answer is what a server sends once it has a request, and what clients of both
// versions get: a status and whether the answer is whole. An answer that is no good
// must be an error of the gateway or, where its head has gone ahead, end so that
// the client can tell.
type answer struct {
	name   string
	method string // "" is GET
	send   func(id uint32) string
	one    string // over HTTP/1.1
	two    string // over HTTP/2
	lost   bool   // nothing came
}

// why is the error type of Proxy-Status (RFC 9209, 2.3): that the connection was
// closed, or that what came isn't HTTP.
func (a *answer) why() string {
	if a.lost {
		return "connection_terminated"
	}
	return "http_protocol_error"
}

const (
	bad     = "502 whole"
	cut     = "200 cut"
	badOr   = "502 whole | 200 cut"
	goodTwo = "200 whole"
)

// head, body and both make frames of a server.
func head(fields ...string) func(uint32) string {
	return func(id uint32) string { return frame(h2.Headers, whole, id, block(fields...)) }
}

func done(fields ...string) func(uint32) string {
	return func(id uint32) string { return frame(h2.Headers, whole|end, id, block(fields...)) }
}

func body(flags h2.Flags, p string) func(uint32) string {
	return func(id uint32) string { return frame(h2.Data, flags, id, p) }
}

func also(all ...func(uint32) string) func(uint32) string {
	return func(id uint32) string {
		var s strings.Builder
		for _, f := range all {
			s.WriteString(f(id))
		}
		return s.String()
	}
}

func raw(s string) func(uint32) string { return func(uint32) string { return s } }

func repeated(n int, f func(uint32) string) func(uint32) string {
	return func(id uint32) string { return strings.Repeat(f(id), n) }
}

var hi = body(end, "hi")

var answers = []answer{
	{"RFC 9113, 8.1: a response", "", also(head(":status: 200", "x: y"), hi), goodTwo, goodTwo, false},
	{"RFC 9113, 8.1: without a body", "", done(":status: 200"), goodTwo, goodTwo, false},
	{"RFC 9113, 8.1: in two frames", "", func(id uint32) string {
		return frame(h2.Headers, none, id, block(":status: 200")) + frame(h2.Continuation, whole, id, block("x: y")) + hi(id)
	}, goodTwo, goodTwo, false},
	{"RFC 9113, 6.1: padded", "", func(id uint32) string {
		return frame(h2.Headers, whole|padded, id, "\x02", block(":status: 200"), "\x00\x00") + frame(h2.Data, padded|end, id, "\x01hi\x00")
	}, goodTwo, goodTwo, false},
	{"RFC 9113, 8.1: trailers", "", also(head(":status: 200"), body(none, "hi"), done("x: y")), goodTwo, goodTwo, false},
	{"RFC 9113, 8.1: interim responses", "", also(repeated(20, head(":status: 103", "link: x")), head(":status: 200"), hi), goodTwo, goodTwo, false},
	{"RFC 9113, 8.1: an interim response that ends the stream", "", done(":status: 103"), bad, bad, false},
	{"RFC 9113, 8.1: interim responses without an end", "", repeated(100, head(":status: 103")), bad, bad, false},
	{"RFC 9113, 8.1: DATA first", "", hi, bad, bad, false},
	{"RFC 9113, 8.1: DATA after an interim response", "", also(head(":status: 100"), hi), bad, bad, false},
	{"RFC 9113, 8.1: trailers that don't end the stream", "", also(head(":status: 200"), body(none, "hi"), head("x: y")), cut, cut, false},
	{"RFC 9113, 8.1: pseudo-header fields in trailers", "", also(head(":status: 200"), body(none, "hi"), done(":status: 200")), cut, cut, false},
	{"RFC 9113, 8.1.1: content-length", "", also(head(":status: 200", "content-length: 2"), hi), goodTwo, goodTwo, false},
	{"RFC 9113, 8.1.1: above the body", "", also(head(":status: 200", "content-length: 3"), hi), badOr, badOr, false},
	{"RFC 9113, 8.1.1: below the body", "", also(head(":status: 200", "content-length: 1"), hi), badOr, badOr, false},
	{"RFC 9113, 8.1.1: without a body", "", done(":status: 200", "content-length: 2"), bad, bad, false},
	{"RFC 9113, 8.1.1: of HEAD", "HEAD", done(":status: 200", "content-length: 2"), goodTwo, goodTwo, false},
	{"RFC 9113, 8.1.1: of 304", "", done(":status: 304", "content-length: 2"), "304 whole", "304 whole", false},
	{"RFC 9110, 8.6: that is no number", "", also(head(":status: 200", "content-length: +2"), hi), bad, bad, false},
	{"RFC 9113, 8.2: upper case", "", also(head(":status: 200", "X: y"), hi), bad, bad, false},
	{"RFC 9113, 8.2.1: a LF in a value", "", also(head(":status: 200", "x: y\nz: smuggled"), hi), bad, bad, false},
	{"RFC 9113, 8.2.1: a CR in a value", "", also(head(":status: 200", "x: y\rz: smuggled"), hi), bad, bad, false},
	{"RFC 9113, 8.2.1: a NUL in a value", "", also(head(":status: 200", "x: y\x00"), hi), bad, bad, false},
	{"RFC 9113, 8.2.1: a SP before a value", "", also(head(":status: 200", "x:  y"), hi), bad, bad, false},
	{"RFC 9113, 8.2.1: a SP in a name", "", also(head(":status: 200", "x y: z"), hi), bad, bad, false},
	{"RFC 9113, 8.2.2: connection", "", also(head(":status: 200", "connection: close"), hi), bad, bad, false},
	{"RFC 9113, 8.2.2: keep-alive", "", also(head(":status: 200", "keep-alive: 1"), hi), bad, bad, false},
	{"RFC 9113, 8.2.2: transfer-encoding", "", also(head(":status: 200", "transfer-encoding: chunked"), hi), bad, bad, false},
	{"RFC 9113, 8.2.2: upgrade", "", also(head(":status: 200", "upgrade: x"), hi), bad, bad, false},
	{"RFC 9113, 8.2.2: te", "", also(head(":status: 200", "te: trailers"), hi), bad, bad, false},
	{"RFC 9113, 8.3: a request's pseudo-header field", "", also(head(":status: 200", ":path: /"), hi), bad, bad, false},
	{"RFC 9113, 8.3.2: no status", "", also(head("x: y"), hi), bad, bad, false},
	{"RFC 9113, 8.3.2: two of them", "", also(head(":status: 200", ":status: 200"), hi), bad, bad, false},
	{"RFC 9110, 15: a status of two digits", "", also(head(":status: 20"), hi), bad, bad, false},
	{"RFC 9110, 15: a status of 600", "", also(head(":status: 600"), hi), bad, bad, false},
	{"RFC 9113, 8.6: 101", "", also(head(":status: 101"), hi), bad, bad, false},
	{"RFC 9113, 6.6: a push nobody wants", "", func(id uint32) string {
		return frame(h2.PushPromise, whole, id, number(2), block(plain...)) + done(":status: 200")(id)
	}, bad, bad, false},
	{"RFC 9113, 5.1: a response on an idle stream", "", func(id uint32) string { return done(":status: 200")(id + 2) }, bad, bad, false},
	{"RFC 9113, 4.2: a frame that is too long", "", also(head(":status: 200"), body(end, strings.Repeat("x", h2.MinMaxFrameSize+1))), badOr, badOr, false},
	{"RFC 9113, 4.3: a block that can't be decoded", "", func(id uint32) string { return frame(h2.Headers, whole|end, id, "\x80") }, bad, bad, false},
	{"RFC 9113, 7: INTERNAL_ERROR", "", func(id uint32) string { return frame(h2.RSTStream, none, id, number(2)) }, bad, "502 whole | reset INTERNAL_ERROR", true},
	{"RFC 9113, 6.4: RST_STREAM within the body", "", also(head(":status: 200"), body(none, "hi"), func(id uint32) string { return frame(h2.RSTStream, none, id, number(2)) }), cut, cut, false},
	{"RFC 9113, 6.8: GOAWAY after the request", "", also(func(id uint32) string { return frame(h2.GoAway, none, 0, number(id), number(0)) }, done(":status: 200")), goodTwo, goodTwo, false},
}

// ones are answers of a server that speaks HTTP/1.1. The connection then ends.
var ones = []answer{
	{"RFC 9112, 6.3: content-length", "", raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), goodTwo, goodTwo, false},
	{"RFC 9112, 6.3: cut short", "", raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi"), cut, cut, false},
	{"RFC 9112, 7.1: chunks", "", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n"), goodTwo, goodTwo, false},
	{"RFC 9112, 7.1: chunks cut short", "", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"), cut, cut, false},
	{"RFC 9112, 7.1: no chunk", "", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nx\r\n"), cut, cut, false},
	{"RFC 9112, 6.3: until close", "", raw("HTTP/1.1 200 OK\r\n\r\nhi"), goodTwo, goodTwo, false},
	{"RFC 9112, 6.3: no content in 204", "", raw("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi"), "204 whole", "204 whole", false},
	{"RFC 9112, 6.3: no content of HEAD", "HEAD", raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), goodTwo, goodTwo, false},
	{"RFC 9110, 7.6.1: fields of the connection", "", raw("HTTP/1.1 200 OK\r\nConnection: close, x\r\nX: y\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTE: x\r\nContent-Length: 0\r\n\r\n"), goodTwo, goodTwo, false},
	{"RFC 9110, 15.2: interim responses", "", raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: y\r\n\r\n", 20) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), goodTwo, goodTwo, false},
	{"RFC 9110, 15.2: interim responses without an end", "", raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100)), bad, bad, false},
	{"RFC 9110, 7.8: a switch nobody asked for", "", raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), bad, bad, false},
	{"RFC 9112, 5.2: a fold", "", raw("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"), bad, bad, false},
	{"RFC 9112, 5: a pseudo-header field", "", raw("HTTP/1.1 200 OK\r\n:status: 500\r\nContent-Length: 0\r\n\r\n"), bad, bad, false},
	{"RFC 9112, 6.3: two lengths", "", raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi"), bad, bad, false},
	{"RFC 9112, 6.3: both framings", "", raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi"), bad, bad, false},
	{"RFC 9112, 4: no HTTP", "", raw("hello"), bad, bad, false},
	{"RFC 9112, 9.5: nothing", "", raw(""), bad, bad, true},
}

func TestAnswers(t *testing.T) {
	for _, s := range []struct {
		rows   []answer
		speaks view.Protocol
		serve  func(net.Conn, *atomic.Pointer[answer])
	}{
		{answers, view.HTTP2, answerTwo},
		{ones, view.HTTP, answerOne},
	} {
		var now atomic.Pointer[answer]
		addr := start(t, scripted(t, func(c net.Conn) { s.serve(c, &now) }), s.speaks)
		for i := range s.rows {
			a := &s.rows[i]
			now.Store(a)
			if got := overOne(t, addr, a.method, a.why()); !oneOf(a.one, got) {
				t.Errorf("%s: over HTTP/1.1 %s, want %s", a.name, got, a.one)
			}
			if got := overTwo(t, addr, a.method); !oneOf(a.two, got) {
				t.Errorf("%s: over HTTP/2 %s, want %s", a.name, got, a.two)
			}
		}
	}
}

func oneOf(want, got string) bool {
	for w := range strings.SplitSeq(want, " | ") {
		if w == got {
			return true
		}
	}
	return false
}

// scripted is a server of which each connection is served so.
func scripted(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// answerOne answers one request over HTTP/1.1.
func answerOne(c net.Conn, now *atomic.Pointer[answer]) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" {
			break
		}
	}
	io.WriteString(c, now.Load().send(0))
}

// answerTwo answers each request over HTTP/2.
func answerTwo(c net.Conn, now *atomic.Pointer[answer]) {
	io.CopyN(io.Discard, c, int64(len(h2.Preface)))
	io.WriteString(c, frame(h2.Settings, none, 0)+frame(h2.Settings, h2.FlagAck, 0))
	var in []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		in = append(in, buf[:n]...)
		for {
			f, n, _ := h2.Cut(in, h2.MaxMaxFrameSize)
			if n == 0 {
				break
			}
			if f.Type == h2.Headers {
				io.WriteString(c, now.Load().send(f.Stream))
			}
			in = in[n:]
		}
	}
}

// overOne asks over HTTP/1.1, reading as net/http does.
func overOne(t *testing.T, addr, method, why string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, wait)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	if method == "" {
		method = "GET"
	}
	io.WriteString(c, method+" / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
	r := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return err.Error()
		}
		if res.StatusCode < 200 {
			continue
		}
		for _, name := range []string{"Keep-Alive", "Proxy-Connection", "Upgrade", "TE", "Z"} {
			if res.Header.Get(name) != "" {
				return name + " went through"
			}
		}
		if res.Header.Get("Date") == "" {
			return "no Date"
		}
		if res.StatusCode == 502 && !strings.HasPrefix(res.Header.Get("Proxy-Status"), "tulle; error="+why) {
			return res.Header.Get("Proxy-Status")
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return fmt.Sprintf("%d cut", res.StatusCode)
		}
		return fmt.Sprintf("%d whole", res.StatusCode)
	}
}

// overTwo asks over HTTP/2.
func overTwo(t *testing.T, addr, method string) string {
	t.Helper()
	var c peer
	var err error
	if c.conn, err = net.DialTimeout("tcp", addr, wait); err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	c.conn.SetDeadline(time.Now().Add(wait))
	if method == "" {
		method = "GET"
	}
	c.send(h2.Preface, frame(h2.Settings, none, 0), asks(":method: "+method, ":scheme: http", ":path: /", ":authority: a.example"))
	status := ""
	buf := make([]byte, 32<<10)
	for {
		for {
			f, n, _ := h2.Cut(c.in, h2.MaxMaxFrameSize)
			if n == 0 {
				break
			}
			c.in = c.in[n:]
			what := c.take(f)
			switch {
			case f.Type == h2.RSTStream && status == "":
				return strings.Replace(what, "1: RST_STREAM", "reset", 1)
			case f.Type == h2.RSTStream:
				return status + " cut"
			case f.Type == h2.GoAway:
				return what
			case f.Type == h2.Headers && !strings.HasSuffix(what, "trailers") && what[3] != '1':
				status = what[3:]
			}
			if (f.Type == h2.Headers || f.Type == h2.Data) && f.Flags.Has(end) {
				return status + " whole"
			}
		}
		n, err := c.conn.Read(buf)
		c.in = append(c.in, buf[:n]...)
		if err != nil && n == 0 {
			return err.Error()
		}
	}
}

// gRPC's Trailers-Only answer is passed on as it is, and every answer of a server
// that speaks HTTP/2 without a Content-Length it didn't have.
func TestTrailersOnly(t *testing.T) {
	var now atomic.Pointer[answer]
	addr := start(t, scripted(t, func(c net.Conn) { answerTwo(c, &now) }), view.HTTP2)
	sent := []string{":status: 200", "content-type: application/grpc", "grpc-status: 5", "grpc-message: no"}
	now.Store(&answer{send: done(sent...)})
	for _, request := range []string{
		frame(h2.Headers, whole, 1, block(append(post[:4:4], "content-type: application/grpc", "te: trailers")...)) + frame(h2.Data, end, 1, "\x00\x00\x00\x00\x00"),
		get(),
	} {
		c := &peer{}
		var err error
		if c.conn, err = net.DialTimeout("tcp", addr, wait); err != nil {
			t.Fatal(err)
		}
		defer c.conn.Close()
		c.conn.SetDeadline(time.Now().Add(wait))
		c.send(h2.Preface, frame(h2.Settings, none, 0), request)
		if err := c.until(answered); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range c.fields {
			if !strings.HasPrefix(f, "date: ") && !strings.HasPrefix(f, "tulle-id: ") {
				got = append(got, f)
			}
		}
		if want := append(sent[:len(sent):len(sent)], "via: 2 tulle"); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

// RFC 9113, 8.3.1: a request for an http URI has an authority, also where an
// HTTP/1.0 client left Host out.
func TestNoHost(t *testing.T) {
	server := program(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto+" "+r.Host) })
	c, err := net.DialTimeout("tcp", start(t, server, view.HTTP2), wait)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	got, err := io.ReadAll(c)
	if want := "\r\n\r\nHTTP/2.0 " + server.String(); err != nil || !strings.HasSuffix(string(got), want) {
		t.Errorf("%q %v, want %q", got, err, want)
	}
}

// RFC 9110, 6.6.1 and RFC 9209: what the proxy refuses because of its fields has a
// Date, and says why.
func TestTooLarge(t *testing.T) {
	server, _ := recorder(t)
	c := &peer{}
	var err error
	if c.conn, err = net.DialTimeout("tcp", start(t, server, view.HTTP), wait); err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	c.conn.SetDeadline(time.Now().Add(wait))
	c.send(h2.Preface, frame(h2.Settings, none, 0), get(many(1000)...))
	if err := c.until("1: 431"); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(c.fields, "\n")
	if !strings.Contains(all, "\ndate: ") || !strings.Contains(all, "\nproxy-status: tulle; error=http_request_error") {
		t.Errorf("%q", c.fields)
	}
}
