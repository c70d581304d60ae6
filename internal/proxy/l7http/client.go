package l7http

import (
	"io"
	"time"

	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/wire/h1"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// ALPN is the application protocol between two proxies: HTTP/1.1 exchanges.
const ALPN = "tulle-h1"

// clientConn is an HTTP/1.1 connection to an endpoint. It carries one exchange
// at a time and rests in the endpoint's pool between them.
type clientConn struct {
	worker   *Worker
	cluster  *dial.Cluster
	endpoint *balance.Endpoint
	attempt  *dial.Attempt // until it is ready
	conn     loop.Conn
	timer    loop.Timer // while it rests: how long it may
	x        *Exchange  // nil while it rests
	resp     h1.Response
	body     h1.Body
	relay    loop.Relay // of the response's body
	upgrade  []byte     // what the request offered to upgrade to
	method   h1.Method

	ready    bool // established, TLS included
	headRead bool // the final head of the response
	sent     bool // the request, all of it
	chunked  bool // how its body is sent
	way      way  // of the response's body
	atRest   time.Duration
	before   uint64        // bytes sent before this exchange
	keep     time.Duration // how long it may rest
	left     int           // of a discarded response, how much more may come
	until    time.Duration // when the endpoint's certificate ends; 0 is never
	made     time.Duration // when it was begun, and then when it was ready
}

func newClientConn(w *Worker, e *balance.Endpoint) *clientConn {
	c := &clientConn{worker: w, endpoint: e}
	c.timer.Init(w.Loop, c)
	return c
}

// connect makes the connection for an exchange.
func (c *clientConn) connect(x *Exchange) {
	c.x = x
	x.up = c
	c.cluster, c.made = x.Cluster, c.worker.Loop.Now()
	c.keep = c.worker.poolIdle(x.Cluster)
	c.attempt = c.worker.Dialer.Dial(&c.conn, x.Cluster, c.endpoint, ALPN, c, c)
}

// lineTick is how often who waits for its turn to make a connection looks whether
// there is another way.
const lineTick = 20 * time.Millisecond

// Waits says how long the exchange waits for its turn to make a connection.
func (c *clientConn) Waits(now time.Duration) (again time.Duration, rival, ok bool) {
	end := c.made + c.cluster.PendingTime()
	return min(end, now+5*lineTick), true, c.x != nil && now < end
}

// Takes reports whether another connection, which has been used, does as well.
func (c *clientConn) Takes() bool { return !c.x.fresh }

// TakeOver goes on with one.
func (c *clientConn) TakeOver(p dial.Pooled) {
	x, other := c.x, p.(*clientConn)
	c.x = nil
	x.reused = true
	other.attach(x)
	x.Connected(nil)
}

func (c *clientConn) inLine() bool { return c.attempt.InLine() }

// Connected is called when the connection is there, or can't be had.
func (c *clientConn) Connected(err error) {
	if c.x == nil { // given up meanwhile
		c.conn.Close()
		return
	}
	if err != nil {
		x := c.x
		c.x, x.up = nil, nil
		x.Connected(err)
		return
	}
	c.ready, c.made = true, c.worker.Loop.Now()
	c.until = c.worker.expiry(&c.conn)
	c.x.Connected(nil)
}

// attach takes the connection out of its rest for an exchange.
func (c *clientConn) attach(x *Exchange) {
	c.x = x
	x.up = c
	c.timer.Clear()
}

// Send sends the request's head.
func (c *clientConn) Send(x *Exchange) {
	r := &x.Request
	c.method = r.Method
	c.upgrade = append(c.upgrade[:0], r.Upgrade...)
	c.before = c.conn.Sent - uint64(c.conn.Pending())
	c.headRead, c.way = false, copied
	c.resp.Reset()
	c.chunked = r.Framing == h1.Chunked
	c.sent = r.Framing == h1.NoBody || r.Framing == h1.Length && r.Length == 0 || r.Framing == h1.Tunnel
	options := h1.RequestOptions{Via: c.worker.Via, Upgrade: true}
	if len(r.Authority) == 0 {
		// An HTTP/1.0 client may leave Host out; HTTP/1.1 must have one.
		options.Authority = c.endpoint.Address.AppendTo(nil)
	}
	c.conn.Wrote(h1.AppendRequest(c.conn.Append(headRoom), r, &options))
}

// Room reports whether the endpoint takes more of the request.
func (c *clientConn) Room() bool {
	return c.ready && c.conn.Open() && c.conn.Room() > 0
}

// Body sends some of the request's body.
func (c *clientConn) Body(p []byte) {
	if !c.chunked {
		if _, framed := c.x.down.(*h2Stream); framed {
			c.conn.Collect(p)
			return
		}
		c.conn.Write(p)
		return
	}
	c.conn.Wrote(h1.AppendChunkHeader(c.conn.Append(chunkRoom), len(p)))
	c.conn.Write(p)
	c.conn.Wrote(append(c.conn.Append(chunkRoom), h1.ChunkEnd...))
}

// End ends the request.
func (c *clientConn) End(trailers []h1.Field) {
	if c.chunked {
		c.conn.Wrote(h1.AppendLastChunk(c.conn.Append(headRoom), trailers))
	}
	c.sent = true
}

// Cancel gives the exchange up: what is under way on the connection makes it
// useless for others.
func (c *clientConn) Cancel() {
	c.attempt.Stop()
	c.x = nil
	c.Retire()
}

// Ready is called by the loop: there may be something to do.
func (c *clientConn) Ready() {
	if c.x == nil {
		if c.left > 0 {
			c.drain()
			return
		}
		if c.conn.Stale() { // a server says nothing unasked
			dial.PoolOf(c.endpoint).Closed(c, c.worker.Loop.Now()-c.atRest)
			c.Retire()
		}
		return
	}
	c.read()
	if x := c.x; x != nil && !c.sent {
		x.down.Pull()
	}
}

// Pull says that the client takes more of the answer.
func (c *clientConn) Pull() { c.read() }

// read moves the answer on.
func (c *clientConn) read() {
	for c.x != nil && c.step() {
	}
}

func (c *clientConn) step() bool {
	in := c.conn.In()
	if !c.headRead {
		asked := h1.Asked{Method: c.method, Upgrade: c.upgrade}
		n, e := c.resp.Parse(in.Bytes(), asked, &c.worker.Limits.Head)
		switch {
		case e != nil:
			c.malformed(e)
			return false
		case n == 0:
			return c.fill(c.worker.Limits.Head.MaxHead + 1)
		}
		in.Consume(n)
		return c.head()
	}
	if !c.x.down.Room() {
		return false
	}
	if more, ok := c.splice(); ok {
		return more
	}
	data, n, done, e := c.body.Next(in.Bytes())
	if e != nil {
		c.malformed(e)
		return false
	}
	in.Consume(n)
	if len(data) > 0 {
		c.x.returned += uint64(len(data))
		c.x.down.Body(data)
	}
	switch {
	case done:
		c.done()
		return false
	case n > 0:
		return true
	}
	return c.fill(bodyRead)
}

// bodyRead is how much of a body is read at once: what fits into as many DATA
// frames of HTTP/2 as records of TLS.
const bodyRead = loop.LargeBuffer - 4*wire.HeaderLen

// head takes a complete head of the response.
func (c *clientConn) head() bool {
	x := c.x
	final, ok := x.response(&c.resp)
	x = c.x // the response may be another exchange's
	switch {
	case !ok:
		c.discard()
		return false
	case !final:
		c.resp.Reset()
		return true
	case c.resp.Framing == h1.Tunnel:
		c.x, x.up = nil, nil
		x.tunnel(&c.conn)
		return false
	}
	c.headRead = true
	c.body.InitResponse(&c.resp, &c.worker.Limits.Head)
	return true
}

const (
	// maxDiscard and discardTime bound what is read of a response that nobody
	// wants, so that its connection may carry another exchange.
	maxDiscard  = 64 << 10
	discardTime = time.Second
)

// discard gives up the rest of a response that nobody wants.
func (c *clientConn) discard() {
	c.x = nil
	if c.resp.Status < 200 || !c.sent || !c.resp.KeepAlive {
		c.Retire()
		return
	}
	c.body.InitResponse(&c.resp, &c.worker.Limits.Head)
	c.left = maxDiscard
	c.timer.Set(discardTime)
	c.drain()
}

// drain throws away what has come of it.
func (c *clientConn) drain() {
	for in := c.conn.In(); ; {
		_, n, done, e := c.body.Next(in.Bytes())
		in.Consume(n)
		c.left -= n
		switch {
		case done && c.reusable():
			c.left = 0
			c.rest()
			c.conn.Rest()
			c.rested()
			return
		case done || e != nil || c.left <= 0:
			c.Retire()
			return
		case n > 0:
			continue
		}
		switch _, err := c.conn.Fill(loop.LargeBuffer); err {
		case nil:
		case poll.ErrAgain:
			return
		default:
			c.Retire()
			return
		}
	}
}

// reusable reports whether the connection may carry another exchange after a
// complete response.
func (c *clientConn) reusable() bool {
	return c.resp.KeepAlive && c.sent && c.conn.In().Len() == 0 && !c.conn.Ended() &&
		c.conn.SendErr() == nil && c.conn.Pending() == 0 && !c.endpoint.Gone
}

// rest puts the connection into the pool.
func (c *clientConn) rest() {
	c.atRest = c.worker.Loop.Now()
	p := dial.PoolOf(c.endpoint)
	c.timer.Set(p.Keep(c.keep))
	p.Put(c)
}

// fill reads more of the response, or reports that there is nothing now.
func (c *clientConn) fill(limit int) bool {
	_, err := c.conn.Fill(limit)
	switch err {
	case nil:
		return true
	case poll.ErrAgain:
		return false
	case loop.ErrFull:
		c.malformed(&h1.Error{Status: 502, Reason: "head_too_large", Text: "The response's head is too long."})
		return false
	}
	c.broke(err)
	return false
}

// broke is called at the end of the connection, good or bad.
func (c *clientConn) broke(err error) {
	if err == io.EOF && c.headRead && c.body.EOF() == nil {
		c.done()
		return
	}
	x := c.x
	nothing := c.conn.Sent-uint64(c.conn.Pending()) == c.before
	begun := c.headRead || c.resp.Started()
	c.drop()
	if begun {
		x.upFailed(lost)
	} else {
		x.upLost(!nothing, err)
	}
}

// malformed ends an exchange whose response is not HTTP.
func (c *clientConn) malformed(e *h1.Error) {
	x := c.x
	c.drop()
	x.upFailed(fromResponse(e))
}

// drop leaves the exchange with a connection that is of no use any more.
func (c *clientConn) drop() {
	c.x.up = nil
	c.x = nil
	c.Retire()
}

// done ends the exchange; the connection rests, if it may carry another.
func (c *clientConn) done() {
	x := c.x
	c.x, x.up = nil, nil
	reuse := c.reusable()
	if reuse {
		c.rest()
	}
	x.responseEnd(c.body.Trailers) // slices of the read buffer
	switch {
	case !reuse:
		c.Retire()
	case c.x == nil:
		c.conn.Rest()
		c.rested()
	}
}

// rested hands the connection, which is in the pool, to others that wait for one.
func (c *clientConn) rested() {
	c.cluster.Rested(c.endpoint, c, c.made, c.worker.Loop.Now())
}

// Rested is how long the connection has rested; false when it is of no use.
func (c *clientConn) Rested() (time.Duration, bool) {
	now := c.worker.Loop.Now()
	return now - c.atRest, !c.conn.Stale() && (c.until == 0 || now < c.until)
}

// poolIdle is how long a connection to the cluster's endpoints may rest.
func (w *Worker) poolIdle(c *dial.Cluster) time.Duration {
	if d := c.Policy().PoolIdle; d > 0 {
		return d
	}
	return w.Limits.PoolIdle
}

// Retire closes the connection.
func (c *clientConn) Retire() {
	c.timer.Stop()
	c.relay.Drop(c.worker.Loop)
	c.conn.Close()
}

// Expire closes a connection that rested for so long that the server might
// close it at any moment.
func (c *clientConn) Expire(*loop.Timer) {
	if c.left > 0 {
		c.Retire()
		return
	}
	now := c.worker.Loop.Now()
	rested := now - c.atRest
	if dial.PoolOf(c.endpoint).Over(c, rested, c.keep, now) {
		c.timer.Set(c.keep - rested)
		return
	}
	c.Retire()
}
