package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
)

// dial connects to the proxy.
func dial(t *testing.T, addr string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, wait)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(wait))
	return c.(*net.TCPConn), bufio.NewReader(c)
}

func send(t *testing.T, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// read reads an answer and checks its status.
func read(t *testing.T, r *bufio.Reader, method string, status int) *message {
	t.Helper()
	m, err := readMessage(r, method)
	if err != nil || m.status() != status {
		t.Fatalf("answered %q %.300q (%v), want %d", m.head, m.body, err, status)
	}
	return m
}

// ended checks that the connection ends in good order.
func ended(t *testing.T, r *bufio.Reader) {
	t.Helper()
	if b, err := io.ReadAll(r); len(b) > 0 || err != nil {
		t.Fatalf("the connection goes on with %q, %v", b, err)
	}
}

const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// behaviours are about more than one message. Each begins with the section it
// follows.
func TestBehaviour(t *testing.T) {
	for name, before := range map[string]func(*testing.T, *origin) string{
		"edge":      start,
		"HTTP1pair": func(t *testing.T, o *origin) string { return pair(t, o, view.PeerHTTP1) },
		"HTTP2pair": func(t *testing.T, o *origin) string { return pair(t, o, view.PeerHTTP2) },
	} {
		t.Run(name, func(t *testing.T) { behave(t, before) })
	}
}

// behave runs all of them; before puts a proxy before an origin.
func behave(t *testing.T, before func(*testing.T, *origin) string) {
	o := startOrigin(t)
	addr := before(t, o)
	o.proxy = before
	for _, b := range []struct {
		name string
		run  func(t *testing.T, o *origin, addr string)
	}{
		{"RFC 9112, 9.3.2: pipelined requests are answered in order", pipelined},
		{"RFC 9112, 9.3.2: an error ends a pipeline after the answers before it", pipelineError},
		{"RFC 9112, 9.6: nothing is processed after a request that says close", afterClose},
		{"RFC 9112, 9.6: nothing is processed after a refusal", afterRefusal},
		{"RFC 9112, 2.2: a request may come byte by byte", byteByByte},
		{"RFC 9112, 9.6: a client that ends its side gets its answer", halfClosed},
		{"RFC 9110, 10.1.1: the client waits for 100 and gets the server's", expectContinue},
		{"RFC 9110, 10.1.1: the server answers at once, the client needn't send", expectRefused},
		{"RFC 9110, 15.2: no interim response to HTTP/1.0", interimOld},
		{"RFC 9110, 15.2: several interim responses", interims},
		{"RFC 9110, 7.6.2: Max-Forwards 0 is answered here", maxForwards},
		{"RFC 9110, 7.8: an upgraded connection carries bytes both ways", upgraded},
		{"RFC 9110, 7.8: an offer that is declined", declined},
		{"RFC 9112, 9.5: the server closes an idle connection", staleConnection},
		{"RFC 9112, 9.3.1: a request that may do harm isn't sent twice", notTwice},
		{"RFC 9112, 7.1: content of any size", bigBodies},
		{"RFC 9112, 9.3: the server answers before the request is whole", earlyAnswer},
		{"RFC 9112, 3: a request line of 8000 bytes and more", longLines},
		{"RFC 9112, 3 and RFC 6585, 5: heads beyond the limits", tooLong},
		{"RFC 9112, 9.3: HTTP/1.0 with keep-alive", keepAliveOld},
		{"RFC 9110, 9.3.2: HEAD is answered without content by us too", headRefused},
		{"RFC 9112, 6.3: an answer with extra bytes ends its connection", extraBytes},
		{"RFC 9112, 9.2: answers nobody asked for", unasked},
		{"RFC 9110, 15.6.3: the server can't be reached", unreachable},
		{"RFC 9209, 2: what the proxy answers itself", proxyStatus},
	} {
		t.Run(b.name, func(t *testing.T) {
			o.set(ok)
			for len(o.requests) > 0 {
				<-o.requests
			}
			b.run(t, o, addr)
		})
	}
}

// echoPath answers with the request's start line.
func echoPath(m *message) (string, bool) {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(m.start), m.start), false
}

func pipelined(t *testing.T, o *origin, addr string) {
	o.set(echoPath)
	c, r := dial(t, addr)
	var all strings.Builder
	for i := range 50 {
		body := strings.Repeat("x", i*37)
		switch i % 3 {
		case 0:
			fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
		case 1:
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
		case 2:
			fmt.Fprintf(&all, "PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", i, len(body), body)
		}
	}
	go io.WriteString(c, all.String())
	for i := range 50 {
		m := read(t, r, "GET", 200)
		if !strings.Contains(m.body, fmt.Sprintf(" /%d ", i)) {
			t.Fatalf("answer %d is to %q", i, m.body)
		}
	}
}

