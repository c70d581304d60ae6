package l7http

import (
	"errors"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/h1"
)

// Router says where a request goes.
type Router interface {
	// Route sets x.Cluster, and what else it knows. It returns nil, or how to
	// answer instead, or Later when somebody will call x.Resume's function.
	Route(x *Exchange) *Failure
	// Unrouted counts a failure of a request that has no cluster.
	Unrouted(*Failure)
}

// ForwardRouter is the Router of clients that know they talk to a proxy.
type ForwardRouter interface {
	Router
	// Forward does nothing; it tells the two apart.
	Forward()
}

// Downstream is the side of an exchange that asked.
type Downstream interface {
	// Interim and Response send a head on; its slices are good for this call.
	Interim(*h1.Response)
	Response(*h1.Response)
	// Room reports whether Body may be called; if not, the exchange's upstream
	// is pulled when there is room.
	Room() bool
	Body([]byte)
	// End ends the response; the exchange is over and may be reused.
	End(trailers []h1.Field)
	// Reply answers in the endpoint's place and ends the exchange.
	Reply(*Failure)
	// Cut ends a response that can't be completed so that the client can tell.
	Cut()
	// Pull says that the upstream takes request body.
	Pull()
	// Rewind brings the whole request back so that it can be sent once more. It
	// reports false when some of it is gone.
	Rewind() bool
	// Whole reports whether all of the request has come and is kept, and Replay
	// sends its body, and its end, to one more upstream.
	Whole() bool
	Replay(Upstream)
	// Tunnel gives up the connection to carry bytes both ways, after a response
	// said so.
	Tunnel(up *loop.Conn)
	// watchStall (re)starts the time in which something must move.
	watchStall()
}

// Upstream is the side of an exchange that answers.
type Upstream interface {
	// Send sends the exchange's request head.
	Send(*Exchange)
	// Room reports whether Body may be called; if not, the exchange's
	// downstream is pulled when there is room.
	Room() bool
	Body([]byte)
	End(trailers []h1.Field)
	// Cancel gives the exchange up.
	Cancel()
	// Pull says that the downstream takes response body.
	Pull()
}

// Exchange is one request and its responses.
type Exchange struct {
	// Request is the request's head. Its slices are good while the request may be
	// sent again.
	Request h1.Request
	// Extra are fields that are added to an answer in the endpoint's place (Fail);
	// its memory is kept.
	Extra  []h1.Field
	serial uint64 // tells exchanges apart that use the same memory
	from   []byte // the client's address, for Introduce
	memory []byte // what filters wrote for this request
	trail  *trail // what happened, should somebody ask
	exchangeState
}

// exchangeState is what belongs to one request alone: reset forgets it.
type exchangeState struct {
	// Cluster is where it goes; the Router sets it.
	Cluster *dial.Cluster
	// Series is where it is counted; the Router may set it, else it is the
	// cluster's.
	Series *meter.Traffic
	// Routed is where it is counted for its route; nil is nowhere. The Router sets it.
	Routed *meter.Route
	// Rule is the rule that matched, nil without routes, and Backend which of its
	// backends was picked; the Router sets them.
	Rule    *route.Compiled
	Backend int
	// Policy is what goes with the request; never nil; the Router sets another than
	// policy.DefaultRequest.
	Policy *policy.Request
	// Timeout bounds the whole exchange in the policy's place; 0 doesn't.
	Timeout time.Duration
	// HTTP2 says that the client speaks HTTP/2, be there other proxies between.
	HTTP2 bool
	// Vet looks at what a client says in the tunnel that its CONNECT over HTTP/1.1
	// asks for; nil lets everything pass. The Router sets it.
	Vet l4.Vet
	// Tunnelled, when not nil, is told that the exchange has become a tunnel, which
	// end cuts off; what it returns is called when that is over. The Router sets it.
	Tunnelled func(end func()) (over func())
	// Serving says that the endpoint is the program beside this proxy.
	Serving bool

	worker *Worker
	router Router
	down   Downstream
	gate   uint8 // the last gate that was passed; 0: it has no route yet
	asked  uint8

	// The try under way.
	up       Upstream
	endpoint *balance.Endpoint
	ticket   balance.Ticket // from the endpoint, until the try ends
	sent     time.Duration
	latency  time.Duration
	reused   bool // the connection has carried a request before
	done     bool // it is counted
	fresh    bool // must not be sent on a reused connection
	unsent   bool // the peer says that its program hasn't seen the request
	interims int
	returned uint64 // bytes of the response's body
	status   int    // of the response, once it has begun
	callCode int    // of a gRPC call, once it is told
	coded    bool

	// All tries.
	attempt int // the one under way in the trail, from 1; 0: it isn't noted
	tries   int
	race    *race // copies that are under way
	wanted  balance.Want
	held    eject.Hold // its part of the destination's limit of requests
	waiting eject.Hold // and of those that wait for a connection
	// What is left of the caller's time, as the next hop is told.
	timeLeft []byte
	stamped  [16]byte
	failed   dial.Tried // the endpoints that were tried in vain
	times
	filtering
	pacing
	spoiling
	limiting
	proving
	guarding
	vouching
}

