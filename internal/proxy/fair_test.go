package proxy_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
)

// TestFairness: a stream that never pauses doesn't keep other connections of
// its loop waiting, whether it is copied or spliced.
func TestFairness(t *testing.T) {
	block := make([]byte, 256<<10)
	flood := serve(t, func(c net.Conn) {
		for {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
	web := serve(t, answering(hello))
	const other = "other.default:80"
	v := clientView(flood, "", view.TCP)
	v.Proxy.Identity = ""
	v.Proxy.Listeners = append(v.Proxy.Listeners, view.Listener{
		Name: "other", Kind: view.Explicit, Address: v.Proxy.Listeners[0].Address, Destination: other,
	})
	v.Destinations[other] = &view.Destination{Key: other, Protocol: view.HTTP}
	v.Endpoints[other] = &view.Endpoints{Key: other, List: []view.Endpoint{{Address: web}}}
	p := start(t, v, 1)
	for range 3 {
		c := dialTo(t, p.addr(t, "out"))
		c.SetDeadline(time.Now().Add(time.Minute))
		go io.Copy(io.Discard, c)
	}
	time.Sleep(50 * time.Millisecond)
	for range 20 {
		got := talk(t, p.addr(t, "other"), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if !strings.HasSuffix(got, "hello") {
			t.Fatalf("got %q", got)
		}
	}
}