func pipelineError(t *testing.T, o *origin, addr string) {
	c, r := dial(t, addr)
	send(t, c, get+get+"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"+get)
	read(t, r, "GET", 200)
	read(t, r, "GET", 200)
	read(t, r, "GET", 400)
	ended(t, r)
	time.Sleep(10 * time.Millisecond)
	if n := len(o.requests); n != 2 {
		t.Errorf("%d requests reached the origin, want 2", n)
	}
}

func afterClose(t *testing.T, o *origin, addr string) {
	c, r := dial(t, addr)
	send(t, c, "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
	m := read(t, r, "GET", 200)
	if m.field("Connection") != "close" {
		t.Errorf("the last answer doesn't say so: %q", m.head)
	}
	ended(t, r)
	time.Sleep(10 * time.Millisecond)
	if n := len(o.requests); n != 1 {
		t.Errorf("%d requests reached the origin, want 1", n)
	}
}

func afterRefusal(t *testing.T, o *origin, addr string) {
	c, r := dial(t, addr)
	send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+get)
	read(t, r, "POST", 400)
	ended(t, r)
	if n := len(o.requests); n != 0 {
		t.Errorf("%d requests reached the origin", n)
	}
}

func byteByByte(t *testing.T, o *origin, addr string) {
	c, r := dial(t, addr)
	const request = "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n"
	for i := range len(request) {
		send(t, c, request[i:i+1])
		time.Sleep(200 * time.Microsecond)
	}
	read(t, r, "POST", 200)
	if m := o.got(wait); m == nil || m.body != "abc" || len(m.trailers) != 1 {
		t.Errorf("the origin got %+v", m)
	}
}

func halfClosed(t *testing.T, o *origin, addr string) {
	o.set(func(m *message) (string, bool) {
		time.Sleep(20 * time.Millisecond)
		return ok(m)
	})
	for _, request := range []string{get, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", get + get} {
		c, r := dial(t, addr)
		send(t, c, request)
		c.CloseWrite()
		for range strings.Count(request, "HTTP/1.1") {
			read(t, r, "GET", 200)
		}
		ended(t, r)
	}
}

// rawOrigin is a proxy before an origin that is a function of the connection.
func rawOrigin(t *testing.T, o *origin, serve func(c net.Conn, r *bufio.Reader)) string {
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
				c.SetDeadline(time.Now().Add(wait))
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	return o.proxy(t, &origin{addr: l.Addr().(*net.TCPAddr).AddrPort()})
}

// readHead reads a head, for origins that answer before the content.
func readHead(r *bufio.Reader) string {
	var head string
	for {
		l, err := r.ReadString('\n')
		head += l
		if err != nil || l == "\r\n" {
			return head
		}
	}
}