const (
	// maxInterims bounds the 1xx responses to a request.
	maxInterims = 64
	// maxVias bounds how often a request may have passed this mesh's proxies.
	maxVias = 24
)

// start sends the parsed request on its way:
//
//	start -> route -> admit -> connect -> send -> response -> end
//	                             ^                   |
//	                             +---- again? -------+ lost, or not wanted
func (x *Exchange) start(w *Worker, r Router, down Downstream) {
	x.worker, x.router, x.down = w, r, down
	x.Policy = policy.DefaultRequest
	x.began = w.Loop.Now()
	x.timer.Init(w.Loop, x)
	if _, copied := down.(*mirrored); !copied {
		x.noteStart()
	}
	switch {
	case x.Request.MaxForwards == 0 && x.Request.Method == h1.TRACE:
		x.Fail(traceRefused)
	case x.Request.MaxForwards == 0 && x.Request.Method == h1.OPTIONS:
		x.Fail(options)
	case x.insecure():
		if _, proxy := r.(LocalRouter); proxy { // which must not answer 421 (RFC 9110, 15.5.20)
			x.Fail(noHTTPS)
			return
		}
		x.Fail(misdirected)
	case x.survey() > maxVias:
		x.Fail(Looped)
	default:
		x.route()
	}
}

// insecure reports whether the request is for an https URI and came in the clear
// (RFC 9110, 7.4).
func (x *Exchange) insecure() bool {
	s, ok := x.client().(*serverConn)
	return ok && x.Request.Scheme == "https" && s.conn.Layer() == nil
}

// route asks the Router where it goes.
func (x *Exchange) route() {
	switch f := x.router.Route(x); f {
	case nil:
		x.setDeadline()
		x.admit()
	case Later:
	default:
		x.Fail(f)
	}
}

// Resume returns a function that goes on with the exchange, for a Router or a
// gate that had to wait: the Router is asked again, or the next gate follows. It
// may be called from any goroutine, and when the exchange has ended meanwhile
// does nothing.
func (x *Exchange) Resume() func() {
	serial, l := x.serial, x.worker.Loop
	return func() {
		l.Post(func() {
			if x.serial == serial {
				x.proceed()
			}
		})
	}
}

// proceed goes on with an exchange that has waited.
func (x *Exchange) proceed() {
	if x.gate == 0 {
		x.route()
		return
	}
	x.admit()
}

// Once reports true the first time it is called with a bit: a Router asks for
// each thing once, and takes it for unknown when it still is afterwards.
func (x *Exchange) Once(bit uint8) bool {
	first := x.asked&bit == 0
	x.asked |= bit
	return first
}

