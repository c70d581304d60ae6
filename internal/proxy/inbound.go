package proxy

import (
	"crypto/tls"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/mtls"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/sniff"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h1"
)

// silence is how long a plaintext client of a port that is declared opaque may
// say nothing before it is taken to wait for the server. A proxy speaks at once.
const silence = 300 * time.Millisecond

// inbound is an Inbound listener on one loop:
//
//	accept -> TLS or plaintext? -> mutual TLS, who is it? -> HTTP or opaque? -> the program
type inbound struct {
	lane     *lane
	listener *live.Listener
	config   *tls.Config
	app      *dial.Cluster
}

func newInbound(n *lane, l *live.Listener) *inbound {
	in := &inbound{lane: n}
	in.config = n.proxy.config.Live.Credentials().ServerConfig(nil, l7http.MuxALPN, l7http.ALPN, l4.ALPN)
	in.config.DynamicRecordSizingDisabled = true // the loop gathers what belongs together
	in.update(l)
	return in
}

func (in *inbound) update(l *live.Listener) {
	if in.listener == nil || in.listener.App != l.App || in.listener.Destination != l.Destination {
		in.app = dial.NewCluster(l.Destination, meter.Inbound, in.lane.shard)
		in.app.Update(&view.Endpoints{
			Key:  l.Destination,
			List: []view.Endpoint{{Address: l.App, Workload: "the program"}},
		}, in.lane.loop.Now())
		in.app.Failed = func(string) { in.lane.proxy.config.Live.Suspect() }
	}
	in.app.Protocol = l.Protocol
	in.listener = l
}

func (in *inbound) accept(fd poll.FD, peer netip.AddrPort) {
	c := in.lane.receive(fd, peer)
	limit := detectTimeout
	if in.listener.Plaintext && in.listener.Protocol == view.TCP {
		limit = silence
	}
	c.detect(limit, func(k sniff.Kind) {
		switch {
		case k == sniff.TLS:
			c.secure(in.config, meter.Inbound, in.listener.Destination, func(s *mtls.Session) { in.authenticated(c, s) })
		case !in.listener.Plaintext:
			c.refuse(meter.Inbound, in.listener.Destination, "plaintext_refused")
		default:
			in.plaintext(c, k)
		}
	})
}

// authenticated goes on with a connection from another proxy: it has said what
// it carries.
func (in *inbound) authenticated(c *incoming, s *mtls.Session) {
	state := s.State()
	id := identity.Peer(state)
	series := in.series(id.ServiceAccount+"."+id.Namespace, meter.Mutual)
	switch state.NegotiatedProtocol {
	case l7http.ALPN:
		c.http(&inboundRouter{in, series}, series)
	case l7http.MuxALPN:
		c.lane.http.AdoptPeer(&c.conn, &inboundRouter{in, series}, series)
	case l4.ALPN:
		c.tcp(in.app, series)
	default:
		c.refuse(meter.Inbound, in.listener.Destination, "alpn_missing")
	}
}

// plaintext goes on with a connection from outside the mesh.
func (in *inbound) plaintext(c *incoming, k sniff.Kind) {
	series := in.series("", meter.None)
	switch {
	case in.listener.Protocol == view.HTTP, in.listener.Protocol == view.HTTP2,
		in.listener.Protocol == view.Detect && (k == sniff.HTTP1 || k == sniff.HTTP2):
		c.http(&inboundRouter{in, series}, series)
	default:
		c.tcp(in.app, series)
	}
}

func (in *inbound) series(peer string, t meter.TLS) *meter.Traffic {
	return in.lane.shard.Traffic(meter.Labels{
		Direction: meter.Inbound, Service: in.listener.Destination, Peer: peer, TLS: t,
	})
}

// inboundRouter sends the requests of one connection to the program, and counts
// them for the peer they came from.
type inboundRouter struct {
	*inbound
	series *meter.Traffic
}

// Route sends everything to the program.
func (r *inboundRouter) Route(x *l7http.Exchange) *l7http.Failure {
	if x.Request.Method == h1.CONNECT {
		return l7http.NotAProxy
	}
	x.Cluster, x.Series = r.app, r.series
	return nil
}

// Unrouted counts a request that led nowhere.
func (r *inboundRouter) Unrouted(f *l7http.Failure) { r.lane.unrouted(meter.Inbound, f) }
