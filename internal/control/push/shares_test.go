package push

import (
	"sync"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/limit"
	"tulle.dev/tulle/internal/proxy/meter"

	"tulle.dev/tulle/internal/wire/control"

	"net/netip"
)

const limited = `
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {ports: [{port: 80, appProtocol: http}]}
---
apiVersion: tulle.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: db, namespace: default}
spec:
  targetRefs: [{group: "", kind: Service, name: db}]
  limits: [{requests: 1000, burst: 100, scope: Global}]
`

// limiter is a proxy with its part of a limit: it asks at a rate, and counts what
// is let through.
type limiter struct {
	t     *testing.T
	name  string
	start time.Time

	mu      sync.Mutex
	proxy   *proxy
	book    *limit.Book
	set     *limit.Set
	can     bool // the control plane understands Demand
	rate    int  // requests a second
	allowed int
	at      time.Time // of the last request
	part    uint64
	stop    chan struct{}
	stopped sync.WaitGroup
}

var dbLimit = policy.RateLimit{Name: "ratelimitpolicy/default/db#0", Requests: 1000, Per: time.Second, Burst: 100, Global: true}

func (w *world) limiter(name string, rate int) *limiter {
	l := &limiter{t: w.t, name: name, start: time.Now(), rate: rate, stop: make(chan struct{}), book: limit.NewBook(false, nil, nil)}
	l.at = l.start
	l.set = l.book.Compile([]policy.RateLimit{dbLimit}, 0, meter.New(1, "test").Shard(0), meter.Inbound, "db.default:80")
	if w.shares == nil {
		w.shares = map[string]func(*control.Shares){}
	}
	w.shares[name] = func(s *control.Shares) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.can = true
		for _, s := range s.Limits {
			l.part = s.Part
			l.book.Take(s.Limit, s.Part)
		}
	}
	l.proxy = w.connect("db", name)
	l.stopped.Go(l.run)
	return l
}

// run asks 100 times a second for a hundredth of its rate, and says once a second
// what it needs.
func (l *limiter) run() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-l.stop:
			return
		case now := <-tick.C:
			l.ask(now)
		}
		if i%100 == 0 {
			l.tell()
		}
	}
}

func (l *limiter) ask(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int(now.Sub(l.at).Seconds()*float64(l.rate) + 0.5)
	l.at = now
	for range n {
		if _, ok := l.set.Allow(&policy.Subject{}, netip.Addr{}, now.Sub(l.start)); ok {
			l.allowed++
		}
	}
}

func (l *limiter) tell() {
	l.mu.Lock()
	list := l.book.Demand(time.Second)
	can, p := l.can, l.proxy
	l.mu.Unlock()
	m := &control.Demand{}
	for _, d := range list {
		m.Limits = append(m.Limits, control.LimitDemand{Limit: d.Limit, Part: d.Part, Keyed: d.Keyed, Held: d.Held})
	}
	if can && len(list) > 0 {
		p.say(&control.ProxyMessage{Demand: m})
	}
}

// count returns how much was let through since the last time.
func (l *limiter) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.allowed
	l.allowed = 0
	return n
}

