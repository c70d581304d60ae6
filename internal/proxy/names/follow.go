package names

import (
	"io"
	"net"
	"net/netip"

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
		s.follows[name] = followed{at, s.Serve(udp, tcp)}
	}
}

// listen makes the sockets in the proxy's own network namespace.
func listen(at netip.AddrPort) (net.PacketConn, net.Listener, error) {
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
