package proxy

import (
	"crypto/tls"
	"net/netip"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/guard"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/mtls"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/sniff"
)

// incoming is an accepted connection on its way through the layers, until a
// protocol takes it over. HTTP takes the socket and what was found out; opaque
// TCP goes on with it to the end.
type incoming struct {
	lane  *lane
	conn  loop.Conn
	about about
	tcp   bool // it is opaque, and carried
	// Of one that is opaque: whose it is, where that matters, and what carries it.
	caller     *guard.Caller
	carried    *l4.Early
	serverName string // that the client's own TLS asks for
	leaves     *call  // where it goes outside the mesh
	forbidden  bool   // by rules that came while it waited
	refusedBy  string // the access rule that refused it, or came nearest to allowing it
	recording
}

// about is what was found out about a connection.
type about struct {
	direction meter.Direction
	listener  string
	service   string // the destination's key; empty outside the mesh
	peer      string // the SPIFFE id that the client proved
	how       sniff.How
}

// Describe tells l7http about the connection, for people.
func (a *about) Describe() l7http.About {
	return l7http.About{Direction: a.direction.String(), Listener: a.listener, Service: a.service, Identity: a.peer, Decided: a.how.String()}
}

// receive makes an accepted socket a connection that goes through layers.
func (n *lane) receive(d meter.Direction, l *live.Listener, service string, fd poll.FD, peer netip.AddrPort) *incoming {
	c := &incoming{lane: n, about: about{direction: d, listener: l.Name, service: service}}
	c.began = n.loop.Now()
	c.conn.Init(n.loop, fd, peer, c)
	n.incoming[c] = struct{}{}
	return c
}

// Ready waits: a layer takes the connection's events when it is at it.
func (c *incoming) Ready() {}

// secure does the handshake as a server, and goes on when it is done.
func (c *incoming) secure(config *tls.Config, then func(*mtls.Session)) {
	c.conn.Received -= uint64(c.conn.In().Len()) // the handshake's, not the stream's
	c.lane.handshakes.Server(&c.conn, config, func(s *mtls.Session, err error) {
		if err != nil {
			c.distrust(err)
			c.close()
			return
		}
		c.conn.SetHandler(c)
		then(s)
	})
}

// http serves the connection's requests; router and series are as for Adopt.
func (c *incoming) http(router l7http.Router, series *meter.Traffic) {
	delete(c.lane.incoming, c)
	c.lane.http.Adopt(&c.conn, router, series)
}

// peerHTTP is http for HTTP/2 of another proxy.
func (c *incoming) peerHTTP(router l7http.Router, series *meter.Traffic) {
	delete(c.lane.incoming, c)
	c.lane.http.AdoptPeer(&c.conn, router, series)
}

// found notes by what it was decided that the connection speaks a protocol.
func (c *incoming) found(protocol string, how sniff.How) {
	c.about.how = how
	c.lane.shard.Detected(c.about.direction, c.about.service, protocol, how.String())
}

// opaque carries the connection's bytes to an endpoint of the cluster, over the
// connection that is there already, if one is.
func (c *incoming) opaque(to *dial.Cluster, early *l4.Early, o l4.Options) {
	if c.forbidden {
		if early != nil {
			early.Drop()
		}
		c.refuse(accessDenied)
		return
	}
	c.tcp = true
	if c.lane.http.EndExpired {
		c.lane.retireAt(c.lane.loop.Now() + retireLook)
	}
	o.Done, o.Failed = c.gone, c.tell
	if early != nil {
		c.carried = early
		early.Join(&c.conn, o)
		return
	}
	c.carried = l4.Begin(c.lane.dialer, to, c.conn.Peer().Addr(), o.Preface, nil)
	c.carried.Join(&c.conn, o)
}

// refuse resets a connection that makes no sense, and counts why.
func (c *incoming) refuse(reason string) {
	c.lane.shard.Error(c.about.direction, c.about.service, reason)
	c.reason = reason
	c.tell(reason)
	c.conn.Abort()
	c.gone()
}

func (c *incoming) close() {
	c.conn.Close()
	c.gone()
}

// gone makes room for another connection.
func (c *incoming) gone() {
	c.record()
	delete(c.lane.incoming, c)
	c.lane.ended()
}
