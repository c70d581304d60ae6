package meter

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Registry holds the figures of one proxy.
type Registry struct {
	version string
	start   time.Time
	shards  []*Shard

	mu         sync.Mutex
	series     map[Labels]struct{}
	counters   map[series]struct{}
	counts     [families]int // of counters
	rateLimits map[rateLimitKey]struct{}
	routes     map[RouteLabels]struct{}
	collectors []func(*Writer)

	identityExpiry atomic.Int64 // Unix seconds, 0 when there is none
	connected      atomic.Bool
	viewVersion    atomic.Uint64
}

// New makes a registry with one shard per loop. version is the program's.
func New(loops int, version string) *Registry {
	r := &Registry{
		version:  version,
		start:    time.Now(),
		series:   make(map[Labels]struct{}),
		counters: make(map[series]struct{}),
	}
	for range loops {
		r.shards = append(r.shards, &Shard{
			registry: r,
			traffic:  make(map[Labels]*Traffic),
			counters: make(map[series]*counted),
		})
	}
	return r
}

// Shard returns the shard of loop i, from 0.
func (r *Registry) Shard(i int) *Shard { return r.shards[i] }

// SetIdentityExpiry says when the SVID in use ends; the zero time means none.
func (r *Registry) SetIdentityExpiry(t time.Time) {
	if t.IsZero() {
		r.identityExpiry.Store(0)
		return
	}
	r.identityExpiry.Store(t.Unix())
}

// SetControlConnected says whether the conversation with the control plane is up.
func (r *Registry) SetControlConnected(up bool) { r.connected.Store(up) }

// SetViewVersion says which snapshot the table in force was made from.
func (r *Registry) SetViewVersion(v uint64) { r.viewVersion.Store(v) }

// Collect adds a function that every scrape calls to write metrics of its own.
// Call it before the first scrape; f may be called from several goroutines.
func (r *Registry) Collect(f func(*Writer)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collectors = append(r.collectors, f)
}

// admit reports whether there is room for a series.
func (r *Registry) admit(l Labels) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.series[l]; ok {
		return true
	}
	if len(r.series) >= maxSeries {
		return false
	}
	r.series[l] = struct{}{}
	return true
}

// WriteText writes all metrics in Prometheus' text format 0.0.4.
func (r *Registry) WriteText(w io.Writer) error {
	out := &Writer{}
	r.write(out)
	_, err := w.Write(out.b)
	return err
}

// WriteOpenMetrics writes the same as OpenMetrics 1.0.
func (r *Registry) WriteOpenMetrics(w io.Writer) error {
	out := &Writer{open: true}
	r.write(out)
	_, err := w.Write(append(out.b, "# EOF\n"...))
	return err
}
