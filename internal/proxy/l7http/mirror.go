package l7http

import (
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h1"
)

const (
	// maxMirrors bounds the copies that one loop has under way. What comes over it
	// isn't copied.
	maxMirrors = 128
	// maxMirrorWaiting bounds the bytes that one loop keeps for copies of requests
	// whose content is still coming. Over it the request that began to wait first
	// isn't copied: who sends nothing more for long makes way.
	maxMirrorWaiting = 4 << 20
	// mirrorCost is what each costs beside its bytes.
	mirrorCost = 1 << 10
	// maxMirrorBody bounds the content of a request that is copied. A longer one
	// isn't copied at all: half a request would be another one.
	maxMirrorBody = 64 << 10
	// maxMirrorAnswer is how much of a copy's answer is read at most.
	maxMirrorAnswer = 1 << 20
	// mirrorTime bounds a copy's exchange.
	mirrorTime = 15 * time.Second
)

// mirrorPolicy is what goes with copies: nothing is tried again.
var mirrorPolicy = &policy.Request{Timeout: mirrorTime}

// mirror is where copies of requests go.
type mirror struct {
	cluster *dial.Cluster
	router  Router
	share   policy.Share
}

// copies are those of one request, while its content is still coming.
type copies struct {
	list []*mirrored
	body []byte // what has come of it; all of them will send it
	at   int    // how much of it the request's own endpoint has been sent

	cost       int // of maxMirrorWaiting
	prev, next *Exchange
}

// making are the requests of a loop whose content is still coming and will be copied.
type making struct {
	first, last *Exchange
	cost        int
}

// add takes one in, and makes room for it.
func (l *making) add(x *Exchange) {
	if x.copies.prev = l.last; l.last == nil {
		l.first = x
	} else {
		l.last.copies.next = x
	}
	l.last = x
}

// grow counts what an exchange of the list keeps beyond before.
func (l *making) grow(x *Exchange, n int) {
	x.copies.cost += n
	for l.cost += n; l.cost > maxMirrorWaiting; {
		l.first.dropCopies(mirrorMany)
	}
}

// remove takes one out.
func (l *making) remove(x *Exchange) {
	c := &x.copies
	if c.prev == nil {
		l.first = c.next
	} else {
		c.prev.copies.next = c.next
	}
	if c.next == nil {
		l.last = c.prev
	} else {
		c.next.copies.prev = c.prev
	}
	l.cost -= c.cost
}

// mirrored is a copy of a request on its way: client and router of an exchange of
// its own. It is begun when all of the request has come, and when that has been
// sent on itself; nothing of the request waits for it or hears of it.
type mirrored struct {
	x        Exchange
	worker   *Worker
	to       *mirror
	memory   []byte // of the head
	body     []byte
	trailers []h1.Field
	going    bool // it counts against maxMirrors
	ended    bool // the end of the body has gone
	over     bool
	received int
}

// The outcomes of copies, as they are counted.
const (
	mirrorAnswered   = "answered"
	mirrorFailed     = "failed"
	mirrorLarge      = "too_large"
	mirrorMany       = "too_many"
	mirrorIncomplete = "incomplete" // the request's content never came whole
)

// copy copies the request's head for each mirror of the filters that wants it.
func (x *Exchange) copy(f *Filters) {
	w, r := x.worker, &x.Request
	if r.Method == h1.CONNECT || len(r.Upgrade) > 0 {
		return // what follows is no content
	}
	for i := range f.mirrors {
		to := &f.mirrors[i]
		if !draw(w, to.share) {
			continue
		}
		content := r.Framing == h1.Chunked || r.Framing == h1.Length && r.Length > 0
		switch {
		case !content && w.mirrors >= maxMirrors:
			w.Shard.Mirrored(to.cluster.Key, mirrorMany)
			continue
		case r.Framing == h1.Length && r.Length > maxMirrorBody:
			w.Shard.Mirrored(to.cluster.Key, mirrorLarge)
			continue
		}
		m := &mirrored{worker: w, to: to}
		m.memory = cloneRequest(&m.x.Request, nil, r)
		m.x.HTTP2 = x.HTTP2 && (x.Cluster.Protocol != view.HTTP || x.grpc())
		if !content {
			m.depart()
			continue
		}
		if len(x.copies.list) == 0 {
			w.making.add(x)
		}
		x.copies.list = append(x.copies.list, m)
		w.making.grow(x, mirrorCost+len(m.memory))
	}
}

// draw reports true for a share of all calls.
func draw(w *Worker, share policy.Share) bool {
	return share >= policy.All || share > 0 && w.Loop.Rand.Uint32N(uint32(policy.All)) < uint32(share)
}

