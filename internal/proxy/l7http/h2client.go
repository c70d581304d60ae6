package l7http

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/wire/h1"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// MuxALPN is the application protocol between two proxies that multiplex HTTP
// exchanges over HTTP/2.
const MuxALPN = "tulle-h2"

const (
	// maxMuxConns bounds the HTTP/2 connections of one loop to one endpoint:
	// a second one is made when the first has no room for another stream.
	maxMuxConns = 16
	// maxMuxWaiting bounds the exchanges that wait for one of them.
	maxMuxWaiting = 1024
)

var errMuxBusy = errors.New("too many requests wait for the endpoint")

// mux is one loop's HTTP/2 connections to one endpoint.
type mux struct {
	worker   *Worker
	cluster  *dial.Cluster
	endpoint *balance.Endpoint
	conns    []*h2Client
	// alone is until when the endpoint, another proxy, is known not to multiplex.
	alone time.Duration
}

// aloneFor is how long a proxy that doesn't speak MuxALPN, as old ones don't, is
// spoken to in ALPN before it is asked again.
const aloneFor = 10 * time.Minute

// multiplexes reports whether it is worth asking.
func (m *mux) multiplexes() bool {
	return m.alone == 0 || m.alone <= m.worker.Loop.Now()
}

// muxOf returns the endpoint's mux.
func (w *Worker) muxOf(cluster *dial.Cluster, e *balance.Endpoint) *mux {
	p := dial.PoolOf(e)
	if m, ok := p.Shared.(*mux); ok {
		return m
	}
	m := &mux{worker: w, cluster: cluster, endpoint: e}
	p.Shared = m
	return m
}

// Retire lets the connections end once what is under way on them has.
func (m *mux) Retire() {
	for _, c := range m.conns {
		if c.ready { // else Connected sees that the endpoint is gone
			c.now().Drain()
			c.schedule()
		}
	}
	m.conns = nil
}

// RetireIdle ends a connection that carries nothing, so that another endpoint may
// have one; false when there is none.
func (m *mux) RetireIdle() bool {
	for _, c := range m.conns {
		if c.ready && c.engine.Streams() == 0 && len(c.waiting) == 0 {
			m.remove(c)
			c.now().Drain()
			c.schedule()
			return true
		}
	}
	return false
}

// join finds a connection for an exchange.
func (m *mux) join(x *Exchange) {
	call := m.worker.getH2Call()
	call.x, x.up = x, call
	x.reused = false
	m.retireSpent()
	var c *h2Client
	for _, c = range m.conns {
		if c.opens() {
			if !c.knows(x) {
				break // and waits for it
			}
			x.reused = true
			call.client = c
			x.Connected(nil)
			return
		}
		c = nil
	}
	var err error
	if c == nil {
		c, err = m.waitable()
	}
	if err != nil {
		call.x, x.up = nil, nil
		m.worker.putH2Call(call)
		x.Connected(err)
		return
	}
	var ok bool
	if x.waiting, ok = x.Cluster.Wait(); !ok {
		call.x, x.up = nil, nil
		m.worker.putH2Call(call)
		x.Fail(overLimit)
		return
	}
	call.client, call.since = c, m.worker.Loop.Now()
	c.waiting = append(c.waiting, call)
}

// retireSpent lets connections go that have used up their stream identifiers, or
// whose endpoint's certificate is over.
func (m *mux) retireSpent() {
	for i := 0; i < len(m.conns); i++ {
		if c := m.conns[i]; c.ready && (!c.now().Usable() || c.until != 0 && c.until <= m.worker.Loop.Now()) {
			c.now().Drain()
			c.schedule()
			m.remove(c)
			c.failWaiting(errGoingAway)
			i--
		}
	}
}

func (m *mux) remove(c *h2Client) {
	for i, other := range m.conns {
		if other == c {
			m.conns = append(m.conns[:i], m.conns[i+1:]...)
			return
		}
	}
}

