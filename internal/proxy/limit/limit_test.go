package limit

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
)

var nobody netip.Addr

type fields map[string]string

func (f fields) Field(name string) ([]byte, bool) {
	v, ok := f[strings.ToLower(name)]
	return []byte(v), ok
}

// compile makes a set of one loop, and its metrics.
func compile(b *Book, list ...policy.RateLimit) (*Set, *meter.Registry) {
	m := meter.New(1, "test")
	return b.Compile(list, 0, m.Shard(0), meter.Inbound, "web.default:80"), m
}

func text(t *testing.T, m *meter.Registry) string {
	t.Helper()
	var s strings.Builder
	if err := m.WriteText(&s); err != nil {
		t.Fatal(err)
	}
	return s.String()
}

func allowed(s *Set, r *policy.Subject, n int, now time.Duration) int {
	ok := 0
	for range n {
		if _, yes := s.Allow(r, nobody, now); yes {
			ok++
		}
	}
	return ok
}

func TestRate(t *testing.T) {
	for _, c := range []struct {
		requests uint32
		per      time.Duration
		burst    uint32
		want     int // in 10 s, asked for all the time, after the burst
	}{
		{1, time.Second, 1, 10},
		{100, time.Second, 1, 1000},
		{100, time.Second, 100, 1000},
		{7, time.Second, 3, 70},
		{600, time.Minute, 10, 100},
		{1, time.Hour, 1, 0},
		{33333, time.Second, 500, 333330},
		{0, time.Second, 5, 0},
		{100, 0, 5, 0},
	} {
		s, _ := compile(NewBook(false, nil, nil), policy.RateLimit{Name: "l", Requests: c.requests, Per: c.per, Burst: c.burst})
		now := time.Duration(12345)
		burst := allowed(s, &policy.Subject{}, int(c.burst)+5, now)
		if want := int(c.burst); burst != want && c.want+int(c.requests) > 0 && c.per > 0 && c.requests > 0 {
			t.Errorf("%d per %s: %d at once, want %d", c.requests, c.per, burst, want)
		}
		got := 0
		step := max(c.per/time.Duration(max(c.requests, 1))/50, 10*time.Microsecond)
		step = min(step, 10*time.Millisecond)
		for end := now + 10*time.Second; now < end; {
			now += step
			if _, ok := s.Allow(&policy.Subject{}, nobody, now); ok {
				got++
			}
		}
		if got < c.want-1 || got > c.want+1 {
			t.Errorf("%d per %s: %d in 10s, want %d", c.requests, c.per, got, c.want)
		}
	}
}

func TestRefusal(t *testing.T) {
	s, _ := compile(NewBook(false, nil, nil), policy.RateLimit{Name: "l", Requests: 10, Per: time.Second, Burst: 5})
	now := time.Hour
	if n := allowed(s, &policy.Subject{}, 5, now); n != 5 {
		t.Fatalf("%d at once", n)
	}
	r, ok := s.Allow(&policy.Subject{}, nobody, now)
	if ok || r.Wait != 100*time.Millisecond || r.Left != 0 || r.Reset != 500*time.Millisecond || r.Limit.Name != "l" {
		t.Errorf("%v %+v", ok, r)
	}
	if _, ok := s.Allow(&policy.Subject{}, nobody, now+r.Wait-1); ok {
		t.Error("let through before the wait was over")
	}
	if _, ok := s.Allow(&policy.Subject{}, nobody, now+r.Wait); !ok {
		t.Error("not let through when the wait was over")
	}
}

// What several loops take at once is exact, also for limits smaller than their
// number.
func TestLoopsTogether(t *testing.T) {
	for _, loops := range []int{1, 4} {
		for _, burst := range []uint32{1, 3, 1000} {
			for _, by := range [][]policy.Descriptor{nil, {{Kind: policy.ByIdentity}}} {
				b := NewBook(false, nil, nil)
				m := meter.New(loops, "test")
				l := []policy.RateLimit{{Name: "l", Requests: 1, Per: time.Hour, Burst: burst, By: by}}
				var passed atomic.Int64
				var all sync.WaitGroup
				for i := range loops {
					s := b.Compile(l, 0, m.Shard(i), meter.Inbound, "web.default:80")
					all.Go(func() {
						for range 5000 {
							if _, ok := s.Allow(&policy.Subject{Caller: "a.b"}, nobody, time.Minute); ok {
								passed.Add(1)
							}
						}
					})
				}
				all.Wait()
				if passed.Load() != int64(burst) {
					t.Errorf("%d loops: %d of %d", loops, passed.Load(), burst)
				}
			}
		}
	}
}

