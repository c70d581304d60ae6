package proxy_test

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
)

// TestTakenPort: a listener whose port is taken is a fault, at every moment,
// and opens when the port is free.
func TestTakenPort(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		holder, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer holder.Close()
		v := edgeView(serve(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
		v.Proxy.Listeners[0].Address = netip.MustParseAddrPort(holder.Addr().String())
		figures := meter.New(loops, "test")
		told, err := live.Static(v, "", slog.New(slog.DiscardHandler), figures)
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		p, err := proxy.New(proxy.Config{Loops: loops, Live: told, Meter: figures, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err == nil || !strings.Contains(err.Error(), "listener http: ") {
			t.Fatalf("got %v", err)
		}
		defer p.Stop()
		tried := make(chan struct{})
		go func() {
			defer close(tried)
			for range 100 {
				told.Again()
			}
		}()
		for trying := true; trying; {
			select {
			case <-tried:
				trying = false
			default:
			}
			if p.Ready() == nil {
				t.Fatal("ready without its listener")
			}
		}
		if n := strings.Count(log.String(), "cannot listen"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log.String())
		}
		holder.Close()
		told.Again()
		if err := p.Ready(); err != nil {
			t.Fatal(err)
		}
		c := dialTo(t, v.Proxy.Listeners[0].Address.String())
		c.SetDeadline(time.Now().Add(wait))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if got, _ := io.ReadAll(c); !strings.HasPrefix(string(got), "HTTP/1.1 200 ") {
			t.Errorf("got %q", got)
		}
	})
}
