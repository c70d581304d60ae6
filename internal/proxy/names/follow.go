package names

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/handover"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/view"
)

// Open makes the sockets of a Names listener.
type Open func(at netip.AddrPort) (udp net.PacketConn, tcp net.Listener, err error)

// followed is an open Names listener.
type followed struct {
	at     netip.AddrPort
	closer io.Closer
}

// Follow opens and closes sockets so that they are the table's Names listeners.
// It is for live.OnChange: one goroutine at a time calls it. A socket that can't
// be opened is logged, and tried again at the next change.
func (s *Server) Follow(t *live.Table) {
	if t.Proxy == nil {
		return
	}
	want := make(map[string]netip.AddrPort)
	for _, l := range t.Proxy.Listeners {
		if l.Kind == view.Names {
			want[l.Name] = l.Address
		}
	}
	for name, f := range s.follows {
		if want[name] != f.at {
			f.closer.Close()
			delete(s.follows, name)
		}
	}
	for name, at := range want {
		if _, ok := s.follows[name]; ok {
			continue
		}
		udp, tcp, err := s.open(at)
		if err != nil {
			s.log.Error("cannot answer DNS queries", "listener", name, "address", at, "error", err)
			continue
		}
		s.follows[name] = followed{at, s.serve(udp, tcp, at)}
	}
}

// Sockets returns duplicates of the sockets that Follow opened, for a successor.
// They are the caller's to close. It may be called from any goroutine.
func (s *Server) Sockets() ([]handover.Socket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []handover.Socket
	for p := range s.closers {
		p, ok := p.(*pair)
		if !ok || p.udp == nil || p.tcp == nil || !p.at.IsValid() {
			continue
		}
		for kind, socket := range map[handover.Kind]any{handover.NamesUDP: p.udp, handover.NamesTCP: p.tcp} {
			fd, err := duplicate(socket)
			if err != nil {
				(&handover.Offer{Sockets: list}).Close()
				return nil, fmt.Errorf("duplicate the names socket at %s: %w", p.at, err)
			}
			list = append(list, handover.Socket{Kind: kind, At: p.at, FD: fd})
		}
	}
	return list, nil
}

// duplicate is not File: that one's descriptor blocks, and so then does ours.
func duplicate(socket any) (fd int, err error) {
	c, ok := socket.(syscall.Conn)
	if !ok {
		return -1, errors.ErrUnsupported
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, err
}

// OpenSockets makes the sockets in the proxy's own network namespace.
func OpenSockets(at netip.AddrPort) (net.PacketConn, net.Listener, error) {
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, err
	}
	at = netip.AddrPortFrom(at.Addr(), udp.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		udp.Close()
		return nil, nil, err
	}
	return udp, tcp, nil
}