// h2Client is an HTTP/2 connection to an endpoint: the upstream of its streams'
// exchanges.
type h2Client struct {
	h2Conn
	mux     *mux
	ready   bool
	until   time.Duration // when the endpoint's certificate ends; 0 is never
	waiting []*h2Call
	attempt *dial.Attempt // until it is ready

	made     time.Duration // when it was ready
	yieldEnd time.Duration // until when it takes no more, so that others get it
	yieldAt  time.Duration // when that may be asked again
}

func (c *h2Client) connect() {
	c.attempt = c.worker.Dialer.Dial(&c.conn, c.mux.cluster, c.mux.endpoint, MuxALPN, c, c)
}

// peer says whether the endpoint is another proxy of the mesh.
func (c *h2Client) peer() bool { return c.mux.endpoint.Identity != "" }

// Connected is called when the connection is there, or can't be had.
func (c *h2Client) Connected(err error) {
	if err != nil {
		c.done = true
		c.mux.remove(c)
		if c.peer() && dial.Unspoken(err) {
			c.mux.alone = c.worker.Loop.Now() + aloneFor
			err = &dial.TLSError{Err: dial.ErrProtocol}
		}
		c.failWaiting(err)
		return
	}
	config := &c.worker.http2().up
	if c.peer() {
		config = &c.worker.http2().peer
	}
	c.start(config)
	c.ready, c.until, c.made = true, c.worker.expiry(&c.conn), c.worker.Loop.Now()
	if c.mux.endpoint.Gone {
		c.now().Drain()
	}
	c.serveWaiting()
}

// serveWaiting starts exchanges that waited, as many as there is room for.
func (c *h2Client) serveWaiting() {
	for c.now().CanOpen() {
		i := slices.IndexFunc(c.waiting, func(call *h2Call) bool { return c.knows(call.x) })
		if i < 0 {
			break
		}
		call := c.waiting[i]
		if i == 0 {
			c.waiting = c.waiting[1:]
		} else {
			c.waiting = slices.Delete(c.waiting, i, i+1)
		}
		call.x.Connected(nil)
	}
	if len(c.waiting) > 0 && !c.now().Usable() {
		c.failWaiting(errGoingAway)
	}
	c.mux.spread()
}

var errGoingAway = errors.New("the endpoint closes the connection")

// failWaiting ends the wait of all exchanges. What becomes of one may end the wait
// of others, such as its copies: they are looked up anew each time.
func (c *h2Client) failWaiting(err error) {
	for n := len(c.waiting); n > 0 && len(c.waiting) > 0; n-- {
		call := c.waiting[0]
		c.waiting = c.waiting[1:]
		x := call.x
		call.x, x.up = nil, nil
		c.worker.putH2Call(call)
		if c.ready { // it was there, and is gone: another attempt may do
			x.upRefused()
			continue
		}
		x.Connected(err)
	}
}

// closed is called when the connection is over.
func (c *h2Client) closed(err error) {
	var broken wire.ConnectionError
	if errors.As(err, &broken) && broken.Code != wire.NoError {
		c.mux.cluster.Fail(badResponse.Error)
	}
	c.mux.remove(c)
	c.failWaiting(errGoingAway)
	c.conn.Linger()
}

// event acts on what the engine tells.
func (c *h2Client) event(ev h2.Event) {
	switch ev.Kind {
	case h2.Capacity:
		c.serveWaiting()
		return
	case h2.Draining:
		c.mux.remove(c)
		c.failWaiting(errGoingAway)
		return
	}
	if ev.Stream == nil {
		return
	}
	call, ok := ev.Stream.Owner.(*h2Call)
	if !ok {
		c.toPipe(ev)
		return
	}
	switch ev.Kind {
	case h2.Response:
		call.head(ev.Head, ev.End)
	case h2.Body:
		call.data(ev.Data, ev.End)
	case h2.Trailers:
		call.trailing(ev.Head)
	case h2.Reset:
		call.lost(ev.Code, ev.Fault)
	case h2.Writable:
		if call.x != nil {
			call.x.down.Pull()
		}
	}
}