func TestEachMustAllow(t *testing.T) {
	wide := policy.RateLimit{Name: "wide", Requests: 1, Per: time.Hour, Burst: 10}
	narrow := policy.RateLimit{Name: "narrow", Requests: 1, Per: time.Hour, Burst: 2, When: policy.Match{Methods: []string{"POST"}}}
	s, m := compile(NewBook(false, nil, nil), wide, narrow)
	post, get := &policy.Subject{Method: []byte("POST")}, &policy.Subject{Method: []byte("GET")}
	if n := allowed(s, post, 100, time.Minute); n != 2 {
		t.Errorf("%d POSTs, want 2", n)
	}
	// What the narrow limit refused hasn't used the wide one up.
	if n := allowed(s, get, 100, time.Minute); n != 8 {
		t.Errorf("%d GETs, want the 8 that are left", n)
	}
	for _, want := range []string{
		`tulle_rate_limit_total{direction="inbound",service="web.default:80",limit="narrow",outcome="allowed"} 2`,
		`tulle_rate_limit_total{direction="inbound",service="web.default:80",limit="narrow",outcome="refused"} 98`,
		`tulle_rate_limit_total{direction="inbound",service="web.default:80",limit="wide",outcome="refused"} 92`,
	} {
		if got := text(t, m); !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestShadow(t *testing.T) {
	s, m := compile(NewBook(false, nil, nil), policy.RateLimit{Name: "l", Requests: 1, Per: time.Hour, Burst: 3, Shadow: true})
	if n := allowed(s, &policy.Subject{}, 10, time.Minute); n != 10 {
		t.Errorf("%d of 10 through a shadow", n)
	}
	if got := text(t, m); !strings.Contains(got, `outcome="shadow"} 7`) || !strings.Contains(got, `outcome="refused"} 0`) {
		t.Error(got)
	}
}

func TestBy(t *testing.T) {
	four := netip.MustParseAddr
	type request struct {
		policy.Subject
		source netip.Addr
	}
	for name, c := range map[string]struct {
		by   []policy.Descriptor
		a, b request
		same bool
	}{
		"header":       {[]policy.Descriptor{{Kind: policy.ByHeader, Name: "X-User"}}, request{Subject: policy.Subject{Fields: fields{"x-user": "1"}}}, request{Subject: policy.Subject{Fields: fields{"x-user": "2"}}}, false},
		"same header":  {[]policy.Descriptor{{Kind: policy.ByHeader, Name: "X-User"}}, request{Subject: policy.Subject{Fields: fields{"x-user": "1"}}}, request{Subject: policy.Subject{Fields: fields{"x-user": "1", "y": "z"}}}, true},
		"no header":    {[]policy.Descriptor{{Kind: policy.ByHeader, Name: "X-User"}}, request{}, request{Subject: policy.Subject{Fields: fields{"x-user": ""}}}, true},
		"identity":     {[]policy.Descriptor{{Kind: policy.ByIdentity}}, request{Subject: policy.Subject{Caller: "a.b"}}, request{Subject: policy.Subject{Caller: "c.b"}}, false},
		"method":       {[]policy.Descriptor{{Kind: policy.ByMethod}}, request{Subject: policy.Subject{Method: []byte("GET")}}, request{Subject: policy.Subject{Method: []byte("PUT")}}, false},
		"path":         {[]policy.Descriptor{{Kind: policy.ByPath}}, request{Subject: policy.Subject{Path: []byte("/a")}}, request{Subject: policy.Subject{Path: []byte("/b")}}, false},
		"path, query":  {[]policy.Descriptor{{Kind: policy.ByPath}}, request{Subject: policy.Subject{Path: []byte("/a?x")}}, request{Subject: policy.Subject{Path: []byte("/a?y")}}, true},
		"path, escape": {[]policy.Descriptor{{Kind: policy.ByPath}}, request{Subject: policy.Subject{Path: []byte("/a")}}, request{Subject: policy.Subject{Path: []byte("/b/..//%41/")}}, true},
		"source":       {[]policy.Descriptor{{Kind: policy.BySource}}, request{source: four("192.0.2.1")}, request{source: four("192.0.2.2")}, false},
		"mapped":       {[]policy.Descriptor{{Kind: policy.BySource}}, request{source: four("192.0.2.1")}, request{source: four("::ffff:192.0.2.1")}, true},
		"site":         {[]policy.Descriptor{{Kind: policy.BySource}}, request{source: four("2001:db8::1")}, request{source: four("2001:db8::2")}, true},
		"other site":   {[]policy.Descriptor{{Kind: policy.BySource}}, request{source: four("2001:db8::1")}, request{source: four("2001:db8:0:1::1")}, false},
		"two": {[]policy.Descriptor{{Kind: policy.ByHeader, Name: "a"}, {Kind: policy.ByHeader, Name: "b"}},
			request{Subject: policy.Subject{Fields: fields{"a": "xy", "b": "z"}}}, request{Subject: policy.Subject{Fields: fields{"a": "x", "b": "yz"}}}, false},
	} {
		s, _ := compile(NewBook(false, nil, nil), policy.RateLimit{Name: "l", Requests: 1, Per: time.Hour, Burst: 1, By: c.by})
		if _, ok := s.Allow(&c.a.Subject, c.a.source, time.Minute); !ok {
			t.Errorf("%s: the first was refused", name)
		}
		if _, ok := s.Allow(&c.b.Subject, c.b.source, time.Minute); ok == c.same {
			t.Errorf("%s: the second passed: %v, the same bucket: %v", name, ok, c.same)
		}
	}
}

// Past the bound of combinations what is full is forgotten; what isn't stays, and
// newcomers share a bucket.
func TestManyKeys(t *testing.T) {
	b := NewBook(false, nil, nil)
	s, _ := compile(b, policy.RateLimit{Name: "l", Requests: 1, Per: time.Second, Burst: 1, By: []policy.Descriptor{{Kind: policy.ByIdentity}}})
	now := time.Minute
	ask := func(i int) bool {
		_, ok := s.Allow(&policy.Subject{Caller: fmt.Sprint(i)}, nobody, now)
		return ok
	}
	for i := range MaxKeys {
		if !ask(i) {
			t.Fatalf("caller %d was refused", i)
		}
	}
	passed := 0
	for i := range 1000 {
		if ask(MaxKeys + i) {
			passed++
		}
	}
	if over := b.Over(); passed != 1 || len(over) != 1 || over[0] != (Over{"l", 1000}) {
		t.Errorf("%d of 1000 passed over the bound, counted %v", passed, over)
	}
	if ask(5) {
		t.Error("a caller's bucket was forgotten while it was empty")
	}
	now += 2 * time.Second // all are full again
	for i := range 3 * MaxKeys {
		if !ask(2*MaxKeys + i) {
			t.Fatalf("caller %d was refused although others could be forgotten", i)
		}
		if i%MaxKeys == MaxKeys-1 {
			now += 2 * time.Second
		}
	}
	if n := b.states["l"].table.Load().n; n > MaxKeys {
		t.Errorf("%d combinations are kept", n)
	}
}

// A change of the policy doesn't fill the buckets.
func TestUpdate(t *testing.T) {
	b := NewBook(false, nil, nil)
	l := policy.RateLimit{Name: "l", Requests: 1, Per: time.Minute, Burst: 10}
	s, _ := compile(b, l)
	allowed(s, &policy.Subject{}, 10, time.Hour)
	l.Requests = 2
	s, _ = compile(b, l)
	if n := allowed(s, &policy.Subject{}, 10, time.Hour); n > 5 {
		t.Errorf("%d at once after a change", n)
	}
}

func TestForgotten(t *testing.T) {
	b := NewBook(false, nil, nil)
	m := meter.New(1, "test")
	for i := range 100 {
		b.Compile([]policy.RateLimit{{Name: fmt.Sprint(i), Requests: 1, Per: time.Second, Burst: 1}}, 2*time.Duration(i)*forgetAfter, m.Shard(0), meter.Edge, "")
	}
	if len(b.states) > 2 {
		t.Errorf("%d limits are remembered that nothing uses", len(b.states))
	}
}

func TestAllocations(t *testing.T) {
	b := NewBook(false, nil, nil)
	s, _ := compile(b,
		policy.RateLimit{Name: "plain", Requests: 1000, Per: time.Second, Burst: 10},
		policy.RateLimit{Name: "by", Requests: 1000, Per: time.Second, Burst: 10, By: []policy.Descriptor{{Kind: policy.ByIdentity}, {Kind: policy.ByPath}, {Kind: policy.BySource}}},
		policy.RateLimit{Name: "all", Requests: 1000, Per: time.Second, Burst: 10, Global: true})
	r := &policy.Subject{Caller: "web.default", Method: []byte("GET"), Path: []byte("/a/%62?c")}
	source := netip.MustParseAddr("2001:db8::1")
	now := time.Minute
	s.Allow(r, source, now)
	if n := testing.AllocsPerRun(1000, func() {
		now += time.Millisecond
		s.Allow(r, source, now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestGlobal(t *testing.T) {
	asked := 0
	b := NewBook(false, nil, func() { asked++ })
	local := policy.RateLimit{Name: "local", Requests: 1000, Per: time.Second, Burst: 1000}
	l := policy.RateLimit{Name: "l", Requests: 1000, Per: time.Second, Burst: 1000, Global: true}
	compile(b, local)
	if asked != 0 {
		t.Error("a local limit asks for shares")
	}
	s, _ := compile(b, l, local)
	compile(b, l)
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	now := time.Minute
	count := func() int {
		n := 0
		for range 10_000 {
			now += 100 * time.Microsecond
			if _, ok := s.Allow(&policy.Subject{}, nobody, now); ok {
				n++
			}
		}
		return n
	}
	near := func(got, want int) {
		t.Helper()
		if got < want-want/20-1 || got > want+want/20+1 {
			t.Errorf("%d in a second, want %d", got, want)
		}
	}
	count()
	near(count(), 1000*StartShare/whole)
	// 20,000 were asked for in two seconds, of a limit of 1,000 a second.
	if d := b.Demand(2 * time.Second); len(d) != 1 || d[0] != (Demand{Limit: "l", Part: 10 * whole}) {
		t.Errorf("demand %v", d)
	}
	b.Take("l", 300_000)
	b.Take("local", 1)
	b.Take("unknown", 1)
	count()
	near(count(), 300)
	b.Take("l", 5*whole)
	count()
	near(count(), 1000)
	if d := b.Demand(4 * time.Second); len(d) != 1 || d[0].Held != whole {
		t.Errorf("demand %v, want what it was told last", d)
	}
	// A demand that ends is told as such, and then no more.
	last := Demand{Limit: "l", Part: 10 * whole, Held: whole}
	for range 100 {
		d := b.Demand(time.Second)
		if len(d) == 0 {
			break
		}
		if d[0].Part >= last.Part && last.Part < 10*whole {
			t.Errorf("%d after %d", d[0].Part, last.Part)
		}
		last = d[0]
	}
	if last.Part != 0 {
		t.Errorf("the last demand told is %d", last.Part)
	}

	alone := NewBook(true, nil, nil)
	s, _ = compile(alone, l)
	alone.Take("l", 1)
	now += time.Minute
	count()
	near(count(), 1000)

	// An earlier process was told its share.
	heir := NewBook(false, func(name string) uint64 {
		if name != "l" {
			t.Errorf("asked for the share of %s", name)
		}
		return whole / 4
	}, nil)
	s, _ = compile(heir, l)
	now += time.Minute
	count()
	near(count(), 250)
	heir.Take("l", whole/2)
	count()
	near(count(), 500)

	keyed := l
	keyed.By = []policy.Descriptor{{Kind: policy.ByIdentity}}
	s, _ = compile(NewBook(false, nil, nil), keyed)
	s.Allow(&policy.Subject{}, nobody, now)
	if f, ok := s.Allow(&policy.Subject{}, nobody, now); !ok && f.Limit.Name != "l" {
		t.Errorf("%+v", f)
	}
}

func TestRateOfExtremes(t *testing.T) {
	const top = 100_000_000
	for _, c := range []struct {
		requests uint32
		per      time.Duration
		burst    uint32
		share    uint64
	}{
		{1, 24 * time.Hour, top, whole}, {top, 24 * time.Hour, top, 1}, {top, time.Millisecond, top, whole},
		{1, time.Millisecond, 1, 1}, {1, 24 * time.Hour, 1, 1}, {^uint32(0), time.Nanosecond, ^uint32(0), whole},
	} {
		r := rateOf(c.requests, c.per, c.burst, c.share)
		if r.interval < 1 || r.interval > maxDepth || r.depth < 1 || r.depth > maxDepth {
			t.Errorf("%+v: %+v", c, r)
		}
		var b bucket
		if _, ok := b.take(r, 0); !ok && r.interval <= r.depth {
			t.Errorf("%+v: a full bucket gives nothing", c)
		}
	}
}
