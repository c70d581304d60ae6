package proxy

import (
	"crypto/tls"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/mtls"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/sniff"
)

// incoming is an accepted connection on its way through the layers, until a
// protocol takes it over.
type incoming struct {
	lane *lane
	conn loop.Conn
}

// receive makes an accepted socket a connection that goes through layers.
func (n *lane) receive(fd poll.FD, peer netip.AddrPort) *incoming {
	c := &incoming{lane: n}
	c.conn.Init(n.loop, fd, peer, c)
	return c
}

// Ready waits: a layer takes the connection's events when it is at it.
func (c *incoming) Ready() {}

// detect finds out what is spoken, and goes on with it.
func (c *incoming) detect(limit time.Duration, then func(sniff.Kind)) {
	sniff.Start(&c.conn, limit, func(k sniff.Kind, err error) {
		if err != nil {
			c.close()
			return
		}
		then(k)
	})
}

// secure does the handshake as a server, and goes on when it is done.
func (c *incoming) secure(config *tls.Config, d meter.Direction, service string, then func(*mtls.Session)) {
	c.lane.handshakes.Server(&c.conn, config, func(s *mtls.Session, err error) {
		if err != nil {
			c.lane.shard.Error(d, service, "tls_handshake")
			c.lane.proxy.config.Log.Debug("handshake failed", "peer", c.conn.Peer(), "error", err)
			c.close()
			return
		}
		c.conn.SetHandler(c)
		then(s)
	})
}

// http serves the connection's requests; router and series are as for Adopt.
func (c *incoming) http(router l7http.Router, series *meter.Traffic) {
	c.lane.http.Adopt(&c.conn, router, series)
}

// tcp carries the connection's bytes to an endpoint of the cluster.
func (c *incoming) tcp(to *dial.Cluster, series *meter.Traffic) {
	l4.Open(&c.conn, c.lane.dialer, to, l4.Options{
		Series: series,
		Done:   c.lane.proxy.limit.Give,
	})
}

// refuse resets a connection that makes no sense, and counts why.
func (c *incoming) refuse(d meter.Direction, service, reason string) {
	c.lane.shard.Error(d, service, reason)
	c.conn.Abort()
	c.lane.proxy.limit.Give()
}

func (c *incoming) close() {
	c.conn.Close()
	c.lane.proxy.limit.Give()
}
