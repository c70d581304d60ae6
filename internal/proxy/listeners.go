package proxy

import (
	"errors"
	"fmt"
	"net/netip"

	"tulle.dev/tulle/internal/proxy/listen"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/view"
)

// port is one listener on one loop: a socket, and what its connections meet.
type port struct {
	lane     *lane
	acceptor *listen.Acceptor // nil where another loop accepts for this one
	listener *live.Listener
	layers   layers
}

// layers is what a listener's connections go through.
type layers interface {
	// accept takes a connection over.
	accept(fd poll.FD, peer netip.AddrPort)
	// update is called when the listener's content changed.
	update(*live.Listener)
}

// follow opens and closes listeners as the table says. It is called by one
// goroutine at a time.
func (p *Proxy) follow(t *live.Table) {
	if t.Proxy == nil {
		return
	}
	if p.draining.Load() {
		return
	}
	p.limit.Set(int64(or(t.Proxy.Settings.MaxConnections, DefaultMaxConnections)))
	var fault error
	told := make(map[string]*live.Listener)
	for _, l := range t.Proxy.Listeners {
		if l.Kind == view.Names {
			continue // proxy/names has its own sockets
		}
		told[l.Name] = l
		if err := p.open(l); err != nil {
			fault = err
		}
	}
	p.mu.Lock()
	p.fault = fault
	p.mu.Unlock()
	for name := range p.Bound() {
		if told[name] == nil {
			p.close(name)
		}
	}
	for _, n := range p.lanes {
		n.loop.Post(func() { n.settings(t) })
	}
}

// open makes sure that a listener is open on every loop. What keeps it from that
// is logged once.
func (p *Proxy) open(l *live.Listener) error {
	p.mu.Lock()
	bound, there := p.bound[l.Name]
	p.mu.Unlock()
	if there && l.Address != bound && l.Address.Port() != 0 {
		p.close(l.Name)
		there = false
	}
	if there {
		for _, n := range p.lanes {
			n.loop.Post(func() { n.ports[l.Name].follow(l) })
		}
		return nil
	}
	at := l.Address
	for i, n := range p.lanes {
		fd, addr, err := p.listen(n, l, at, i > 0)
		if err != nil {
			if p.logged[l.Name] != err.Error() {
				p.logged[l.Name] = err.Error()
				p.config.Log.Error("cannot listen, will try again", "listener", l.Name, "address", at, "error", err)
			}
			p.close(l.Name)
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		at = addr // port 0: the other loops share what the first one got
		p.mu.Lock()
		p.bound[l.Name] = addr
		p.mu.Unlock()
		n.loop.Post(func() { n.open(l, fd) })
	}
	delete(p.logged, l.Name)
	return nil
}

// listen opens one loop's socket of a listener.
func (p *Proxy) listen(n *lane, l *live.Listener, at netip.AddrPort, shared bool) (poll.FD, netip.AddrPort, error) {
	if p.config.Sockets != nil && l.Kind == view.Capture {
		fd, err := p.config.Sockets.Capture(at)
		if err != nil {
			return poll.None, at, err
		}
		return poll.FD(fd), at, n.loop.Add(poll.FD(fd))
	}
	return n.loop.Listen(at, shared)
}

func (p *Proxy) close(name string) {
	p.mu.Lock()
	delete(p.bound, name)
	p.mu.Unlock()
	for _, n := range p.lanes {
		n.loop.Post(func() {
			if port := n.ports[name]; port != nil {
				if port.acceptor != nil {
					port.acceptor.Finish() // nobody in its queue is reset
				}
				delete(n.ports, name)
			}
		})
	}
}

// open accepts the connections of a listening socket.
func (n *lane) open(l *live.Listener, fd poll.FD) {
	s := &port{lane: n, listener: l}
	s.layers = n.layers(l)
	serve := s.layers.accept
	if n.proxy.dealing() {
		serve = n.dealer(s)
	}
	s.acceptor = listen.New(n.loop, fd, &n.proxy.limit, serve, func(err error) {
		n.proxy.config.Log.Warn("cannot accept", "listener", l.Name, "error", err)
	})
	n.ports[l.Name] = s
}

// dealing says that the first loop accepts for all.
func (p *Proxy) dealing() bool { return p.config.Deal && len(p.lanes) > 1 }

// dealer gives accepted connections to the loops in turn.
func (n *lane) dealer(s *port) func(poll.FD, netip.AddrPort) {
	type forgetter interface{ Forget(poll.FD) }
	next := 0
	return func(fd poll.FD, peer netip.AddrPort) {
		next = (next + 1) % len(n.proxy.lanes)
		to := n.proxy.lanes[next]
		f, ok := n.loop.Poller.(forgetter)
		if to == n || !ok {
			s.layers.accept(fd, peer)
			return
		}
		f.Forget(fd)
		to.loop.Post(func() { to.take(s.listener.Name, fd, peer) })
	}
}

// take serves a connection that another loop has accepted.
func (n *lane) take(listener string, fd poll.FD, peer netip.AddrPort) {
	s := n.ports[listener]
	if s == nil || n.loop.Add(fd) != nil {
		n.loop.Poller.Close(fd)
		n.proxy.limit.Give()
		return
	}
	s.layers.accept(fd, peer)
}

func (s *port) follow(l *live.Listener) {
	if s != nil && s.listener != l {
		s.listener = l
		s.layers.update(l)
	}
}

// layers chooses what the connections of a listener go through.
func (n *lane) layers(l *live.Listener) layers {
	switch l.Kind {
	case view.Capture, view.Explicit:
		return newOutbound(n, l)
	case view.Forward:
		return newForward(n)
	case view.Inbound:
		return newInbound(n, l)
	default:
		return newEdge(n, l)
	}
}

// Ready says why the proxy shouldn't get traffic: a listener that isn't open, or
// a drain.
func (p *Proxy) Ready() error {
	if p.draining.Load() {
		return errDraining
	}
	return p.Fault()
}

// Fault says why some listener isn't open.
func (p *Proxy) Fault() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

var errDraining = errors.New("draining")
