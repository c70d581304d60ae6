package proxy_test

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/view"
)

// The request's own try can't even connect, while its copy is answered by a program:
// that has seen the request, and isn't asked again though only what nobody has seen
// may be.
func TestCopySeenByProgram(t *testing.T) {
	var asked atomic.Int32
	program := serve(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			asked.Add(1)
			time.Sleep(300 * time.Millisecond)
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		}
	})
	silent := serve(t, func(c net.Conn) { time.Sleep(100 * time.Millisecond) }) // no TLS comes of it
	a, b := view.Endpoint{Address: silent, Identity: webID}, view.Endpoint{Address: program}
	for _, list := range [][]view.Endpoint{{a, b}, {b, a}} { // each begins at another one
		v := edgeView()
		v.Proxy.Identity = webID
		v.Endpoints[backendKey].List = list
		p := *policy.DefaultRequest
		p.Hedge = policy.Hedge{After: 20 * time.Millisecond, Max: 1}
		p.Retry.Budget = policy.Budget{Percent: 100, Min: 100}
		v.Destinations[backendKey].Policy = &p
		v.Endpoints[backendKey].Policy = &policy.Upstream{Balance: policy.Balance{Algorithm: policy.RoundRobin}, Ejection: policy.Ejection{Off: true}}
		proxy := start(t, v, 1)
		for range 2 {
			asked.Store(0)
			got := talk(t, proxy.addr(t, "http"), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			if !strings.HasPrefix(got, "HTTP/1.1 503") || asked.Load() != 1 {
				t.Errorf("the program was asked %d times, want once: %.60q", asked.Load(), got)
			}
		}
	}
}
