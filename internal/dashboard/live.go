package dashboard

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"

	"tulle.dev/tulle/internal/control/operator"
)

// live sends every open page the same overview, again and again. Its loop (run)
// owns the pace; the map of viewers is shared under the lock. A viewer who is
// slow misses updates, never delays others.
type live struct {
	pace   time.Duration
	gather func(context.Context) *event
	who    func(*http.Request) (*operator.Who, error) // who looks, still
	wake   chan struct{}                              // a first viewer came

	mu      sync.Mutex
	viewers map[chan *event]struct{}
	last    *event
	lastAt  time.Time
	ended   bool
}

func newLive(pace time.Duration, gather func(context.Context) *event) *live {
	return &live{pace: pace, gather: gather, wake: make(chan struct{}, 1), viewers: make(map[chan *event]struct{})}
}

func (l *live) run(ctx context.Context) {
	defer l.end()
	timer := time.NewTimer(l.pace)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
		if l.watched() {
			begin := time.Now()
			gatherCtx, cancel := context.WithTimeout(ctx, gatherLimit)
			l.send(l.gather(gatherCtx))
			cancel()
			// In a large mesh gathering takes its time: no more than a fifth of it.
			timer.Reset(max(l.pace, 4*time.Since(begin)))
		}
	}
}

func (l *live) watched() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.viewers) > 0
}

func (l *live) send(e *event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.lastAt = e, time.Now()
	for v := range l.viewers {
		select {
		case <-v: // take back what wasn't read
		default:
		}
		v <- e
	}
}

func (l *live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for v := range l.viewers {
		close(v)
		delete(l.viewers, v)
	}
}

// join adds a viewer; nil when there are too many or all is over. What was sent
// lately comes at once.
func (l *live) join() chan *event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || len(l.viewers) >= maxViewers {
		return nil
	}
	v := make(chan *event, 1)
	l.viewers[v] = struct{}{}
	if l.last != nil && time.Since(l.lastAt) < l.pace {
		v <- l.last
	} else {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return v
}

func (l *live) leave(v chan *event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.viewers, v)
}

// serve is GET /api/events: server-sent events named overview.
func (l *live) serve(w http.ResponseWriter, r *http.Request) {
	events := l.join()
	if events == nil {
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusServiceUnavailable, "too many pages are open: close one")
		return
	}
	defer l.leave(events)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	write := func(b []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(b); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	if !write([]byte("retry: 1000\n\n")) {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-beat.C:
			if _, err := l.who(r); err != nil || !write([]byte(": still here\n\n")) {
				return
			}
		case e, ok := <-events:
			if !ok {
				return
			}
			// A stream outlives neither its session nor what its operator may see.
			who, err := l.who(r)
			if err != nil || !write(bytes.Join([][]byte{[]byte("event: overview\ndata: "), e.bytes(who), []byte("\n\n")}, nil)) {
				return
			}
		}
	}
}
