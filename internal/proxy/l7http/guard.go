package l7http

import (
	"bytes"
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/proxy/guard"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file is how requests are refused that access rules don't allow, and how
// what is under way ends when it is allowed no more.

// guarding is what an exchange's caller may do.
type guarding struct {
	// Guard is whom the request is from, and RouteAccess the rules of the route
	// that it takes; nil lets it pass. The Router sets them.
	Guard       *guard.Caller
	RouteAccess *access.Table
	// Claims are those of the caller's token, once that is verified.
	Claims access.Claims

	// plea is what was asked for, as it came: filters change the request. Its bytes
	// are those of the head, or in memory.
	plea     access.Request
	passed   bool
	passedBy *access.Table // the rules of a route that let it pass
	ruled    guard.Verdict
}

// GuardedRouter is the Router of one connection alone, of which it knows whose it
// is. Access is the rules that a route of that name has now.
type GuardedRouter interface {
	Router
	Caller() *guard.Caller
	Access(route string) *access.Table
}

var denied = &Failure{403, "http_request_denied", "Access rules don't allow this.", false}

// authorised is the gate of who may come in: whose token it bears, what access
// rules say, and what somebody else says whom the policy names. It may be asked
// again, also by a Router that answers itself.
func (x *Exchange) authorised() *Failure {
	if f := x.identified(); f != nil {
		return f
	}
	if f := x.permitted(); f != nil {
		return f
	}
	return x.vouched()
}

// permitted is what access rules say.
func (x *Exchange) permitted() *Failure {
	g := x.Guard
	if g == nil || x.passed && x.passedBy == x.RouteAccess {
		return nil
	}
	r := &x.plea
	r.Method, r.Path, r.Authority = x.Request.MethodName, x.Request.Path, x.Request.Authority
	if i := bytes.IndexByte(r.Path, '?'); i >= 0 {
		r.Path = r.Path[:i]
	}
	now := x.worker.Loop.Now()
	r.Fields, r.Claims = x.worker.lookup.Of(&x.Request), x.Claims
	refusal := g.Ask(r, x.RouteAccess, now)
	x.ruled = g.Last()
	r.Fields = nil
	if refusal == nil {
		x.passed, x.passedBy = true, x.RouteAccess
		return nil
	}
	id := ""
	text := refusal.Text()
	if x.trail != nil {
		x.storyField()
		id = x.trail.id.String()
		x.trail.told = text
	}
	by := refusal.Rule
	if by == "" {
		by = refusal.Nearest
	}
	x.Blame(by)
	refusal.Log(id, now)
	if !refusal.Tell {
		return denied
	}
	f := *denied
	f.Text = text
	return &f
}

// withdrawn reports whether a request that was allowed isn't any more.
func (x *Exchange) withdrawn(r GuardedRouter) bool {
	if x.Guard == nil || !x.passed {
		return false // it will be asked yet, or was refused
	}
	var route *access.Table
	if x.Rule != nil {
		route = r.Access(x.Rule.Name)
	}
	p := x.plea
	p.Fields = x.worker.lookup.Of(&x.Request)
	return x.Guard.Withdrawn(&p, route, x.worker.Loop.Now())
}

// forbid ends a request that is under way: with the answer f, or when that has begun
// so that the client can tell.
func (x *Exchange) forbid(f *Failure) {
	x.withdrawnBy(f)
	if x.status == 0 {
		x.Fail(f)
		return
	}
	x.abandon()
	x.Cluster.Fail(f.reason())
	x.noteBroken(f.reason())
	x.count(x.status)
	x.down.Cut()
}

// withdrawnBy notes which rule it was, when it was one.
func (x *Exchange) withdrawnBy(f *Failure) {
	if f == denied && x.Guard != nil { // else it has no route yet
		x.ruled = x.Guard.Last()
	}
}

// keepHead copies the head of a request that is under way out of a buffer that is
// about to hold other bytes, where it may have to be looked at again.
func (x *Exchange) keepHead() {
	if x.Guard == nil || !x.passed {
		return
	}
	r := &x.Request
	x.plea.Method, x.plea.Path, x.plea.Authority = x.keep(x.plea.Method), x.keep(x.plea.Path), x.keep(x.plea.Authority)
	r.MethodName, r.Path, r.Authority = x.plea.Method, x.plea.Path, x.plea.Authority
	for i := range r.Fields {
		f := &r.Fields[i]
		f.Name, f.Value = x.keep(f.Name), x.keep(f.Value)
	}
}

// passage is a request that became a tunnel, with a copy of what was asked for.
type passage struct {
	router  GuardedRouter
	caller  *guard.Caller
	route   string
	request access.Request
	fields  h1.Request
	fail    func(reason string)
	end     func()
}

// tunnels notes that the exchange has become a tunnel, which end cuts off. The
// caller calls the returned function, if any, when the tunnel has ended.
func (w *Worker) tunnels(x *Exchange, r Router, end func()) (ended func()) {
	if x.Tunnelled != nil {
		return x.Tunnelled(end)
	}
	lease, passage := w.leased(x, end), w.passes(x, r, end)
	switch {
	case lease == nil:
		return passage
	case passage == nil:
		return lease
	}
	return func() {
		lease()
		passage()
	}
}

// passes has a tunnel looked at again when rules change.
func (w *Worker) passes(x *Exchange, r Router, end func()) (ended func()) {
	g, ok := r.(GuardedRouter)
	if !ok || x.Guard == nil || !x.passed {
		return nil
	}
	p := &passage{router: g, caller: x.Guard, request: x.plea, fail: x.Cluster.Fail, end: end}
	if x.Rule != nil {
		p.route = x.Rule.Name
	}
	n := len(p.request.Method) + len(p.request.Path) + len(p.request.Authority)
	for i := range x.Request.Fields {
		n += len(x.Request.Fields[i].Name) + len(x.Request.Fields[i].Value)
	}
	memory := make([]byte, 0, n) // at most a head
	keep := func(b []byte) []byte {
		at := len(memory)
		memory = append(memory, b...)
		return memory[at:len(memory):len(memory)]
	}
	p.request.Method, p.request.Path, p.request.Authority = keep(x.plea.Method), keep(x.plea.Path), keep(x.plea.Authority)
	p.fields.Authority = p.request.Authority
	p.fields.Fields = append([]h1.Field(nil), x.Request.Fields...)
	for i := range p.fields.Fields {
		f := &p.fields.Fields[i]
		f.Name, f.Value = keep(f.Name), keep(f.Value)
	}
	if w.passages == nil {
		w.passages = make(map[*passage]struct{})
	}
	w.passages[p] = struct{}{}
	return func() { delete(w.passages, p) }
}

// recheckAtOnce bounds how many connections are looked at in one turn of the loop:
// with many rules each takes some microseconds.
const recheckAtOnce = 64

// recheck is what is still to be looked at.
type recheck struct {
	passages []*passage
	conns    []*serverConn
	servers  []*h2Server
	posted   bool
}

// Recheck looks at all that is under way again, because access rules have changed
// or identities aren't trusted any more, and ends exactly what isn't allowed now:
// in this turn of the loop and, where that is much, the next ones.
func (w *Worker) Recheck() {
	q := &w.recheck
	q.passages, q.conns, q.servers = q.passages[:0], q.conns[:0], q.servers[:0]
	for p := range w.passages {
		q.passages = append(q.passages, p)
	}
	for s := range w.conns {
		if _, ok := s.router.(GuardedRouter); ok {
			q.conns = append(q.conns, s)
		}
	}
	for s := range w.servers {
		if _, ok := s.router.(GuardedRouter); ok {
			q.servers = append(q.servers, s)
		}
	}
	w.recheckSome()
}

func (w *Worker) recheckSome() {
	q, now := &w.recheck, w.Loop.Now()
	n := 0
	for ; n < recheckAtOnce && len(q.passages) > 0; n++ {
		p := q.passages[len(q.passages)-1]
		q.passages = q.passages[:len(q.passages)-1]
		if _, there := w.passages[p]; !there {
			continue
		}
		r := p.request
		r.Fields = w.lookup.Of(&p.fields)
		if p.caller.Withdrawn(&r, p.router.Access(p.route), now) {
			p.end()
		}
	}
	for ; n < recheckAtOnce && len(q.conns) > 0; n++ {
		s := q.conns[len(q.conns)-1]
		q.conns = q.conns[:len(q.conns)-1]
		if _, there := w.conns[s]; there {
			s.recheck(s.router.(GuardedRouter), now)
		}
	}
	for ; n < recheckAtOnce && len(q.servers) > 0; n++ {
		s := q.servers[len(q.servers)-1]
		q.servers = q.servers[:len(q.servers)-1]
		if _, there := w.servers[s]; there && !s.done {
			s.recheck(s.router.(GuardedRouter), now)
		}
	}
	if len(q.passages)+len(q.conns)+len(q.servers) == 0 {
		*q = recheck{posted: q.posted}
	} else if !q.posted {
		q.posted = w.Loop.Post(func() {
			q.posted = false
			w.recheckSome()
		})
	}
}

func (s *serverConn) recheck(r GuardedRouter, now time.Duration) {
	switch st := s.stream; {
	case s.done:
	case r.Caller().Forbidden(false, now):
		s.forbid(denied)
	case st != nil && st.begun && !st.answered && st.x.withdrawn(r):
		st.closes = true
		st.x.forbid(denied)
	}
}

// forbid ends a connection of which nothing may be asked any more.
func (s *serverConn) forbid(f *Failure) {
	if st := s.stream; st != nil && st.begun && !st.answered {
		st.x.withdrawnBy(f)
		st.x.cancel(f.reason())
	}
	if s.done {
		return
	}
	s.leave()
	s.conn.Abort()
}

func (s *h2Server) recheck(r GuardedRouter, now time.Duration) {
	all := r.Caller().Forbidden(false, now)
	s.forbid(denied, func(x *Exchange) bool { return all || x.withdrawn(r) })
	if all && !s.done {
		s.now().Abort(0, "access denied")
		s.pump()
	}
	s.schedule()
}

// forbid ends those streams that are to be.
func (s *h2Server) forbid(f *Failure, which func(*Exchange) bool) {
	type under struct {
		st     *h2Stream
		serial uint64
	}
	var list []under
	s.now().Each(func(owner any) {
		if st, ok := owner.(*h2Stream); ok {
			list = append(list, under{st, st.x.serial})
		}
	})
	for _, u := range list {
		x := &u.st.x
		if x.serial != u.serial || u.st.answered { // ended meanwhile
			continue
		}
		if which(x) {
			x.forbid(f)
		}
	}
}

// identityField tells the program who calls: the SPIFFE id that the caller has
// proven with its certificate. What anybody sends in a field of that name is
// dropped, also with "_" for "-" (survey).
const identityField = "tulle-client-identity"

var nameIdentity = []byte(identityField)

func isIdentity(name []byte) bool {
	return len(name) == len(identityField) && (name[0]|0x20) == 't' && alike(name, nameIdentity)
}

// Identify tells the program who calls.
func (x *Exchange) Identify(uri []byte) {
	x.Request.Fields = append(x.Request.Fields, h1.Field{Name: nameIdentity, Value: uri})
}

// ownIdentity says whether a name is the one of Identify, and not somebody else's.
func ownIdentity(name []byte) bool {
	return len(name) == len(nameIdentity) && &name[0] == &nameIdentity[0]
}

// withoutIdentity drops from a trailer section what only a head may say, and only
// this proxy.
func withoutIdentity(list []h1.Field) []h1.Field {
	kept := list[:0]
	for i := range list {
		if !isIdentity(list[i].Name) {
			kept = append(kept, list[i])
		}
	}
	return kept
}
