package live

import (
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// TestCow compares the copy-on-write map with Go's own, old versions included.
func TestCow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c cow[string, int]
		want := map[string]int{}
		type version struct {
			c    cow[string, int]
			want map[string]int
		}
		var versions []version
		for i := range rapid.IntRange(0, 60).Draw(t, "steps") {
			key := fmt.Sprint("k", rapid.IntRange(0, 20).Draw(t, "key"))
			if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				c = c.without(key)
				delete(want, key)
			} else {
				c = c.with(key, i)
				want[key] = i
			}
			versions = append(versions, version{c, maps.Clone(want)})
		}
		for i, v := range versions {
			if got := maps.Collect(v.c.all()); !maps.Equal(got, v.want) || v.c.size != len(v.want) {
				t.Fatalf("version %d: got %v (%d), want %v", i, got, v.c.size, v.want)
			}
			for key, n := range v.want {
				if got, ok := v.c.get(key); !ok || got != n {
					t.Fatalf("version %d: %s is %d, want %d", i, key, got, n)
				}
			}
		}
	})
}

func hostResource(name, service string, addrs ...string) *control.Resource {
	h := &view.Host{Name: name, Service: service, Ports: []uint16{80}}
	for _, a := range addrs {
		h.Addresses = append(h.Addresses, netip.MustParseAddr(a))
	}
	return &control.Resource{Key: HostKey(name), Host: h}
}

// TestVirtualAddresses: what a name's answer says about addresses follows the
// answer.
func TestVirtualAddresses(t *testing.T) {
	a, b := netip.MustParseAddr("240.240.0.1"), netip.MustParseAddr("240.240.0.2")
	tab := &Table{}
	apply := func(r *control.Resource) {
		t.Helper()
		if err := tab.apply(r, &usage{}); err != nil {
			t.Fatal(err)
		}
	}
	service := func(addr netip.Addr) string {
		if h := tab.HostByAddr(addr); h != nil {
			return h.Service
		}
		return "-"
	}
	apply(hostResource("cart", "cart.default", a.String()))
	if service(a) != "cart.default" || service(netip.AddrFrom16(a.As16())) != "cart.default" || service(b) != "-" {
		t.Errorf("%s, %s", service(a), service(b))
	}
	apply(hostResource("cart", "cart.default", b.String())) // it moved
	if service(a) != "-" || service(b) != "cart.default" {
		t.Errorf("moved: %s, %s", service(a), service(b))
	}
	apply(hostResource(b.String(), "other.default")) // asked for itself: that counts
	if service(b) != "other.default" {
		t.Errorf("asked for: %s", service(b))
	}
	tab.drop(HostKey(b.String()))
	if service(b) != "cart.default" {
		t.Errorf("dropped: %s", service(b))
	}
	apply(&control.Resource{Key: HostKey("cart"), Absent: true})
	if service(b) != "-" || tab.Host("cart").Service != "" {
		t.Errorf("absent: %s", service(b))
	}
}

func TestSplitKey(t *testing.T) {
	for key, want := range map[string]string{
		"cart.default:8080": "cart.default 8080", "a.b:1": "a.b 1", "a.b:65535": "a.b 65535",
		"": "", "cart.default": "", "cart:80": "", ".default:80": "", "cart.:80": "", "a.b:0": "", "a.b:65536": "", "a.b:x": "", "a.b:": "", "a.b:-1": "", "a.b:+1": "",
	} {
		got := ""
		if service, port, ok := SplitKey(key); ok {
			got = fmt.Sprint(service, " ", port)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

// crowded is a Live with many destinations.
func crowded(tb testing.TB, n int) *Live {
	tb.Helper()
	l, err := New(Config{Hello: control.Hello{Name: "web", Namespace: "default"}, Control: "unix:/none"})
	if err != nil {
		tb.Fatal(err)
	}
	u := &control.Update{Version: 1}
	for i := range n {
		key := fmt.Sprintf("service-%d.default:8080", i)
		l.mu.Lock()
		l.want(DestinationKey(key))
		l.want(EndpointsKey(key))
		l.mu.Unlock()
		u.Resources = append(u.Resources,
			control.Resource{Key: DestinationKey(key), Version: 1, Destination: &view.Destination{Key: key}},
			endpointsResource(1, key, "10.0.0.1:8080", "10.0.0.2:8080"))
	}
	if err := l.update(u); err != nil {
		tb.Fatal(err)
	}
	return l
}

// BenchmarkEndpointsUpdate is one endpoint change of a proxy that knows 10,000
// destinations.
func BenchmarkEndpointsUpdate(b *testing.B) {
	l := crowded(b, 10_000)
	u := &control.Update{Version: 2, Resources: []control.Resource{endpointsResource(2, "service-77.default:8080", "10.0.0.3:8080")}}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.update(u); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLookup is what a request asks the table for.
func BenchmarkLookup(b *testing.B) {
	t := crowded(b, 10_000).Table()
	b.ReportAllocs()
	for b.Loop() {
		if t.Destination("service-77.default:8080") == nil || t.Endpoints("service-77.default:8080") == nil {
			b.Fatal("not there")
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	tab := crowded(t, 100).Table()
	addr := netip.MustParseAddr("240.240.0.1")
	if n := testing.AllocsPerRun(100, func() {
		tab.Destination("service-77.default:8080")
		tab.Endpoints("service-77.default:8080")
		tab.Host("cart")
		tab.HostByAddr(addr)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestMemoryPerDestination bounds what a known destination costs.
func TestMemoryPerDestination(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const n, limit = 5000, 3000
	before := heap()
	l := crowded(t, n)
	after := heap()
	if each := (after - before) / n; each > limit {
		t.Errorf("a destination with two endpoints takes %d bytes, want at most %d", each, limit)
	}
	runtime.KeepAlive(l)
}

// TestSavedVersions: while updates come, what is saved always has the version
// of its own content.
func TestSavedVersions(t *testing.T) {
	l := crowded(t, 50)
	if err := l.update(&control.Update{Version: 1, Resources: []control.Resource{proxyResource(1)}}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for version := uint64(2); ; version++ {
			select {
			case <-stop:
				return
			default:
			}
			// The port is the version.
			r := endpointsResource(version, "service-7.default:8080", fmt.Sprintf("10.0.0.1:%d", 1+version%65535))
			if err := l.update(&control.Update{Version: version, Resources: []control.Resource{r}}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 300 {
		v := l.view()
		port := v.Endpoints["service-7.default:8080"].List[0].Address.Port()
		if version := v.Versions["endpoints/service-7.default:8080"]; version > 1 && uint64(port) != 1+version%65535 {
			t.Errorf("content of version %d is saved as version %d", port-1, version)
			break
		}
	}
	close(stop)
	running.Wait()
}
