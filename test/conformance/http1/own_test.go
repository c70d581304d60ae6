package http1

import (
	"bufio"
	"strings"
	"testing"
)

// What the proxy answers itself, and with which fields.
var own = []struct {
	name, request string
	status        int
	has           []string // lines of the head; "X:" is any line of that name
	hasNot        []string
}{
	{"RFC 9110, 7.6.2 and 9.3.7: OPTIONS that may go no further", "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 200, []string{"Allow:", "Content-Length: 0", "Date:"}, []string{"Proxy-Status:"}},
	{"RFC 9112, 9.3: an HTTP/1.0 client whose connection goes on is told", "OPTIONS / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nMax-Forwards: 0\r\n\r\n", 200, []string{"Connection: keep-alive", "Content-Length: 0"}, nil},
	{"RFC 9112, 9.3: and so when it ends", "OPTIONS / HTTP/1.0\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 200, []string{"Connection: close"}, nil},
	{"RFC 9110, 15.5.6: TRACE that may go no further", "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 405, []string{"Allow:", "Date:", "Proxy-Status: tulle; error=http_request_denied"}, nil},
	{"RFC 9110, 9.3.6: CONNECT at a gateway", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501, []string{"Date:", "Proxy-Status: tulle; error=http_request_denied"}, nil},
	{"RFC 9110, 15.6.6: another major version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, []string{"Connection: close", "Date:"}, nil},
	{"RFC 9110, 15.6.6: with a method nobody knows", "BREW / HTTP/3.0\r\nHost: a\r\n\r\n", 505, []string{"Connection: close", "Date:"}, nil},
	{"RFC 9112, 3: a version that is none", "get / http/1.1\r\nHost: a\r\n\r\n", 400, []string{"Connection: close", "Date:"}, nil},
	{"RFC 9112, 3: a word before the request line", "Extra lineGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, []string{"Connection: close", "Date:"}, nil},
	{"RFC 9110, 7.4: an https URI in the clear", "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 421, []string{"Proxy-Status: tulle; error=http_request_denied"}, nil},
	{"RFC 9110, 15.5.15: a target that is too long", "GET /" + strings.Repeat("x", 20000) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414, []string{"Connection: close"}, nil},
	{"RFC 6585, 5: a head that is too large", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 70000) + "\r\n\r\n", 431, []string{"Connection: close"}, nil},
	{"RFC 9110, 15.5.14: content that is too large", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999999\r\n\r\n", 413, []string{"Connection: close"}, nil},
	{"RFC 9112, 6.1: a transfer coding that isn't implemented", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, []string{"Connection: close"}, nil},
	{"RFC 9112, 3.2: no Host", "GET / HTTP/1.1\r\n\r\n", 400, []string{"Connection: close", "Date:", "Proxy-Status: tulle; error=http_request_error"}, []string{"Via:", "Transfer-Encoding:"}},
	{"RFC 9110, 10.1.1: the hop's fields don't name Expect", "POST / HTTP/1.1\r\nHost: a\r\nConnection: expect\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", 400, []string{"Connection: close"}, nil},
}

func TestOwnAnswers(t *testing.T) {
	o := startOrigin(t)
	addr := start(t, o)
	o.set(ok)
	for _, row := range own {
		c, r := exchange(t, addr, []byte(row.request))
		method, _, _ := strings.Cut(row.request, " ")
		if method == "CONNECT" {
			method = "POST" // it has content when it is refused
		}
		checkOwn(t, row.name, r, method, row.status, row.has, row.hasNot)
		c.Close()
	}
	if n := len(o.requests); n != 0 {
		t.Errorf("%d requests reached the origin", n)
	}
}

func checkOwn(t *testing.T, name string, r *bufio.Reader, method string, status int, has, hasNot []string) {
	t.Helper()
	m, err := readMessage(r, method)
	if err != nil || m.status() != status {
		t.Errorf("%s: answered %q, %v, want %d", name, m.head, err, status)
		return
	}
	for _, line := range has {
		if strings.HasSuffix(line, ":") && m.field(line[:len(line)-1]) == "" ||
			!strings.HasSuffix(line, ":") && !strings.Contains(m.head, "\r\n"+line+"\r\n") {
			t.Errorf("%s: no %q in %q", name, line, m.head)
		}
	}
	for _, line := range hasNot {
		if m.field(line[:len(line)-1]) != "" {
			t.Errorf("%s: %q in %q", name, line, m.head)
		}
	}
}

func headRefused(t *testing.T, _ *origin, addr string) {
	c, r := dial(t, addr)
	send(t, c, "HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
	read(t, r, "HEAD", 400)
	ended(t, r)
}

func proxyStatus(t *testing.T, _ *origin, addr string) {
	c, r := dial(t, addr)
	send(t, c, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	m := read(t, r, "GET", 400)
	if m.field("Proxy-Status") != "tulle; error=http_request_error" || m.field("Date") == "" || !strings.HasPrefix(m.field("Content-Type"), "text/plain") || len(m.body) < 10 {
		t.Errorf("answered %q %q", m.head, m.body)
	}
}
