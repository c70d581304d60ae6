package proxy_test

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/view"
)

// A program that takes few streams on a connection and answers none of them gets
// more connections: nobody waits behind a full one while there is room elsewhere,
// whether the requests come at once or to a connection that is full already.
func TestFullConnections(t *testing.T) {
	const streams, requests = 100, 750
	for _, first := range []int{0, 1, streams} {
		t.Run(fmt.Sprintf("after %d", first), func(t *testing.T) {
			var arrived, conns atomic.Int32
			serves := swallows(&arrived, h2.Config{MaxStreams: streams})
			program := serve(t, func(c net.Conn) {
				conns.Add(1)
				serves(c)
			})
			p := start(t, policyView(&policy.Request{}, view.HTTP2, program), 1)
			var open sync.WaitGroup
			ask := func(n int) {
				for range n {
					c, err := net.DialTimeout("tcp", p.addr(t, "http"), wait)
					if err != nil {
						t.Error(err)
						return
					}
					t.Cleanup(func() { c.Close() })
					open.Go(func() { fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") })
				}
				open.Wait()
			}
			ask(first)
			happens(t, func() bool { return int(arrived.Load()) >= first })
			ask(requests - first)
			for end := time.Now().Add(wait); arrived.Load() < requests; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d of %d requests have arrived, over %d connections", arrived.Load(), requests, conns.Load())
				}
			}
			if n := conns.Load(); n > 2*requests/streams {
				t.Errorf("%d connections for %d requests, %d on each", n, requests, streams)
			}
		})
	}
}
