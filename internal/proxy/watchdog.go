package proxy

import (
	"context"
	"fmt"
	"time"
)

const (
	// stallLimit is how long one turn of a loop may last.
	stallLimit = 5 * time.Second
	// stallLook is how often the loops are looked at: seldom, since each look
	// wakes several threads of an idle process.
	stallLook = 5 * time.Second
)

// Watch looks whether the loops make progress, until the context ends or one
// doesn't: a handler that hangs takes every connection of its loop with it, and
// the process is better started anew. The error says which loop. What couldn't
// be listened on, since the port was taken, is tried again.
func (p *Proxy) Watch(ctx context.Context) error {
	type seen struct {
		turn  uint64
		since time.Time
	}
	last := make([]seen, len(p.lanes))
	tick := time.NewTicker(stallLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if p.Fault() != nil {
				p.config.Live.Again()
			}
			for i, n := range p.lanes {
				turn, working := n.loop.Beat()
				if !working || turn != last[i].turn || last[i].since.IsZero() {
					last[i] = seen{turn, now}
					continue
				}
				if stalled := now.Sub(last[i].since); stalled >= stallLimit {
					err := fmt.Errorf("loop %d has hung in one turn for %s", i, stalled.Round(time.Second))
					p.stalled.Store(&err)
					return err
				}
			}
		}
	}
}

// Alive says which loop makes no progress, if any.
func (p *Proxy) Alive() error {
	if err := p.stalled.Load(); err != nil {
		return *err
	}
	return nil
}
