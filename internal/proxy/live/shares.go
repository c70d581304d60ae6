package live

import (
	"context"
	"time"

	"tulle.dev/tulle/internal/proxy/rpc"
	"tulle.dev/tulle/internal/wire/control"
)

// demandEvery is how often the control plane is told what the proxy needs of limits
// that all proxies have together.
const demandEvery = time.Second

// Sharer is who needs parts of limits that all proxies have together. Its methods
// may be called from any goroutine.
type Sharer interface {
	// Demand says what is needed, once a second.
	Demand(elapsed time.Duration) []control.LimitDemand
	// Take puts a part of a limit into force, in millionths.
	Take(limit string, part uint64)
}

// Share has the control plane asked for parts of limits from now on. Only the
// first call counts.
func (l *Live) Share(s Sharer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.static || l.sharer != nil {
		return
	}
	l.sharer = s
	wake(l.news)
}

// demander tells the control plane of one conversation what is needed. It belongs
// to the conversation's sender.
type demander struct {
	sharer Sharer
	ticker *time.Ticker
	tick   <-chan time.Time // nil, so that nothing ticks, until a limit is shared
	last   time.Time
}

// start begins once there is something to ask for.
func (d *demander) start(l *Live) {
	if d.sharer != nil {
		return
	}
	l.mu.Lock()
	d.sharer = l.sharer
	l.mu.Unlock()
	if d.sharer != nil {
		d.ticker, d.last = time.NewTicker(demandEvery), time.Now()
		d.tick = d.ticker.C
	}
}

func (d *demander) stop() {
	if d.ticker != nil {
		d.ticker.Stop()
	}
}

// tell says what is needed, to a control plane that has said it understands.
func (d *demander) tell(ctx context.Context, l *Live, stream *rpc.Stream, now time.Time) error {
	l.mu.Lock()
	understood := l.understood
	l.mu.Unlock()
	if !understood {
		return nil
	}
	list := d.sharer.Demand(now.Sub(d.last))
	d.last = now
	for len(list) > 0 {
		n := min(len(list), control.MaxShares)
		if err := l.say(ctx, stream, &control.ProxyMessage{Demand: &control.Demand{Limits: list[:n]}}); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// takeShares puts parts of limits into force.
func (l *Live) takeShares(m *control.Shares) {
	l.mu.Lock()
	l.understood = true
	s := l.sharer
	l.mu.Unlock()
	if s == nil {
		return
	}
	for _, p := range m.Limits {
		s.Take(p.Limit, p.Part)
	}
}
