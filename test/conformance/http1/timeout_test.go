package http1

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
)

// impatient runs a proxy whose times are short, though not so short that a busy
// machine needs longer to send a request.
func impatient(t *testing.T, o *origin) string {
	t.Helper()
	v := newView("edge", view.Gateway, edge, view.Endpoint{Address: o.addr})
	v.Proxy.Settings.HeadTimeout = time.Second
	v.Proxy.Settings.StreamIdle = 1200 * time.Millisecond
	v.Proxy.Settings.IdleTimeout = 1500 * time.Millisecond
	return run(t, v, nil)
}

// RFC 9110, 15.5.9: a request that doesn't arrive in time is answered 408 and
// the connection is closed.
func TestSlowRequests(t *testing.T) {
	o := startOrigin(t)
	o.set(ok)
	addr := impatient(t, o)
	for _, row := range []struct{ name, sent string }{
		{"half a request line", "GET / HT"},
		{"half a head", "GET / HTTP/1.1\r\nHost: a\r\nX: "},
		{"half a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123"},
		{"half a chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe"},
		{"no last chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c, r := dial(t, addr)
			send(t, c, row.sent)
			if m := read(t, r, "POST", 408); m.field("Connection") != "close" {
				t.Errorf("answered %q", m.head)
			}
			ended(t, r)
		})
	}
	t.Run("a byte now and then", func(t *testing.T) { // the head's time is bounded as a whole
		t.Parallel()
		c, r := dial(t, addr)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 40 {
				if _, err := io.WriteString(c, "G"); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
		read(t, r, "GET", 408)
		c.Close()
		<-done
	})
	t.Run("an idle connection", func(t *testing.T) {
		t.Parallel()
		c, r := dial(t, addr)
		send(t, c, get)
		read(t, r, "GET", 200)
		ended(t, r) // without a word: no request was begun
	})
	t.Run("a connection that never says anything", func(t *testing.T) {
		t.Parallel()
		_, r := dial(t, addr)
		ended(t, r)
	})
}

// RFC 9110, 15.6.5: an origin that doesn't answer in time; one that stops in
// the middle of its answer can only be cut.
func TestSlowResponses(t *testing.T) {
	for _, row := range []struct {
		name, answer string
		status       int
	}{
		{"nothing", "", 504},
		{"half a head", "HTTP/1.1 200 OK\r\nX: ", 504},
		{"an interim response", "HTTP/1.1 103 Early Hints\r\n\r\n", 504},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123", 0},
		{"half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			o := startOrigin(t)
			o.set(func(*message) (string, bool) {
				return row.answer, false
			})
			c, r := dial(t, impatient(t, o))
			send(t, c, get)
			m, err := readMessage(r, "GET")
			if err == nil && m.status() == 103 {
				m, err = readMessage(r, "GET")
			}
			if row.status > 0 && (err != nil || m.status() != row.status) || row.status == 0 && (err == nil || m.complete) {
				t.Errorf("answered %q %q, %v", m.head, m.body, err)
			}
		})
	}
}

// An exchange in which something moves isn't stalled, however long it takes.
func TestSlowButMoving(t *testing.T) {
	addr := rawOriginWith(t, impatient, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
		for range 20 {
			time.Sleep(100 * time.Millisecond) // much less than may pass
			io.WriteString(c, "x")
		}
	})
	c, r := dial(t, addr)
	send(t, c, get)
	if m := read(t, r, "GET", 200); m.body != strings.Repeat("x", 20) {
		t.Errorf("got %q", m.body)
	}
}