func expectContinue(t *testing.T, o *origin, _ string) {
	addr := rawOrigin(t, o, func(c net.Conn, r *bufio.Reader) {
		head := readHead(r)
		if !strings.Contains(head, "Expect: 100-continue\r\n") {
			io.WriteString(c, "HTTP/1.1 500 No Expect\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		b := make([]byte, 4)
		io.ReadFull(r, b)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%s", b)
		r.ReadByte()
	})
	c, r := dial(t, addr)
	send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	read(t, r, "POST", 100)
	send(t, c, "body")
	if m := read(t, r, "POST", 200); m.body != "body" {
		t.Errorf("got %q", m.body)
	}
}

func expectRefused(t *testing.T, o *origin, _ string) {
	addr := rawOrigin(t, o, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
		r.ReadByte()
	})
	c, r := dial(t, addr)
	send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	m := read(t, r, "POST", 417)
	if m.field("Connection") != "close" {
		t.Errorf("whether the content follows can't be known, the connection must end: %q", m.head)
	}
	ended(t, r)
}

func interimOld(t *testing.T, o *origin, addr string) {
	o.set(func(*message) (string, bool) {
		return "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false
	})
	c, r := dial(t, addr)
	send(t, c, "GET / HTTP/1.0\r\nHost: a\r\n\r\n")
	read(t, r, "GET", 200)
}

func interims(t *testing.T, o *origin, addr string) {
	o.set(func(*message) (string, bool) {
		return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false
	})
	c, r := dial(t, addr)
	send(t, c, get)
	read(t, r, "GET", 100)
	if m := read(t, r, "GET", 103); m.field("Link") != "</a>" || m.field("X") != "" || m.field("Via") == "" {
		t.Errorf("interim %q", m.head)
	}
	read(t, r, "GET", 200)
}

func maxForwards(t *testing.T, o *origin, addr string) {
	c, r := dial(t, addr)
	send(t, c, "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
	read(t, r, "OPTIONS", 200)
	send(t, c, "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
	read(t, r, "OPTIONS", 200)
	send(t, c, "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
	if m, err := readMessage(r, "TRACE"); err != nil || m.status() != 405 && m.status() != 200 {
		t.Errorf("TRACE was answered %q, %v", m.head, err)
	}
	if n := len(o.requests); n != 0 {
		t.Errorf("%d requests reached the origin", n)
	}
}

func upgraded(t *testing.T, o *origin, _ string) {
	addr := rawOrigin(t, o, func(c net.Conn, r *bufio.Reader) {
		head := readHead(r)
		if !strings.Contains(head, "Upgrade: websocket\r\n") || !strings.Contains(head, "Connection: upgrade\r\n") {
			io.WriteString(c, "HTTP/1.1 500 No Upgrade\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst")
		b := make([]byte, 4)
		io.ReadFull(r, b)
		fmt.Fprintf(c, "<%s>", b)
		io.Copy(io.Discard, r)
		io.WriteString(c, "last") // after the client has ended its side
	})
	c, r := dial(t, addr)
	// What follows the request at once belongs to the other protocol, if it is
	// switched to.
	send(t, c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\nGET ")
	m := read(t, r, "GET", 101)
	if m.field("Upgrade") != "websocket" || !strings.EqualFold(m.field("Connection"), "upgrade") || m.field("Content-Length") != "" || m.field("Transfer-Encoding") != "" {
		t.Errorf("switched with %q", m.head)
	}
	b := make([]byte, len("first<GET >"))
	if _, err := io.ReadFull(r, b); err != nil || string(b) != "first<GET >" {
		t.Fatalf("got %q, %v", b, err)
	}
	c.CloseWrite()
	if b, err := io.ReadAll(r); err != nil || string(b) != "last" {
		t.Fatalf("got %q, %v", b, err)
	}
}

func declined(t *testing.T, o *origin, addr string) {
	c, r := dial(t, addr)
	send(t, c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	read(t, r, "GET", 200)
	send(t, c, get)
	read(t, r, "GET", 200)
}

func staleConnection(t *testing.T, o *origin, addr string) {
	o.set(func(m *message) (string, bool) { s, _ := ok(m); return s, true }) // closes without a word
	c, r := dial(t, addr)
	for range 20 {
		send(t, c, get)
		read(t, r, "GET", 200)
	}
}

func notTwice(t *testing.T, o *origin, _ string) {
	heads := make(chan string, 10)
	addr := rawOrigin(t, o, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		heads <- readHead(r) // then closes without an answer
	})
	c, r := dial(t, addr)
	send(t, c, get)
	read(t, r, "GET", 200)
	send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	if m := read(t, r, "POST", 502); m.field("Proxy-Status") == "" {
		t.Errorf("answered %q", m.head)
	}
	if n := len(heads); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

func bigBodies(t *testing.T, o *origin, addr string) {
	const size = 5 << 20
	body := strings.Repeat("0123456789abcdef", size/16)
	addr = rawOrigin(t, o, func(c net.Conn, r *bufio.Reader) {
		for {
			head := readHead(r)
			if head == "" {
				return
			}
			b := make([]byte, size)
			if strings.Contains(head, "chunked") {
				b = b[:0]
				m := &message{}
				if m.readChunks(r) != nil {
					return
				}
				b = append(b, m.body...)
			} else if _, err := io.ReadFull(r, b); err != nil {
				return
			}
			if string(b) != body {
				io.WriteString(c, "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			if strings.Contains(head, "/chunked") {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				for i := 0; i < size; i += size / 5 {
					fmt.Fprintf(c, "%x\r\n%s\r\n", size/5, body[i:i+size/5])
				}
				io.WriteString(c, "0\r\n\r\n")
			} else {
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, body)
			}
		}
	})
	c, r := dial(t, addr)
	go func() {
		fmt.Fprintf(c, "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, body)
		fmt.Fprintf(c, "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, body)
	}()
	m, err := readMessageOf(r, size)
	if err != nil || m != body {
		t.Fatalf("%d bytes back, %v", len(m), err)
	}
	if m := read(t, r, "POST", 200); m.body != body {
		t.Fatalf("%d bytes back", len(m.body))
	}
}

// readMessageOf reads an answer whose content is too long for readMessage.
func readMessageOf(r *bufio.Reader, size int) (string, error) {
	readHead(r)
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return string(b), err
}

func earlyAnswer(t *testing.T, o *origin, _ string) {
	addr := rawOrigin(t, o, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, r)
	})
	c, r := dial(t, addr)
	go func() {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	if m := read(t, r, "POST", 413); m.body != "big" || m.field("Connection") != "close" {
		t.Errorf("answered %q", m.head)
	}
}

func longLines(t *testing.T, o *origin, addr string) {
	c, r := dial(t, addr)
	target := "/" + strings.Repeat("x", 9000)
	send(t, c, "GET "+target+" HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("y", 20000)+"\r\n\r\n")
	read(t, r, "GET", 200)
	if m := o.got(wait); m == nil || !strings.HasPrefix(m.start, "GET "+target+" ") || len(m.field("X")) != 20000 {
		t.Error("it arrived otherwise")
	}
}

func tooLong(t *testing.T, o *origin, addr string) {
	for _, row := range []struct {
		request string
		status  int
	}{
		{"GET /" + strings.Repeat("x", 17<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414},
		{"GET /" + strings.Repeat("x", 100<<10), 414},
		{strings.Repeat("M", 200) + " / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
		{strings.Repeat("M", 100<<10), 501},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 70<<10) + "\r\n\r\n", 431},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 200<<10), 431},
		{"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n", 431},
		{"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X", 70<<10) + ": y\r\n\r\n", 431},
	} {
		c, r := dial(t, addr)
		go io.WriteString(c, row.request)
		m := read(t, r, "GET", row.status)
		if m.field("Connection") != "close" {
			t.Errorf("%.40q: %q", row.request, m.head)
		}
		ended(t, r)
		c.Close()
	}
	if n := len(o.requests); n != 0 {
		t.Errorf("%d requests reached the origin", n)
	}
}

func keepAliveOld(t *testing.T, o *origin, addr string) {
	c, r := dial(t, addr)
	for range 3 {
		send(t, c, "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
		if m := read(t, r, "GET", 200); m.field("Connection") != "keep-alive" {
			t.Errorf("answered %q", m.head)
		}
	}
	o.set(func(*message) (string, bool) {
		return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false
	})
	send(t, c, "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
	if m := read(t, r, "GET", 200); m.field("Transfer-Encoding") != "" || m.body != "ok" || m.field("Connection") != "close" {
		t.Errorf("answered %q", m.head)
	}
	ended(t, r)
}

func extraBytes(t *testing.T, o *origin, addr string) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
	} {
		before := o.opened()
		o.set(func(*message) (string, bool) { return answer, false })
		c, r := dial(t, addr)
		send(t, c, get)
		if m, err := readMessage(r, "GET"); err != nil {
			t.Fatalf("answered %q, %v", m.head, err)
		}
		time.Sleep(5 * time.Millisecond)
		o.set(ok)
		send(t, c, get)
		if m := read(t, r, "GET", 200); m.body != "ok" {
			t.Errorf("the next answer is %q after %.60q", m.body, answer)
		}
		if o.opened() == before {
			t.Errorf("the connection was used again after %.60q", answer)
		}
		c.Close()
	}
}

func unasked(t *testing.T, o *origin, _ string) {
	said := make(chan struct{}, 1)
	addr := rawOrigin(t, o, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		time.Sleep(20 * time.Millisecond) // the connection rests in the pool
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		select {
		case said <- struct{}{}:
		default:
		}
		io.Copy(io.Discard, r)
	})
	c, r := dial(t, addr)
	send(t, c, get)
	read(t, r, "GET", 200)
	<-said
	time.Sleep(60 * time.Millisecond)
	send(t, c, get)
	if m := read(t, r, "GET", 200); m.body != "ok" {
		t.Errorf("got %q", m.body)
	}
}

func unreachable(t *testing.T, o *origin, _ string) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd) // nobody listens there, nor will
	if err != nil {
		t.Fatal(err)
	}
	nobody := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*syscall.SockaddrInet4).Port))
	addr := o.proxy(t, &origin{addr: nobody})
	c, r := dial(t, addr)
	for range 2 { // the connection to the client goes on
		send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
		if m := read(t, r, "POST", 502); m.field("Proxy-Status") != "tulle; error=connection_refused" {
			t.Errorf("answered %q", m.head)
		}
	}
}
