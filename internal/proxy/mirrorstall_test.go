package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/view"
)

// Uploads that stand still take nobody's copy away: neither many that have sent
// little, nor those that have sent all but the end.
func TestMirrorsOfStalledUploads(t *testing.T) {
	for name, test := range map[string]struct{ clients, sent, given int }{
		"many":  {200, 1, 0},
		"large": {80, 60 << 10, 10}, // more than is kept
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 10)
			v := mirrorView(program(t, echoes), view.HTTP, policy.All, program(t, func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				got <- string(b)
			}))
			p := start(t, v, 1)
			addr := p.addr(t, "http")
			head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: %d\r\n\r\n", test.sent+1)
			for range test.clients {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := io.WriteString(c, head+strings.Repeat("x", test.sent)); err != nil {
					t.Fatal(err)
				}
			}
			if test.given > 0 { // the first make way
				inTime(t, func() bool { return strings.Contains(p.metrics(t), `outcome="too_many"} `) })
			} else {
				inTime(t, func() bool { return p.Connections() >= test.clients })
			}
			post(t, client(t, false), addr, []byte("whole"), true)
			select {
			case b := <-got:
				if b != "whole" {
					t.Errorf("the copy's content is %.20q", b)
				}
			case <-time.After(time.Minute):
				t.Errorf("no copy:\n%s", lines(p.metrics(t), "tulle_mirrors"))
			}
			if m := p.metrics(t); test.given == 0 && strings.Contains(m, `outcome="too_many"`) {
				t.Errorf("stalled uploads take the copies away:\n%s", lines(m, "tulle_mirrors"))
			}
		})
	}
}

// A slow answer in which nothing moves for too long is cut, and is one request all
// the same.
func TestFaultSlowBodyCutLate(t *testing.T) {
	app := program(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat("x", 1000)) }) // with its length: it ends with its last byte
	p := start(t, faultView(app, view.HTTP, policy.Request{StreamIdle: 300 * time.Millisecond, Faults: []policy.Fault{{Share: policy.All, BytesPerSecond: 1}}}), 1)
	c := dialTo(t, p.addr(t, "http"))
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
	buf := make([]byte, 1)
	io.ReadFull(c, buf) // it has begun; all of it is at the proxy
	io.Copy(io.Discard, c)
	inTime(t, func() bool { return p.Connections() == 0 })
	var n int
	for _, line := range strings.Split(lines(p.metrics(t), "tulle_requests_total{"), "\n") {
		if i := strings.LastIndexByte(line, ' '); i > 0 {
			var one int
			fmt.Sscan(line[i:], &one)
			n += one
		}
	}
	if n != 1 {
		t.Errorf("%d requests are counted, there was one:\n%s", n, lines(p.metrics(t), "tulle_requests_total"))
	}
}
