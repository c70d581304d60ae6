//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/access"
)

// TestHandshakes: the client offers one group, shows its certificate, counts, and
// takes a refusal for a failure although the client's part was done before it.
func TestHandshakes(t *testing.T) {
	dir := t.TempDir()
	if err := issue(dir, "web", "cart"); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(dir+"/cart.pem", dir+"/cart-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		group  tls.CurveID
		refuse bool
	}{{"X25519", tls.X25519, false}, {"hybrid", tls.X25519MLKEM768, false}, {"refused", tls.X25519, true}} {
		t.Run(c.name, func(t *testing.T) {
			var seen atomic.Int64
			ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
				VerifyConnection: func(cs tls.ConnectionState) error {
					seen.Add(1)
					if c.refuse || cs.CurveID != c.group || len(cs.PeerCertificates) == 0 {
						return errors.New("no")
					}
					return nil
				}})
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					go func(conn net.Conn) {
						defer conn.Close()
						conn.Read(make([]byte, 1))
					}(conn)
				}
			}()
			res, err := handshakes(ln.Addr().String(), dir, c.group, 100*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if c.refuse {
				if res.Done != 0 || res.Failed == 0 || res.Error == "" {
					t.Errorf("%+v: want only failures", res)
				}
				return
			}
			if res.Done == 0 || res.Failed != 0 || res.Done != seen.Load() || tls.CurveID(res.Group) != c.group || !res.Verified || res.Tickets || !strings.Contains(res.Server, "sa/cart") {
				t.Errorf("%+v (%s), the server saw %d", res, res.Error, seen.Load())
			}
		})
	}
}

// TestOpenSSL: HAProxy takes part in the hybrid where its OpenSSL knows it.
func TestOpenSSL(t *testing.T) {
	for version, want := range map[string]bool{"3.0.19 27 Jan": false, "3.4.1": false, "3.5.0 8 Apr": true, "3.10.2": true, "4.0.0": true, "1.1.1w": false} {
		if got := openssl35.MatchString("Built with OpenSSL version : OpenSSL 3.5.0\nRunning on OpenSSL version : OpenSSL " + version + "\n"); got != want {
			t.Errorf("OpenSSL %s: %v, want %v", version, got, want)
		}
	}
}

func TestAccessRules(t *testing.T) {
	rules := accessRules()
	count := map[access.Action]int{}
	for _, r := range rules {
		count[r.Action]++
	}
	if count[access.Allow] != 900 || count[access.Deny] != 100 {
		t.Errorf("%v", count)
	}
	n := 0
	for _, o := range accessObjects(rules) {
		k := strings.Count(o, "- {from:")
		if k > 64 {
			t.Errorf("a policy has %d rules, of which it has room for 64", k)
		}
		n += k
	}
	if n != len(rules) {
		t.Errorf("%d rules in policies, want %d", n, len(rules))
	}
}

func TestParallel(t *testing.T) {
	var n atomic.Int64
	if err := parallel(100, 7, func(int) error { n.Add(1); return nil }); err != nil || n.Load() != 100 {
		t.Errorf("%d calls, %v", n.Load(), err)
	}
	bad := errors.New("no")
	if err := parallel(100, 7, func(i int) error {
		if i == 50 {
			return bad
		}
		return nil
	}); !errors.Is(err, bad) {
		t.Errorf("the error is %v", err)
	}
}
