package proxy_test

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// fixedBackend answers each read with the same bytes and allocates nothing.
func fixedBackend(answer string) func(net.Conn) {
	return func(c net.Conn) {
		in, out := make([]byte, 4096), []byte(answer)
		for {
			if _, err := c.Read(in); err != nil {
				return
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

const (
	benchRequest = "GET /some/path?q=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"
	benchBody    = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
	benchAnswer  = "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" + benchBody
)

// exchange sends the request over and over and reads the answers.
func exchange(tb testing.TB, addr string, n int) { exchangeOf(tb, addr, benchRequest, n) }

func exchangeOf(tb testing.TB, addr, request string, n int) {
	c := dialTo(tb, addr)
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	in, out := make([]byte, 4096), []byte(request)
	once := func() {
		if _, err := c.Write(out); err != nil {
			tb.Fatal(err)
		}
		for got := 0; ; {
			m, err := c.Read(in[got:])
			if err != nil {
				tb.Fatal(err)
			}
			if got += m; string(in[got-10:got]) == benchBody[90:] {
				return
			}
		}
	}
	for range 100 { // connections, handles, buffers
		once()
	}
	if b, ok := tb.(*testing.B); ok {
		b.ReportAllocs()
		for b.Loop() {
			once()
		}
		return
	}
	for range n {
		once()
	}
}

// BenchmarkEdge is one request over warm connections through one plain hop. It
// allocates nothing; the time includes client and backend.
func BenchmarkEdge(b *testing.B) {
	p := start(b, edgeView(serve(b, fixedBackend(benchAnswer))), 1)
	exchange(b, p.addr(b, "http"), 0)
}

// BenchmarkPair is one request through two hops with mutual TLS between them.
// What crypto/tls allocates is all there is: a reader for each record's header
// and body (atLeastReader, 24 to 48 bytes).
func BenchmarkPair(b *testing.B) {
	client, _ := pair(b, serve(b, fixedBackend(benchAnswer)), view.HTTP, 1)
	exchange(b, client.addr(b, "out"), 0)
}

// TestAllocations holds the steady path to its promise.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates: make test runs this again without it")
	}
	edge := start(t, edgeView(serve(t, fixedBackend(benchAnswer))), 1)
	web, _ := pair(t, serve(t, fixedBackend(benchAnswer)), view.HTTP, 1)
	filtered := start(t, filtersView(serve(t, fixedBackend(benchAnswer)), view.HTTP, route.Rule{
		Matches: []route.Match{{Path: route.Path{Kind: route.PathPrefix, Value: "/some"}, Headers: []route.Field{{Name: "accept", Value: "*/*"}}, Query: []route.Field{{Name: "q", Value: "1"}}}},
		Filters: route.Filters{
			CORS:     &route.CORS{Origins: []string{"*"}},
			Request:  &route.Modifier{Set: []route.Value{{Name: "accept", Value: "x/y"}}, Add: []route.Value{{Name: "x-a", Value: "1"}}, Remove: []string{"user-agent"}},
			Response: &route.Modifier{Set: []route.Value{{Name: "server", Value: "mine"}}, Add: []route.Value{{Name: "x-b", Value: "1"}}},
			Rewrite:  &route.Rewrite{Host: "other.example", Change: route.PrefixPath, Path: "/another"},
		},
		Policy: &policy.Request{Faults: []policy.Fault{{Share: policy.All, Status: 418, When: policy.Match{Paths: []policy.Path{{Value: "/none"}}, Headers: []policy.Header{{Name: "x-none", Present: true}}}}}},
	}), 1)
	log := edgeView(serve(t, fixedBackend(benchAnswer)))
	log.Proxy.AccessLog = policy.AccessLog{Mode: policy.LogAll}
	logged := startWith(t, log, proxy.Config{Loops: 1, AccessLog: io.Discard})
	for _, test := range []struct {
		name, addr string
		most       float64
	}{
		{"one plain hop", edge.addr(t, "http"), 0},
		{"with a line in the access log", logged.addr(t, "http"), 0},
		{"filters and faults", filtered.addr(t, "http"), 0},
		{"two hops with mutual TLS", web.addr(t, "out"), 4},
	} {
		const n = 2000
		exchange(t, test.addr, 1) // warm
		// Not testing.AllocsPerRun: it leaves one processor, and a loop needs one
		// beside the client's.
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		exchange(t, test.addr, n)
		runtime.ReadMemStats(&after)
		per := float64(after.Mallocs-before.Mallocs) / n
		if per > test.most+0.5 { // opening the client's connection allocates too
			t.Errorf("%s: %.2f allocations a request, want at most %.0f", test.name, per, test.most)
		}
	}
}