func (l *limiter) want(rate int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

func (l *limiter) close() {
	l.proxy.close()
	close(l.stop)
	l.stopped.Wait()
}

func near(t *testing.T, what string, got, want, percent int) {
	t.Helper()
	if got < want-want*percent/100 || got > want+want*percent/100 {
		t.Errorf("%s: %d, want %d within %d %%", what, got, want, percent)
	}
}

// TestShares: three proxies that ask for very different amounts get the limit
// between them, as much of it as there is; who joins gets its part within two
// seconds; what one doesn't need any more others get; and all go on when the
// control plane is away.
func TestShares(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(limited)
		a, b, c := w.limiter("db-1", 100), w.limiter("db-2", 600), w.limiter("db-3", 3000)
		all := []*limiter{a, b, c}
		defer func() {
			for _, l := range all {
				l.close()
			}
		}()
		count := func(d time.Duration) (sum int, each []int) {
			time.Sleep(d)
			for _, l := range all {
				n := l.count()
				each, sum = append(each, n), sum+n
			}
			return sum, each
		}
		count(3 * time.Second)
		sum, each := count(10 * time.Second)
		near(t, "all", sum, 10_000, 10)
		near(t, "who asks for little gets it all", each[0], 1000, 2)
		near(t, "the second", each[1], 4450, 5)
		near(t, "the third", each[2], 4450, 5)

		d := w.limiter("db-4", 5000)
		all = append(all, d)
		time.Sleep(2 * time.Second)
		count(0)
		sum, each = count(2 * time.Second)
		near(t, "all, after one joined", sum, 2000, 10)
		near(t, "who joined", each[3], 600, 10)

		c.want(0)
		count(10 * time.Second)
		sum, each = count(5 * time.Second)
		near(t, "all, after one has stopped", sum, 5000, 10)
		near(t, "who hadn't enough", each[3], 5*440, 10)

		d.close()
		all = all[:3]
		c.want(3000)
		count(5 * time.Second)
		sum, _ = count(5 * time.Second)
		near(t, "all, after one has gone and one come back", sum, 5000, 10)

		w.stop() // the control plane is away
		time.Sleep(time.Second)
		count(0)
		sum, _ = count(10 * time.Second)
		near(t, "all, without the control plane", sum, 10_000, 10)
	})
}

// A proxy that doesn't say that it understands shares isn't told of any, and names
// that aren't limits of the mesh aren't remembered.
func TestSharesAsked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(limited)
		old := w.connect("db", "old")
		defer old.close()
		eventually(t, "the proxy is up to date", func() bool { return old.get(control.KeyProxy) != nil })
		old.say(&control.ProxyMessage{}) // a message of a newer program
		old.say(&control.ProxyMessage{Demand: &control.Demand{Limits: []control.LimitDemand{{Limit: "nonsense", Part: 1}}}})
		time.Sleep(3 * time.Second)
		select {
		case <-old.done:
			t.Fatal(old.err)
		default:
		}
		w.server.shares.mu.Lock()
		defer w.server.shares.mu.Unlock()
		if !w.server.shares.allocator.Idle() {
			t.Error("a limit that there isn't is divided")
		}
	})
}

// Two replicas, each with proxies of its own, divide one limit between all.
func TestSharesOfReplicas(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(limited)
		other := &world{t: t, store: w.store, ca: w.ca, objects: w.objects, tokens: w.tokens}
		other.start()
		defer other.close()
		all := []*limiter{w.limiter("db-1", 3000), w.limiter("db-2", 200), other.limiter("db-3", 3000)}
		defer func() {
			for _, l := range all {
				l.close()
			}
		}()
		count := func(d time.Duration) (sum int, each []int) {
			time.Sleep(d)
			for _, l := range all {
				n := l.count()
				each, sum = append(each, n), sum+n
			}
			return sum, each
		}
		count(5 * time.Second)
		sum, each := count(10 * time.Second)
		near(t, "all", sum, 10_000, 15)
		if each[0] < 3000 || each[1] < 1900 || each[2] < 3000 {
			t.Errorf("unfair: %v", each)
		}
		items, _, err := w.store.List(t.Context(), demandPrefix)
		if err != nil || len(items) != 2 {
			t.Fatalf("%d replicas have told what they need, %v", len(items), err)
		}
		// One goes away, with its proxy: the others have it all.
		all[2].close()
		all = all[:2]
		other.stop()
		count(2 * demandTTL)
		sum, _ = count(10 * time.Second)
		near(t, "all that are left", sum, 10_000, 10)
		// While one is alone nothing is written.
		before, revision, _ := w.store.List(t.Context(), demandPrefix)
		time.Sleep(10 * time.Second)
		if after, now, _ := w.store.List(t.Context(), demandPrefix); len(before) != 1 || len(after) != 1 || before[0].Revision != after[0].Revision {
			t.Errorf("%d and %d keys, revision %d and %d", len(before), len(after), revision, now)
		}
	})
}