// cloneRequest makes dst a request of its own, in memory that it returns.
func cloneRequest(dst *h1.Request, mem []byte, src *h1.Request) []byte {
	size := len(src.MethodName) + len(src.Target) + len(src.Authority) + len(src.Path)
	for i := range src.Fields {
		size += len(src.Fields[i].Name) + len(src.Fields[i].Value)
	}
	mem = append(make([]byte, 0, size), mem...)
	keep := func(b []byte) []byte {
		begin := len(mem)
		mem = append(mem, b...)
		return mem[begin:len(mem):len(mem)]
	}
	dst.Reset()
	dst.Method, dst.MethodName = src.Method, keep(src.MethodName)
	dst.Target, dst.Path, dst.Authority = keep(src.Target), keep(src.Path), keep(src.Authority)
	dst.Form, dst.Scheme, dst.Minor, dst.Two = src.Form, src.Scheme, src.Minor, src.Two
	dst.Framing, dst.Length = src.Framing, src.Length
	dst.TETrailers, dst.MaxForwards = src.TETrailers, src.MaxForwards
	for i := range src.Fields {
		f := src.Fields[i]
		if f.Drop || f.ID == h1.Expect { // the content is here: nobody waits for 100
			continue
		}
		f.Name, f.Value = keep(f.Name), keep(f.Value)
		dst.Fields = append(dst.Fields, f)
	}
	return mem
}

// tee gives the copies some of the request's content, as it goes to its endpoint;
// it may go there again.
func (x *Exchange) tee(p []byte) {
	c := &x.copies
	if len(c.list) == 0 {
		return
	}
	known := min(max(len(c.body)-c.at, 0), len(p))
	c.at += len(p)
	if c.body = append(c.body, p[known:]...); len(c.body) > maxMirrorBody {
		x.dropCopies(mirrorLarge)
		return
	}
	x.worker.making.grow(x, len(p)-known)
}

// teeAgain says that the content goes to an endpoint from its beginning.
func (x *Exchange) teeAgain() { x.copies.at = 0 }

// teeEnd says that this was all of the content: the copies go on their way.
func (x *Exchange) teeEnd(trailers []h1.Field) {
	c := &x.copies
	if len(c.list) == 0 {
		return
	}
	x.worker.making.remove(x)
	for _, m := range c.list {
		if x.worker.mirrors >= maxMirrors {
			m.count(mirrorMany)
			continue
		}
		m.body = c.body
		for _, f := range trailers {
			f.Name, f.Value = append([]byte(nil), f.Name...), append([]byte(nil), f.Value...)
			m.trailers = append(m.trailers, f)
		}
		m.depart()
	}
	*c = copies{}
}

// dropCopies gives up those whose content hasn't come.
func (x *Exchange) dropCopies(outcome string) {
	if len(x.copies.list) == 0 {
		return
	}
	x.worker.making.remove(x)
	for _, m := range x.copies.list {
		m.count(outcome)
	}
	x.copies = copies{}
}

// depart lets the copy go on its way.
func (m *mirrored) depart() {
	m.going = true
	m.worker.mirrors++
	m.worker.Loop.Later(m.start)
}

// start sends the copy.
func (m *mirrored) start() { m.x.start(m.worker, m, m) }

// Route sends it to the mirror's destination.
func (m *mirrored) Route(x *Exchange) *Failure {
	x.Policy = mirrorPolicy
	return m.to.router.Route(x)
}

// Unrouted counts what could not be sent anywhere.
func (m *mirrored) Unrouted(f *Failure) { m.to.router.Unrouted(f) }

// Interim drops a 1xx.
func (m *mirrored) Interim(*h1.Response) {}

// Response drops the answer's head.
func (m *mirrored) Response(*h1.Response) {}

// Room is always there: what comes is dropped.
func (m *mirrored) Room() bool { return true }

// Body drops some of the answer. What comes without end isn't waited for.
func (m *mirrored) Body(p []byte) {
	before := m.received
	if m.received += len(p); m.received > maxMirrorAnswer && before <= maxMirrorAnswer {
		m.worker.Loop.Later(m.stop)
	}
}

// stop gives the rest of the answer up.
func (m *mirrored) stop() {
	if !m.over {
		m.x.abandon()
		m.end(mirrorAnswered)
	}
}

// End ends the copy.
func (m *mirrored) End([]h1.Field) { m.end(mirrorAnswered) }

// Reply ends a copy that didn't get through.
func (m *mirrored) Reply(*Failure) { m.end(mirrorFailed) }

// Cut ends a copy whose answer broke off.
func (m *mirrored) Cut() { m.end(mirrorFailed) }

// Pull sends the content on.
func (m *mirrored) Pull() {
	r := &m.x.Request
	if up := m.x.up; up != nil && !m.ended && (r.Framing == h1.Chunked || r.Length > 0) && up.Room() {
		m.ended = true
		if len(m.body) > 0 {
			up.Body(m.body)
		}
		if m.x.up == up {
			up.End(m.trailers)
		}
	}
}

// Rewind lets the content be sent once more.
func (m *mirrored) Rewind() bool {
	m.ended = false
	return true
}

// Whole reports false: no copies are made of a copy.
func (m *mirrored) Whole() bool { return false }

// Replay is never called.
func (m *mirrored) Replay(Upstream) {}

// watchStall does nothing: the copy's own time bounds it.
func (m *mirrored) watchStall() {}

// Tunnel is never called: nothing offers to upgrade.
func (m *mirrored) Tunnel(up *loop.Conn) {
	up.Close()
	m.end(mirrorFailed)
}

func (m *mirrored) end(outcome string) {
	m.over = true
	m.count(outcome)
	m.x.reset()
}

func (m *mirrored) count(outcome string) {
	if m.going {
		m.going = false
		m.worker.mirrors--
	}
	m.worker.Shard.Mirrored(m.to.cluster.Key, outcome)
}
