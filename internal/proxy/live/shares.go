package live

import (
	"context"
	"os"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/rpc"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// demandEvery is how often the control plane is told what the proxy needs of limits
// that all proxies have together.
const demandEvery = time.Second

const (
	// sharesFile has the parts that were told last, for who takes this process's
	// place or comes after it.
	sharesFile = "shares"
	// keptFor is how long after the proxy's last sign of life they are believed:
	// later others may have them.
	keptFor = 5 * time.Minute
	// sharesDelay gathers changes before they are written.
	sharesDelay = 2 * time.Second
	// material is the change of a part, one in so many parts of it, that is written.
	material = 8
)

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
	for _, p := range m.Limits {
		if _, ok := l.parts[p.Limit]; !ok && len(l.parts) >= control.MaxShares || l.parts == nil {
			l.parts = make(map[string]uint64) // those in use are told again
		}
		l.parts[p.Limit] = p.Part
		if was := l.partsSaved[p.Limit]; max(p.Part, was)-min(p.Part, was) > was/material {
			wake(l.shared)
		}
	}
	l.mu.Unlock()
	if s == nil {
		return
	}
	for _, p := range m.Limits {
		s.Take(p.Limit, p.Part)
	}
}

// KeptShare is the part of a limit, in millionths, that this proxy was told last,
// in an earlier process too; 0 when that isn't known.
func (l *Live) KeptShare(limit string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.parts[limit]
}

// loadShares reads the parts that an earlier process of the proxy had. What can't
// be read, or is old, isn't missed: the control plane tells them anew.
func (l *Live) loadShares() {
	info, err := os.Stat(l.path(sharesFile))
	if err != nil || info.Size() > view.MaxSize || time.Since(info.ModTime()) > keptFor {
		return
	}
	data, err := os.ReadFile(l.path(sharesFile))
	if err != nil {
		return
	}
	m, err := control.DecodeControlMessage(data)
	if err != nil || m.Shares == nil {
		l.log.Warn("parts of shared limits can't be read; they are told anew", "file", l.path(sharesFile), "error", err)
		return
	}
	l.parts = make(map[string]uint64, len(m.Shares.Limits))
	for _, p := range m.Shares.Limits {
		l.parts[p.Limit] = p.Part
	}
}

// saveShares writes the parts, or says in the file's time that they still hold.
func (l *Live) saveShares() {
	if l.config.DataDir == "" {
		return
	}
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	changed := len(l.parts) != len(l.partsSaved)
	m := &control.Shares{}
	for name, part := range l.parts {
		m.Limits = append(m.Limits, control.Share{Limit: name, Part: part})
		changed = changed || l.partsSaved[name] != part
	}
	l.mu.Unlock()
	if len(m.Limits) == 0 {
		return
	}
	now := time.Now()
	if !changed && os.Chtimes(l.path(sharesFile), now, now) == nil {
		return
	}
	err := identity.WriteFile(l.path(sharesFile), control.EncodeControlMessage(&control.ControlMessage{Shares: m}), 0o600)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.partsSaved = nil // tried again with the next change, or a minute later
		return
	}
	l.partsSaved = make(map[string]uint64, len(m.Limits))
	for _, p := range m.Limits {
		l.partsSaved[p.Limit] = p.Part
	}
}