// connect begins a try: it picks an endpoint and a connection to it.
func (x *Exchange) connect() {
	w := x.worker
	if x.tries == 0 && !x.race.copied(x) {
		x.Cluster.Budget.Request(w.Loop.Now())
	}
	e, f := x.pick()
	if f != nil {
		x.Fail(f)
		return
	}
	x.setTry()
	x.endpoint = e
	x.tries++
	x.sent = w.Loop.Now()
	x.ticket = e.Begin()
	x.noteTry(e)
	tunnel := x.Request.Method == h1.CONNECT
	switch {
	case tunnel:
		x.reused = false
		newTunnelConn(w, e).connect(x)
	case x.overHTTP2(e):
		w.muxOf(x.Cluster, e).join(x)
	case !x.pooled(e):
		x.reused = false
		if x.wait() {
			newClientConn(w, e).connect(x)
		}
	}
}

// pick chooses the try's endpoint.
func (x *Exchange) pick() (*balance.Endpoint, *Failure) {
	e := x.Cluster.Pick(x.worker.Loop, &x.failed, x.want())
	if e == nil {
		return nil, NoEndpoints
	}
	return e, nil
}

// pooled sends the request on a connection that has rested, if there is one.
func (x *Exchange) pooled(e *balance.Endpoint) bool {
	if x.fresh {
		return false
	}
	c, ok := dial.PoolOf(e).Get(x.worker.poolIdle(x.Cluster), !x.Request.Method.Idempotent()).(*clientConn)
	if ok {
		x.reused = true
		c.attach(x)
		x.Connected(nil)
	}
	return ok
}

// Connected is called when the upstream is ready for the request, or can't be had.
func (x *Exchange) Connected(err error) {
	x.waiting.Release()
	if err == nil {
		x.send()
		return
	}
	if errors.Is(err, dial.ErrProtocol) && x.tries < 3 { // it is known now what it speaks
		x.noVerdict()
		x.connect()
		return
	}
	f := fromConnect(err)
	if f == overLimit { // not the endpoint's doing
		x.Fail(f)
		return
	}
	x.unsent = true
	why := policy.Unsent | policy.ConnectFailure
	v := balance.Failed
	if f == connectTimeout {
		v = balance.TimedOut
	}
	x.failed.Add(x.endpoint)
	if (x.Serving || f != refused && f != another) && !x.Cluster.Untried(&x.failed) {
		why = 0 // the caller's proxy knows others; waiting longer helps nobody
	}
	x.again(why, v, f)
}

// send sends the request on the try's connection.
func (x *Exchange) send() {
	if x.Series == nil {
		x.Series = x.Cluster.Series(x.endpoint)
	}
	// What it took to connect says nothing of the endpoint's load.
	x.sent = x.worker.Loop.Now()
	if f := x.overdue(); f != nil { // it has waited for too long
		x.Fail(f)
		return
	}
	x.unsent = false
	x.noteSent()
	x.stamp()
	if x.up.Send(x); x.up != nil { // it may have ended the exchange
		x.down.Pull()
	}
}

// response takes a head from the upstream and reports whether it is the last.
func (x *Exchange) response(r *h1.Response) (final bool, ok bool) {
	if r.Interim() {
		if x.interims++; x.interims > maxInterims {
			x.upFailed(badResponse)
			return false, false
		}
		x.down.Interim(r)
		return false, true
	}
	if x.misunderstood(r) {
		x.upFailed(notSwitched)
		return false, false
	}
	if x = x.race.answered(x, r); x == nil {
		return true, false
	}
	x.latency = max(x.worker.Loop.Now()-x.sent, 1)
	if r.Status == 429 || r.Status == 503 || x.call {
		x.after = x.asksAfter(r.Fields)
	}
	if why := x.unwanted(r); why != 0 {
		if pause, ok := x.mayRetry(why, x.pauseAsked()); ok {
			x.noteStatus(r)
			x.noteLeft()
			v := x.verdict()
			x.status = 0
			x.leave(v)
			x.retry(pause)
			return true, false
		}
	}
	if x.answersTooLate(r) {
		return true, false
	}
	x.noteStatus(r)
	x.endless = unending(r)
	if x.endpoint != nil && x.verdict() != balance.Failed {
		x.endpoint.Answers(int64(x.worker.Loop.Now()), &x.ticket)
	}
	x.begun()
	x.answer(r)
	return true, true
}

