package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestDrain: requests that are under way end well, and say that they are the
// last; then there is no connection left.
func TestDrain(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		arrived, release := make(chan struct{}), make(chan struct{})
		backend := serve(t, func(c net.Conn) {
			if _, err := readHead(bufio.NewReader(c)); err != nil {
				return
			}
			close(arrived)
			<-release
			io.WriteString(c, hello)
			io.Copy(io.Discard, c)
		})
		v := edgeView(backend)
		v.Proxy.Settings.PoolIdle = 100 * time.Millisecond
		p := start(t, v, loops)
		idle := dialTo(t, p.addr(t, "http"))
		c := dialTo(t, p.addr(t, "http"))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		<-arrived
		drained := make(chan struct{})
		go func() {
			p.Drain(context.Background())
			close(drained)
		}()
		time.Sleep(50 * time.Millisecond)
		close(release)
		got, err := io.ReadAll(c)
		if err != nil || !strings.Contains(string(got), "Connection: close\r\n") || !strings.HasSuffix(string(got), "hello") {
			t.Errorf("got %q, %v", got, err)
		}
		if b, err := io.ReadAll(idle); err != nil || len(b) > 0 {
			t.Errorf("the idle connection: %q, %v", b, err)
		}
		select {
		case <-drained:
		case <-time.After(wait):
			t.Error("the drain doesn't end")
		}
	})
}

// TestDrainLosesNothing: clients that do as told (a connection isn't used after
// Connection: close, a refused one means gone) lose no request.
func TestDrainLosesNothing(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		v := edgeView(serve(t, answering(hello)))
		v.Proxy.Settings.PoolIdle = 200 * time.Millisecond
		p := start(t, v, loops)
		addr := p.addr(t, "http")
		var sent, lost atomic.Int64
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						return // gone
					}
					c.SetDeadline(time.Now().Add(wait))
					r := bufio.NewReader(c)
					for last := false; !last; {
						sent.Add(1)
						io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
						head, err := readHead(r)
						if err == nil {
							_, err = io.ReadFull(r, make([]byte, 5))
						}
						if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
							t.Logf("lost: %q %v", head, err)
							lost.Add(1)
							break
						}
						last = strings.Contains(head, "Connection: close\r\n")
					}
					c.Close()
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		p.Drain(context.Background())
		clients.Wait()
		if lost.Load() > 0 {
			t.Errorf("%d of %d requests were lost", lost.Load(), sent.Load())
		}
	})
}
