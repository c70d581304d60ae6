package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/view"
)

// TestOwnTLS: where plaintext is permitted, a client from outside the mesh may
// speak the program's own TLS with it, however its ClientHello is cut; a proxy's
// TLS is mutual all the same.
func TestOwnTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	certified.Close()
	app := serve(t, func(c net.Conn) {
		s := tls.Server(c, certified.TLS)
		defer s.Close()
		if line, err := bufio.NewReader(s).ReadString('\n'); err == nil {
			io.WriteString(s, "echo "+line)
		}
	})
	for name, protocol := range map[string]view.Protocol{"detected": view.Detect, "declared tcp": view.TCP} {
		t.Run(name, func(t *testing.T) {
			v := serverView(app)
			v.Proxy.Listeners[0].Plaintext, v.Proxy.Listeners[0].Protocol = true, protocol
			server := start(t, v, 1)
			addr := server.addr(t, "in")
			ask := func(c *tls.Conn) (string, error) {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				if _, err := io.WriteString(c, "hello\n"); err != nil {
					return "", err
				}
				return bufio.NewReader(c).ReadString('\n')
			}
			outside := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}
			for _, step := range []int{0, 1, 100} {
				got, err := ask(tls.Client(&slowly{Conn: dialTo(t, addr), step: step}, outside))
				if err != nil || got != "echo hello\n" {
					t.Errorf("from outside, in steps of %d: %q, %v", step, got, err)
				}
			}

			id, err := identity.Parse(cartID)
			if err != nil {
				t.Fatal(err)
			}
			client := start(t, clientView(netip.MustParseAddrPort(addr), cartID, protocol), 1)
			mesh := tls.Client(dialTo(t, addr), client.credentials.ClientConfig(id, "tulle-tcp"))
			if got, err := ask(tls.Client(mesh, outside)); err != nil || got != "echo hello\n" {
				t.Errorf("inside mutual TLS: %q, %v", got, err)
			}
			settled(t, server)
			if m := server.metrics(t); !strings.Contains(m, `tls="mutual"`) || !strings.Contains(m, `tls="none"`) {
				t.Errorf("want both kinds counted:\n%s", m)
			}
		})
	}

	t.Run("not permitted", func(t *testing.T) {
		server := start(t, serverView(app), 1)
		c := tls.Client(dialTo(t, server.addr(t, "in")), &tls.Config{InsecureSkipVerify: true})
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a client without an identity got through")
		}
	})
}

// slowly writes in steps of so many bytes, with a pause between, at first.
type slowly struct {
	net.Conn
	step   int
	pauses int
}

func (s *slowly) Write(b []byte) (n int, err error) {
	for s.step > 0 && len(b)-n > s.step && s.pauses < 40 {
		m, err := s.Conn.Write(b[n : n+s.step])
		if n += m; err != nil {
			return n, err
		}
		s.pauses++
		time.Sleep(time.Millisecond)
	}
	m, err := s.Conn.Write(b[n:])
	return n + m, err
}
