package proxy

import (
	"context"
	"maps"
	"slices"
	"time"

	"tulle.dev/tulle/internal/view"
)

// Drain ends the proxy in good order:
//
//  1. The control plane is told, and its peers' proxies by it, that nothing new
//     should come; until they say that they know, connections are accepted as ever.
//  2. Answers say that they are the last of their connection; connections that
//     stay idle are ended; listeners let the handshakes that are under way end,
//     and are closed.
//  3. When no connection is left, or the settings' DrainTimeout is over, the
//     loops end.
//
// It returns when all has ended. A context that ends cuts it short.
func (p *Proxy) Drain(ctx context.Context) {
	p.draining.Store(true)
	told, cancel := context.WithTimeout(ctx, DrainNotice)
	if err := p.config.Live.Drain(told); err != nil {
		p.config.Log.Warn("draining without notice", "error", err)
	}
	cancel()
	settle := p.settle()
	for _, n := range p.lanes {
		n.loop.Post(func() { n.drain(settle) })
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
	}
	p.awaitEnd(ctx, p.drainTimeout())
	p.Stop()
}

// drainTimeout is how long connections may take to end.
func (p *Proxy) drainTimeout() time.Duration {
	if t := p.config.Live.Table(); t.Proxy != nil {
		return or(t.Proxy.Settings.DrainTimeout, DefaultDrainTimeout)
	}
	return DefaultDrainTimeout
}

// awaitEnd waits until no client's connection is left.
func (p *Proxy) awaitEnd(ctx context.Context, limit time.Duration) {
	const look = 10 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	end := time.NewTimer(limit)
	defer end.Stop()
	for {
		select {
		case <-tick.C:
			if p.Connections() == 0 {
				return
			}
		case <-end.C:
			p.config.Log.Warn("cutting connections that did not end", "connections", p.Connections())
			return
		case <-ctx.Done():
			return
		}
	}
}

// settle is how long clients may take to end the handshakes they have begun: no
// time on this machine, where nothing is ever on its way.
func (p *Proxy) settle() time.Duration {
	t := p.config.Live.Table()
	if t.Proxy == nil {
		return 0
	}
	bound := p.Bound()
	for _, l := range t.Proxy.Listeners {
		if at, ok := bound[l.Name]; ok && (l.Kind == view.Inbound || l.Kind == view.Edge) && !at.Addr().IsLoopback() {
			return HandshakeSettle
		}
	}
	return 0
}

// drain is the lane's part: it takes what waits to be accepted, then no more.
func (n *lane) drain(settle time.Duration) {
	n.http.Drain()
	for _, name := range slices.Sorted(maps.Keys(n.ports)) { // in an order that repeats
		if a := n.ports[name].acceptor; a != nil {
			a.Finish(settle)
		}
	}
}

// Registered lists the inbound listeners that are open: what the workload serves.
func (p *Proxy) Registered() []*view.Listener {
	t := p.config.Live.Table()
	if t.Proxy == nil {
		return nil
	}
	bound := p.Bound()
	var list []*view.Listener
	for _, l := range t.Proxy.Listeners {
		if at, ok := bound[l.Name]; ok && l.Kind == view.Inbound {
			open := *l.Listener
			open.Address = at
			list = append(list, &open)
		}
	}
	return list
}
