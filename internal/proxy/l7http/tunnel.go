package l7http

import (
	"time"

	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/wire/h1"
)

// tunnelConn is what answers a CONNECT: a connection that will carry bytes
// (RFC 9110, 9.3.6).
type tunnelConn struct {
	worker   *Worker
	endpoint *balance.Endpoint
	conn     loop.Conn
	attempt  *dial.Attempt
	x        *Exchange
	until    time.Duration // how long it waits for its turn
}

func newTunnelConn(w *Worker, e *balance.Endpoint) *tunnelConn {
	return &tunnelConn{worker: w, endpoint: e}
}

func (c *tunnelConn) connect(x *Exchange) {
	c.x = x
	x.up = c
	c.until = c.worker.Loop.Now() + x.Cluster.PendingTime()
	c.attempt = c.worker.Dialer.Dial(&c.conn, x.Cluster, c.endpoint, l4.ALPN, c, c)
}

// Waits says how long the exchange waits for its turn to make a connection.
func (c *tunnelConn) Waits(now time.Duration) (again time.Duration, rival, ok bool) {
	return min(c.until, now+5*lineTick), true, c.x != nil && now < c.until
}

func (c *tunnelConn) inLine() bool { return c.attempt.InLine() }

// Connected is called when the connection is there, or can't be had.
func (c *tunnelConn) Connected(err error) {
	x := c.x
	if x == nil { // given up meanwhile
		c.conn.Close()
		return
	}
	if err != nil {
		c.x, x.up = nil, nil
		x.Connected(err)
		return
	}
	x.Connected(nil)
}

// Send answers the client, now that the connection stands, and makes both one.
func (c *tunnelConn) Send(x *Exchange) {
	c.x, x.up = nil, nil
	if _, ok := x.response(&h1.Response{Status: 200, Reason: reasonOK, Minor: 1, Framing: h1.Tunnel}); !ok {
		c.conn.Close()
		return
	}
	x.tunnel(&c.conn)
}

var reasonOK = []byte("OK")

// Ready waits for the tunnel.
func (c *tunnelConn) Ready() {}

// Room holds the client's bytes back until there is a tunnel for them.
func (c *tunnelConn) Room() bool { return false }

// Body and End are never called: CONNECT has no body.
func (c *tunnelConn) Body([]byte) {}

// End is never called.
func (c *tunnelConn) End([]h1.Field) {}

// Cancel gives the exchange up.
func (c *tunnelConn) Cancel() {
	c.attempt.Stop()
	c.x = nil
	c.conn.Close()
}

// Pull is never called: there is no response body.
func (c *tunnelConn) Pull() {}

// tunnel hands the upstream's connection over: what follows is not HTTP.
func (x *Exchange) tunnel(up *loop.Conn) {
	x.leave(balance.Good)
	x.count(x.status)
	x.down.Tunnel(up)
}