// h2Call is one request on an HTTP/2 connection to an endpoint: the Upstream of
// its exchange.
type h2Call struct {
	x        *Exchange
	client   *h2Client
	stream   *h2.Stream
	resp     h1.Response
	method   h1.Method
	body     []byte // of the response, what the client hasn't taken
	gone     int
	tail     *h2.Head
	trailers []h1.Field
	names    []byte // field names in the case they had
	headRead bool
	complete bool          // all of the response has come
	unended  bool          // an offer to upgrade keeps the request open
	extended bool          // it was sent as extended CONNECT
	since    time.Duration // when it began to wait
	accept   []byte        // the Sec-WebSocket-Accept that answers then
	upgrade  []byte        // and what was offered
	bytes    uint64
}

func (w *Worker) getH2Call() *h2Call {
	if c := w.h2calls.Get(); c != nil {
		return c
	}
	return &h2Call{}
}

func (w *Worker) putH2Call(c *h2Call) {
	c.resp.Reset()
	body, trailers, names := c.body[:0], c.trailers[:0], c.names[:0]
	if cap(body) > maxKept {
		body = nil
	}
	*c = h2Call{resp: c.resp, body: body, trailers: trailers, names: names, accept: c.accept[:0], upgrade: c.upgrade[:0]}
	w.h2calls.Put(c, maxStreams)
}

// release gives the stream back; the exchange is no longer the call's.
func (c *h2Call) release() {
	cl := c.client
	if c.stream != nil {
		cl.now().Done(c.stream)
	}
	if cl.yieldEnd != 0 {
		cl.worker.Loop.Later(cl.yielded)
	}
	cl.worker.env.PutHead(c.tail)
	cl.schedule()
	cl.worker.putH2Call(c)
}

// Send sends the request's head.
func (c *h2Call) Send(x *Exchange) {
	cl, r := c.client, &x.Request
	e := cl.now()
	c.method = r.Method
	scheme := schemeHTTP
	if cl.mux.cluster.Foreign != nil {
		scheme = schemeHTTPS
	}
	authority := r.Authority
	if len(authority) == 0 && !cl.peer() {
		// An HTTP/1.0 client may leave Host out; a request over HTTP/2 must say.
		authority = cl.mux.endpoint.Address.AppendTo(nil)
	}
	if cl.connects(r) && e.PeerConnect() {
		c.extended = true
		c.stream = e.Open(methodCONNECT, scheme, authority, r.Path, r.Upgrade)
	} else {
		c.stream = e.Open(r.MethodName, scheme, authority, r.Path, nil)
	}
	c.stream.Owner = c
	c.unended = c.extended
	if cl.peer() {
		c.toPeer(x)
	}
	if c.extended {
		c.fieldsToConnect(r)
	} else {
		fieldsTo(e, r.Fields)
	}
	w := cl.worker
	if r.Framing == h1.Length {
		w.lengthTo(e, r.Length)
	}
	if x.timeLeft != nil {
		e.Field(nameTimeout, x.timeLeft, false)
	}
	if r.TETrailers {
		e.Field(nameTE, valueTrailers, false)
	}
	if r.MaxForwards > 0 {
		w.scratch = appendInt(w.scratch[:0], int64(r.MaxForwards-1))
		e.Field(nameMaxForwards, w.scratch, false)
	}
	w.viaTo(e, r.Two, r.Minor)
	end := (r.Framing == h1.NoBody || r.Framing == h1.Length && r.Length == 0) && !c.unended
	e.EndHead(c.stream, end)
	cl.schedule()
}

var (
	methodCONNECT   = []byte("CONNECT")
	schemeHTTP      = []byte("http")
	nameMaxForwards = []byte("max-forwards")
)

// connects says whether a request becomes extended CONNECT, should the endpoint
// take that: the offer is of one protocol (RFC 8441, 4).
func (c *h2Client) connects(r *h1.Request) bool {
	return len(r.Upgrade) > 0 && !c.peer() && !bytes.ContainsAny(r.Upgrade, ", \t/")
}

// knows says whether it is known how the request is to be sent: that extended
// CONNECT is taken the endpoint says with its SETTINGS (RFC 8441, 3).
func (c *h2Client) knows(x *Exchange) bool { return !c.connects(&x.Request) || c.engine.Greeted() }

// Room reports whether the endpoint takes more of the request.
func (c *h2Call) Room() bool { return c.stream != nil && c.client.now().Room(c.stream) > 0 }

