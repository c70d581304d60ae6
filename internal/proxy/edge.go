package proxy

import (
	"net/netip"

	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/wire/h1"
)

// edge is an Edge listener on one loop: HTTP from outside, routed by the
// listener's own table.
type edge struct {
	lane   *lane
	routes routes
}

func newEdge(n *lane, l *live.Listener) *edge {
	e := &edge{lane: n}
	e.update(l)
	return e
}

func (e *edge) update(l *live.Listener) {
	e.routes = routes{lane: e.lane, direction: meter.Edge, table: l.Routes}
}

func (e *edge) accept(fd poll.FD, peer netip.AddrPort) {
	e.lane.http.Serve(fd, peer, e)
}

// Route matches the request against the listener's table.
func (e *edge) Route(x *l7http.Exchange) *l7http.Failure {
	if x.Request.Method == h1.CONNECT {
		return l7http.NotAProxy
	}
	e.lane.current()
	return e.routes.route(x, nil)
}

// Unrouted counts a request that led nowhere.
func (e *edge) Unrouted(f *l7http.Failure) { e.lane.unrouted(meter.Edge, f) }

func (n *lane) unrouted(d meter.Direction, f *l7http.Failure) {
	if f.Malformed {
		n.shard.Malformed(d, f.Error)
		return
	}
	n.shard.Error(d, "", f.Error)
}
