package proxy

import (
	"net/netip"
	"strings"

	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/wire/h1"
)

// forward is a Forward listener on one loop, the HTTP proxy of programs that
// have http_proxy set: requests in absolute-form, and CONNECT, routed by the
// authority they name.
type forward struct {
	lane *lane
	name string
}

func newForward(n *lane, l *live.Listener) *forward { return &forward{lane: n, name: l.Name} }

func (f *forward) update(*live.Listener) {}

// Describe tells l7http what the listener is.
func (f *forward) Describe() l7http.About {
	return l7http.About{Direction: meter.Outbound.String(), Listener: f.name}
}

func (f *forward) accept(fd poll.FD, peer netip.AddrPort) {
	f.lane.http.Serve(fd, peer, f)
}

// Route finds the service that the authority names, or its address.
func (f *forward) Route(x *l7http.Exchange) *l7http.Failure {
	if f := x.Request.Get(h1.ProxyAuthorization); f != nil {
		f.Drop = true // it was for us, who ask for none (RFC 9110, 11.7.2)
	}
	host, port := h1.SplitAuthority(x.Request.Authority)
	if port == 0 {
		port = 80
		if x.Request.Scheme == "https" {
			port = 443
		}
	}
	if len(host) == 0 {
		return l7http.NoHost
	}
	t := f.lane.current()
	name := strings.ToLower(strings.TrimSuffix(string(host), "."))
	addr, err := netip.ParseAddr(name)
	var h *live.Host
	if err == nil {
		h = t.HostByAddr(addr)
	} else {
		h = t.Host(name)
	}
	if h == nil && x.Once(askHost) && !f.lane.ask(x.Resume(), live.HostKey(name)) {
		return l7http.Later
	}
	switch {
	case h != nil && h.Service != "" && h.HasPort(port):
		s := f.lane.service(destinationKey(h.Service, port))
		if x.Request.Method == h1.CONNECT {
			x.Cluster = s.own
			return f.lane.known(x)
		}
		return s.Route(x)
	}
	fail, _ := f.lane.leave(x, call{name: name, addr: addr, port: port, known: h})
	return fail
}

// Forward says that clients take this listener for their proxy.
func (f *forward) Forward() {}

// Unrouted counts a request that led nowhere.
func (f *forward) Unrouted(fail *l7http.Failure) { f.lane.unrouted(meter.Outbound, fail) }

// Local says that the clients are the program beside the proxy.
func (f *forward) Local() {}