// Body sends some of the request's body.
func (c *h2Call) Body(p []byte) {
	c.bytes += uint64(len(p))
	c.client.now().Write(c.stream, p, false)
	c.client.schedule()
}

// End ends the request.
func (c *h2Call) End(trailers []h1.Field) {
	e := c.client.now()
	if len(trailers) > 0 {
		e.BeginTrailers(c.stream)
		for i := range trailers {
			e.Field(trailers[i].Name, trailers[i].Value, trailers[i].Never)
		}
		e.EndHead(c.stream, true)
	} else {
		e.Write(c.stream, nil, true)
	}
	c.client.schedule()
}

// Cancel gives the exchange up.
func (c *h2Call) Cancel() {
	if c.stream == nil {
		for i, other := range c.client.waiting {
			if other == c {
				c.client.waiting = append(c.client.waiting[:i], c.client.waiting[i+1:]...)
				break
			}
		}
	}
	c.x = nil
	c.release()
}

// Pull says that the client takes more of the answer.
func (c *h2Call) Pull() { c.push() }

// head takes a head of the response.
func (c *h2Call) head(h *h2.Head, end bool) {
	x, env := c.x, &c.client.worker.env
	r := &c.resp
	r.Reset()
	http2Response(r, h, end, c.method)
	if c.client.peer() {
		c.fromPeer(h)
	}
	if !r.Interim() {
		c.headRead, c.complete = true, end
	}
	if c.extended && !r.Interim() && h.Status < 300 {
		c.acceptConnect()
	}
	if r.Framing == h1.Tunnel {
		c.tunnel(h)
		return
	}
	if c.unended && !r.Interim() {
		// The offer to upgrade was not taken: the request is what it seemed.
		c.unended = false
		c.client.now().Write(c.stream, nil, true)
		c.client.schedule()
	}
	final, ok := x.response(r)
	env.PutHead(h)
	switch {
	case !ok:
		c.x = nil
		c.release()
	case final:
		c.push()
	}
}

// data takes some of the response's body.
func (c *h2Call) data(p []byte, end bool) {
	c.complete = c.complete || end
	c.bytes += uint64(len(p))
	if c.gone == len(c.body) && c.x.down.Room() {
		if len(p) > 0 {
			c.x.returned += uint64(len(p))
			c.x.down.Body(p)
			c.client.now().Consumed(c.stream, len(p))
		}
	} else {
		c.body = append(c.body, p...)
	}
	c.push()
}

// trailing takes the response's trailers.
func (c *h2Call) trailing(h *h2.Head) {
	c.tail, c.complete = h, true
	c.trailers = http2Trailers(c.trailers[:0], h)
	c.push()
}

// push moves the response's body on.
func (c *h2Call) push() {
	if c.x == nil || !c.headRead {
		return
	}
	if n := len(c.body) - c.gone; n > 0 {
		if !c.x.down.Room() {
			return
		}
		c.x.returned += uint64(n)
		c.x.down.Body(c.body[c.gone:])
		c.client.now().Consumed(c.stream, n)
		c.body, c.gone = c.body[:0], 0
		c.client.schedule()
	}
	if c.complete {
		x := c.x
		c.x, x.up = nil, nil
		x.responseEnd(c.trailers)
		c.release()
	}
}

// lost is called when the stream was reset. Of an answer that is complete only the
// rest of the request is refused with that (RFC 9113, 8.1): what the client hasn't
// taken yet still goes to it. fault says that it was us, because the answer isn't
// HTTP/2.
func (c *h2Call) lost(code wire.Code, fault bool) {
	if c.complete && c.headRead {
		return
	}
	x := c.x
	err := c.client.now().Err()
	whole := err == nil // the connection is
	begun := c.headRead
	c.x, x.up = nil, nil
	c.release()
	switch {
	case fault && !begun:
		x.upFailed(badResponse)
	case begun:
		if !whole || !x.upReset(code) {
			x.upFailed(lost)
		}
	case code == wire.RefusedStream && x.interims == 0:
		x.upRefused()
	case whole:
		x.upBroken(code)
	default:
		x.upLost(true, err)
	}
}

func (c *h2Call) moved() uint64 { return c.bytes }
