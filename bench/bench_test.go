//go:build linux

package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAnswered(t *testing.T) {
	whole := "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"
	for i := range len(whole) {
		if done, err := answered([]byte(whole[:i])); done || err != nil {
			t.Fatalf("%q: %v, %v: want to wait for more", whole[:i], done, err)
		}
	}
	if done, err := answered([]byte(whole)); !done || err != nil {
		t.Errorf("the whole answer: %v, %v", done, err)
	}
	for _, bad := range []string{whole + "x", strings.Replace(whole, "200", "503", 1)} {
		if _, err := answered([]byte(bad)); err == nil {
			t.Errorf("%q was taken for an answer", bad)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

// TestServerHello reads what crypto/tls says through the relay.
func TestServerHello(t *testing.T) {
	for _, group := range []tls.CurveID{tls.X25519, tls.CurveP256, tls.X25519MLKEM768} {
		t.Run(group.String(), func(t *testing.T) {
			dir := t.TempDir()
			if err := issue(dir, "cart"); err != nil {
				t.Fatal(err)
			}
			cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cart.pem"), filepath.Join(dir, "cart-key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, CurvePreferences: []tls.CurveID{group}}
			server.StartTLS()
			defer server.Close()
			ports, err := freePorts(1)
			if err != nil {
				t.Fatal(err)
			}
			hello, stop, err := relay(local(ports[0]), server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			got, err := call(local(ports[0]), &tls.Config{})
			if err != nil || got != "ECDSA P-256 spiffe://mesh.local/ns/default/sa/cart" {
				t.Errorf("call said %q, %v", got, err)
			}
			suite, g, err := serverHello(<-hello)
			if err != nil || tls.CurveID(g) != group || tls.CipherSuiteName(suite) == "" {
				t.Errorf("suite %x, group %v, %v: want group %v", suite, tls.CurveID(g), err, group)
			}
		})
	}
	if _, _, err := serverHello([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")); err == nil {
		t.Error("an HTTP answer was taken for a ServerHello")
	}
}

// TestPaced: every request is answered, at the rate that was asked for, and a
// stall of the server is seen by the requests that were due meanwhile.
func TestPaced(t *testing.T) {
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n == 100 {
			time.Sleep(200 * time.Millisecond)
		}
		w.Write([]byte("ok"))
	}))
	defer server.Close()
	p := paced{target: strings.TrimPrefix(server.URL, "http://"), rate: 200, length: time.Second, conns: 1}
	res, err := p.run()
	if err != nil {
		t.Fatal(err)
	}
	if res.Sent != 200 || res.Answered != 200 {
		t.Errorf("%d sent, %d answered: want 200 of each", res.Sent, res.Answered)
	}
	// 40 requests were due during the stall: without counting from the due
	// time one of 200 would be slow, and the p99 would not show it.
	if res.P99 < 150 {
		t.Errorf("p99 is %.1f ms: the stall of 200 ms was left out", res.P99)
	}
}

// TestProcess: a program's CPU time is what it used.
func TestProcess(t *testing.T) {
	p, err := spawn("burn", pinned(0), nil, "/bin/sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		u, err := p.used()
		if err != nil {
			t.Fatal(err)
		}
		b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid()), "comm"))
		if strings.TrimSpace(string(b)) == "sleep" {
			if u.cpu < 10*time.Millisecond || u.switches < 0 {
				t.Errorf("used %v after a long loop", u.cpu)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the loop didn't end")
		}
		time.Sleep(10 * time.Millisecond)
	}
	m, err := p.memory()
	if err != nil || m.total <= 0 || m.anonymous > m.total {
		t.Errorf("memory %+v, %v", m, err)
	}
}

func TestFreePorts(t *testing.T) {
	ports, err := freePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		ln, err := net.Listen("tcp", local(p))
		if err != nil {
			t.Errorf("port %d isn't free: %v", p, err)
			continue
		}
		ln.Close()
	}
}
