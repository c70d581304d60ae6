package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/handover"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/view"
)

// Inherited is listening sockets of a proxy whose place this one takes.
type Inherited interface {
	// Listener returns the socket of a listener for one loop, once.
	Listener(name string, loop int) (fd int, ok bool)
}

// Sockets returns duplicates of the listeners' sockets, for a successor. They
// are the caller's to close.
func (p *Proxy) Sockets() ([]handover.Socket, error) {
	if p.draining.Load() {
		return nil, errDraining
	}
	type part struct {
		sockets []handover.Socket
		err     error
	}
	parts := make(chan part, len(p.lanes))
	asked := 0
	for _, n := range p.lanes {
		if n.loop.Post(func() {
			sockets, err := n.sockets()
			parts <- part{sockets, err}
		}) {
			asked++
		}
	}
	var all []handover.Socket
	var err error
	for range asked {
		x := <-parts
		all, err = append(all, x.sockets...), errors.Join(err, x.err)
	}
	if err != nil {
		(&handover.Offer{Sockets: all}).Close()
		return nil, err
	}
	return all, nil
}

func (n *lane) sockets() ([]handover.Socket, error) {
	var list []handover.Socket
	for name, port := range n.ports {
		if port.acceptor == nil {
			continue
		}
		fd, err := unix.FcntlInt(uintptr(port.acceptor.FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return list, fmt.Errorf("duplicate the socket of listener %s: %w", name, err)
		}
		list = append(list, handover.Socket{Kind: handover.Accept, Listener: name, Loop: uint16(n.loop.Index), FD: fd})
	}
	return list, nil
}

// inherit returns the socket that an earlier proxy had for a listener, if it fits
// what the listener is told now.
func (p *Proxy) inherit(n *lane, l *live.Listener, at netip.AddrPort) (poll.FD, netip.AddrPort, bool) {
	if p.config.Inherited == nil {
		return poll.None, at, false
	}
	fd, ok := p.config.Inherited.Listener(l.Name, n.loop.Index)
	if !ok {
		return poll.None, at, false
	}
	bound, err := poll.Bound(poll.FD(fd))
	captures := p.config.Sockets != nil && l.Kind == view.Capture // its address is the other namespace's
	if err == nil && !captures && (bound.Addr() != at.Addr() || at.Port() != 0 && bound.Port() != at.Port()) {
		err = errors.New("it is bound elsewhere")
	}
	if err == nil {
		err = n.loop.Add(poll.FD(fd))
	}
	if err != nil {
		unix.Close(fd)
		return poll.None, at, false
	}
	if captures {
		bound = at
	}
	return poll.FD(fd), bound, true
}

// Leave ends the proxy in good order once a successor accepts on the same
// sockets: it drains, but to the mesh the workload goes on, so nobody is told,
// and the sockets' queues are left to the successor.
func (p *Proxy) Leave(ctx context.Context) {
	p.draining.Store(true)
	for _, n := range p.lanes {
		n.loop.Post(func() {
			n.http.Drain()
			for _, port := range n.ports {
				if port.acceptor != nil {
					port.acceptor.Leave()
				}
			}
		})
	}
	p.awaitEnd(ctx, p.drainTimeout())
	p.Stop()
}