// answer sends the response's head to the client.
func (x *Exchange) answer(r *h1.Response) {
	if x.Filters != nil || x.Picked != nil {
		r.Fields = x.completed(r.Fields)
	}
	r.Fields = x.keepSession(x.vouchedTo(r.Fields))
	x.noteAnswer(r)
	x.down.Response(r)
	x.quit(x.status < 500)
}

// responseEnd takes the end of the response: the exchange went well.
func (x *Exchange) responseEnd(trailers []h1.Field) {
	x.noteGRPC(trailers)
	if x.call && x.status == 200 && !x.coded {
		x.status = 500 // a call without an outcome has failed
	}
	trailers = x.noteEnd(trailers)
	x.leave(x.verdict())
	x.count(x.status)
	x.down.End(trailers)
}

// Fail answers the request without an upstream.
func (x *Exchange) Fail(f *Failure) {
	if x.race.copied(x) {
		x.abandon()
		x.race.lost(x, 0, f)
		return
	}
	x.abandon()
	switch {
	case f.Error == "":
	case x.Cluster != nil:
		if f != another { // that was counted when it was met
			x.Cluster.Fail(f.reason())
		}
		if x.Series == nil {
			x.Series = x.Cluster.Series(nil)
		}
	default:
		x.router.Unrouted(f)
	}
	if (x.Filters != nil || x.Picked != nil) && f != preflight {
		x.completeExtra()
	}
	x.noteFailure(f)
	x.count(f.Status)
	x.down.Reply(f)
}

// abandon gives the upstream up, if there is one, without a verdict.
func (x *Exchange) abandon() {
	x.waiting.Release()
	if up := x.up; up != nil {
		x.up = nil
		up.Cancel()
	}
	if x.endpoint != nil {
		x.noteLeft()
		x.endpoint.Cancel(x.ticket)
		x.endpoint = nil
	}
	if !x.race.copied(x) {
		x.race.cancel()
	}
}

// cancel ends the exchange because the client is gone.
func (x *Exchange) cancel(reason string) {
	x.abandon()
	x.noteGone(reason)
	if x.Cluster != nil {
		x.Cluster.Fail(reason)
	}
	x.timer.Stop()
}

// stalled is called when nothing moved for too long, or the time is over.
func (x *Exchange) stalled(requestDone bool) {
	if requestDone && !x.impatient && !x.inLine() {
		x.giveUp(balance.TimedOut)
	}
	switch {
	case x.status != 0:
		x.abandon()
		x.Cluster.Fail("http_response_timeout")
		x.noteBroken("http_response_timeout")
		x.count(x.status)
		x.down.Cut()
	case requestDone:
		x.Fail(responseTimeout)
	default:
		x.Fail(requestTimeout)
	}
}

// count records the exchange.
func (x *Exchange) count(status int) {
	x.timer.Clear()
	x.held.Release()
	if x.Cluster != nil {
		x.Cluster.Eased()
	}
	if x.done { // a slow answer, all of which had come, was cut
		return
	}
	x.done = true
	if x.Series != nil {
		x.Series.Request(status, x.worker.Loop.Now()-x.began)
	}
	if x.Routed != nil {
		x.Routed.Request(status, x.worker.Loop.Now()-x.began)
	}
	x.tell(status)
}

// reset makes the exchange ready for another request. Its memory is kept.
func (x *Exchange) reset() {
	x.quit(false)
	x.waiting.Release()
	x.held.Release()
	x.timer.Stop()
	if s, ok := x.down.(*slow); ok {
		s.stop()
	}
	x.dropCopies(mirrorIncomplete)
	x.forget()
	x.exchangeState = exchangeState{}
	x.serial++
	x.Extra = x.Extra[:0]
	if x.memory = x.memory[:0]; cap(x.memory) > maxMemory {
		x.memory = nil
	}
	x.Request.Reset()
}
