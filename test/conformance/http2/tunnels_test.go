package http2

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h2"
)

// This file is WebSockets in both versions: extended CONNECT (RFC 8441) and what
// the ends of its stream mean (RFC 9113, 8.5).

var chat = block(":method: CONNECT", ":protocol: websocket", ":scheme: http", ":path: /", ":authority: a.example", "sec-websocket-version: 13")

// The client's END_STREAM is a FIN for the program, also when it came before the
// program has switched.
func TestTunnelEnds(t *testing.T) {
	heard := make(chan string, 8)
	server := scripted(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		key := ""
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
			if name, value, _ := strings.Cut(line, ": "); strings.EqualFold(name, "sec-websocket-key") {
				key = strings.TrimSpace(value)
			}
		}
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+
			base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
		c.SetDeadline(time.Now().Add(wait))
		said, err := io.ReadAll(r)
		if err != nil {
			said = []byte(err.Error())
		}
		heard <- string(said)
		io.WriteString(c, "bye")
	})
	addr := start(t, server, view.HTTP)
	for _, row := range []struct{ name, sent, said string }{
		{"with the request", frame(h2.Headers, whole|end, 1, chat), ""},
		{"in DATA", frame(h2.Headers, whole, 1, chat) + frame(h2.Data, end, 1, "ping"), "ping"},
		{"in empty DATA", frame(h2.Headers, whole, 1, chat) + frame(h2.Data, none, 1, "ping") + frame(h2.Data, end, 1), "ping"},
	} {
		c := asking(t, addr, row.sent)
		if err := c.until(answered); err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if got := <-heard; got != row.said {
			t.Errorf("%s: the program heard %q, want %q", row.name, got, row.said)
		}
		if got := c.body(t); got != "bye" {
			t.Errorf("%s: the client heard %q", row.name, got)
		}
	}
}

// asking is a client that has sent that.
func asking(t *testing.T, addr, sent string) *peer {
	t.Helper()
	c := &peer{}
	var err error
	if c.conn, err = net.DialTimeout("tcp", addr, wait); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	c.conn.SetDeadline(time.Now().Add(wait))
	c.send(h2.Preface, frame(h2.Settings, none, 0), sent)
	return c
}

// body reads to the end of the stream.
func (c *peer) body(t *testing.T) string {
	t.Helper()
	all := ""
	buf := make([]byte, 32<<10)
	for {
		for {
			f, n, _ := h2.Cut(c.in, h2.MaxMaxFrameSize)
			if n == 0 {
				break
			}
			c.in = c.in[n:]
			if f.Type == h2.Data {
				all += string(f.Payload)
			}
			if f.Type == h2.RSTStream {
				return all + " reset"
			}
			if (f.Type == h2.Data || f.Type == h2.Headers) && f.Flags.Has(end) {
				return all
			}
		}
		n, err := c.conn.Read(buf)
		c.in = append(c.in, buf[:n]...)
		if err != nil && n == 0 {
			return all + " " + err.Error()
		}
	}
}

// Whether a server takes extended CONNECT is known once its SETTINGS have come
// (RFC 8441, 3): the first request of a connection waits for them, be they late.
// Where it doesn't, or the offer isn't one protocol, it is asked without.
func TestFirstIsTunnel(t *testing.T) {
	asked := make(chan []string, 8)
	for _, row := range []struct {
		name, settings, offer, method, protocol string
	}{
		{"taken", settings(h2.EnableConnectProtocol, 1), "websocket", "CONNECT", "websocket"},
		{"not taken", frame(h2.Settings, none, 0), "websocket", "GET", ""},
		{"several protocols", settings(h2.EnableConnectProtocol, 1), "websocket, x", "GET", ""},
		{"a protocol's version", settings(h2.EnableConnectProtocol, 1), "x/1", "GET", ""},
	} {
		addr := start(t, scripted(t, func(c net.Conn) {
			io.CopyN(io.Discard, c, int64(len(h2.Preface)))
			time.Sleep(50 * time.Millisecond) // whatever is sent before is sent too early
			p := &peer{conn: c}
			p.send(row.settings, frame(h2.Settings, h2.FlagAck, 0))
			buf := make([]byte, 32<<10)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				p.in = append(p.in, buf[:n]...)
				for {
					f, n, _ := h2.Cut(p.in, h2.MaxMaxFrameSize)
					if n == 0 {
						break
					}
					p.in = p.in[n:]
					if p.take(f); f.Type == h2.Headers {
						asked <- p.fields
						p.send(frame(h2.Headers, whole|end, f.Stream, block(":status: 200")))
					}
				}
			}
		}), view.HTTP2)
		c, err := net.DialTimeout("tcp", addr, wait)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(wait))
		io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: "+row.offer+
			"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		var method, protocol string
		select {
		case fields := <-asked:
			for _, f := range fields {
				if v, ok := strings.CutPrefix(f, ":method: "); ok {
					method = v
				}
				if v, ok := strings.CutPrefix(f, ":protocol: "); ok {
					protocol = v
				}
			}
		case <-time.After(wait):
			t.Fatalf("%s: not asked", row.name)
		}
		if method != row.method || protocol != row.protocol {
			t.Errorf("%s: asked %s %q, want %s %q", row.name, method, protocol, row.method, row.protocol)
		}
		c.Close()
	}
}
