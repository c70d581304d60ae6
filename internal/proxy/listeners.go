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
		p.update(t)
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

// update lets what is still open while the proxy drains keep to the newest rules.
func (p *Proxy) update(t *live.Table) {
	for _, n := range p.lanes {
		n.loop.Post(func() {
			for _, l := range t.Proxy.Listeners {
				n.ports[l.Name].follow(l)
			}
			n.settings(t)
		})
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
	if fd, bound, ok := p.inherit(n, l, at); ok {
		return fd, bound, nil
	}
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
					port.acceptor.Finish(0) // its port may be wanted again at once
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
	s.acceptor = listen.New(n.loop, fd, &n.proxy.limit, n.deal(s), func(err error) {
		n.proxy.config.Log.Warn("cannot accept", "listener", l.Name, "error", err)
	})
	n.ports[l.Name] = s
}

// deal serves accepted connections, or gives them to a loop that has fewer:
// which of the loops' sockets a connection comes to is the kernel's choice, made
// by hash, and a few connections that live long would burden some loops much
// more than others. Nothing has been read of such a connection, and once it is
// served it stays.
func (n *lane) deal(s *port) func(poll.FD, netip.AddrPort) {
	f, can := n.loop.Poller.(interface{ Forget(poll.FD) })
	can = can && len(n.proxy.lanes) > 1
	return func(fd poll.FD, peer netip.AddrPort) {
		to := n
		if can {
			to = n.least()
		}
		to.clients.Add(1)
		if to == n {
			s.layers.accept(fd, peer)
			return
		}
		f.Forget(fd)
		l := s.listener
		to.loop.Post(func() { to.take(l, fd, peer) })
	}
}

// tolerance is the part of a loop's connections, one in so many, that it may
// have more than another: with many, evening out is not worth its system calls.
const tolerance = 8

// least returns the lane that is to serve the next connection: this one, unless
// another has clearly fewer.
func (n *lane) least() *lane {
	own := n.clients.Load()
	least, count := n, own
	for _, m := range n.proxy.lanes {
		if c := m.clients.Load(); c < count {
			least, count = m, c
		}
	}
	if own-count <= own/tolerance {
		return n
	}
	return least
}

// take serves a connection that another loop has accepted.
func (n *lane) take(l *live.Listener, fd poll.FD, peer netip.AddrPort) {
	if n.loop.Add(fd) != nil {
		n.loop.Poller.Close(fd)
		n.ended()
		return
	}
	if s := n.ports[l.Name]; s != nil {
		s.layers.accept(fd, peer)
		return
	}
	n.layers(l).accept(fd, peer) // the listener was closed meanwhile
}

// ended makes room for another client's connection.
func (n *lane) ended() {
	n.clients.Add(-1)
	n.proxy.limit.Give()
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
		return newForward(n, l)
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
