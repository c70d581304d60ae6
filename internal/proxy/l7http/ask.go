package l7http

import (
	"encoding/binary"
	"strings"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/limit"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/wire/extauthz"
	"tulle.dev/tulle/internal/wire/h1"
	"tulle.dev/tulle/internal/wire/ratelimit"
)

// maxOpinion bounds the content of an answer in HTTP that is passed on, in bytes. A
// longer one is left out.
const maxOpinion = 64 << 10

// ask is a question about a request: client of an exchange of its own. The
// request's content isn't sent.
type ask struct {
	x        Exchange
	worker   *Worker
	external *External      // nil is a question about limits
	limit    *limit.Service // then
	router   Router
	grpc     bool
	of       *Exchange
	serial   uint64
	policy   policy.Request
	timer    loop.Timer

	body     []byte // of the question
	ended    bool   // and all of it is sent
	status   int
	code     string // grpc-status
	fields   []extauthz.Change
	taken    []extauthz.Change
	answer   []byte
	received int
	over     bool
}

// newAsk asks about a request. When there is an answer, or too much time has
// passed, x goes on.
func newAsk(x *Exchange, e *External) *ask {
	a := beginAsk(x, e.Policy.Timeout)
	a.external, a.router, a.grpc = e, e.Router, e.Policy.GRPC
	if a.grpc {
		a.check()
	} else {
		a.request()
	}
	a.send()
	return a
}

// beginAsk begins a question that may take so long.
func beginAsk(x *Exchange, timeout time.Duration) *ask {
	w := x.worker
	w.asks++
	a := &ask{worker: w, of: x, serial: x.serial}
	a.policy.Timeout = timeout
	a.timer.Init(w.Loop, a)
	a.timer.Set(timeout)
	return a
}

// send asks, once the exchange that it is about has come to its rest.
func (a *ask) send() {
	a.worker.Loop.Later(func() {
		if !a.over {
			a.x.start(a.worker, a, a)
		}
	})
}

// check makes the question whether a request is allowed, in gRPC.
func (a *ask) check() {
	q := extauthz.CheckRequest{
		Source:      extauthz.Peer{Address: a.of.Peer()},
		Destination: extauthz.Peer{Address: a.external.Address, Service: a.external.Service, Principal: a.external.Identity},
		Time:        a.worker.Loop.Wall(),
		HTTP:        a.describe(),
	}
	if g := a.of.Guard; g != nil && !g.ID().IsZero() {
		q.Source.Principal = g.ID().String()
	}
	a.call(a.external.Policy.Destination, extauthz.Method, q.Append(make([]byte, 5, 1<<10)))
}

// call makes a gRPC call of a message that has room for the prefix.
func (a *ask) call(to, method string, message []byte) {
	a.body = message
	binary.BigEndian.PutUint32(a.body[1:], uint32(len(a.body)-5))
	r := &a.x.Request
	r.Reset()
	r.Method, r.MethodName = h1.POST, []byte("POST")
	r.Minor, r.KeepAlive, r.MaxForwards = 1, true, -1
	r.Authority, r.Path = []byte(to), []byte(method)
	r.Target = r.Path
	r.Framing, r.Length, r.TETrailers = h1.Length, int64(len(a.body)), true
	r.Fields = append(r.Fields, h1.Field{Name: nameType, Value: valueGRPC, ID: h1.ContentType})
	a.x.HTTP2 = true
}

// describe is the request's head. What isn't UTF-8 is replaced: protobuf's strings
// must be, and a question that can't be read would get no answer.
func (a *ask) describe() extauthz.HTTPRequest {
	x := a.of
	r := &x.Request
	valid := func(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }
	out := extauthz.HTTPRequest{Method: valid(r.MethodName), Path: valid(r.Path), Host: valid(r.Authority), Size: -1, Protocol: "HTTP/1.1"}
	switch r.Framing {
	case h1.NoBody:
		out.Size = 0
	case h1.Length:
		out.Size = r.Length
	}
	switch {
	case r.Two:
		out.Protocol = "HTTP/2"
	case r.Minor == 0:
		out.Protocol = "HTTP/1.0"
	}
	switch {
	case x.FrontScheme() != "":
		out.Scheme = x.FrontScheme()
	case r.Scheme != "":
		out.Scheme = r.Scheme
	case x.overTLS() && !x.Serving: // between proxies of the mesh it always is
		out.Scheme = "https"
	default:
		out.Scheme = "http"
	}
	at := make(map[string]int)
	for i := range r.Fields {
		f := &r.Fields[i]
		if !a.sends(f) {
			continue
		}
		name := strings.ToLower(valid(f.Name))
		if name == "x-request-id" && out.ID == "" {
			out.ID = valid(f.Value)
		}
		if j, twice := at[name]; twice {
			between := ","
			if f.ID == h1.Cookie {
				between = "; "
			}
			out.Headers[j].Value += between + valid(f.Value)
			continue
		}
		at[name] = len(out.Headers)
		out.Headers = append(out.Headers, extauthz.Header{Name: name, Value: valid(f.Value)})
	}
	return out
}

// sends says whether a field of the request is told.
func (a *ask) sends(f *h1.Field) bool {
	if f.Drop {
		return false
	}
	list := a.external.Policy.Send
	return len(list) == 0 || among(list, f.Name)
}

func among(names []string, name []byte) bool {
	for _, n := range names {
		if folds(name, n) {
			return true
		}
	}
	return false
}

// request makes the question in HTTP: the request's head, elsewhere.
func (a *ask) request() {
	r := &a.x.Request
	cloneRequest(r, nil, &a.of.Request)
	path := r.Path
	if r.Form == h1.AsteriskForm {
		path = []byte("/")
	}
	r.Path = append([]byte(strings.TrimSuffix(a.external.Policy.Path, "/")), path...)
	r.Target, r.Form, r.Scheme = r.Path, h1.OriginForm, ""
	r.Minor, r.Two, r.KeepAlive, r.MaxForwards, r.TETrailers = 1, false, true, -1, false
	r.Framing, r.Length = h1.NoBody, 0
	if r.Method == h1.POST || r.Method == h1.PUT || r.Method == h1.PATCH {
		r.Framing = h1.Length
	}
	kept := r.Fields[:0]
	for _, f := range r.Fields {
		switch {
		case !a.sends(&f), f.ID == h1.ContentType && isGRPC(f.Value), f.ID == h1.ContentEncoding, f.ID == h1.Trailer:
		default:
			kept = append(kept, f)
		}
	}
	r.Fields = kept
}

// Route sends it to whom is asked.
func (a *ask) Route(x *Exchange) *Failure {
	x.Policy = &a.policy
	x.trail = nil
	return a.router.Route(x)
}

// Unrouted counts what led nowhere.
func (a *ask) Unrouted(f *Failure) { a.router.Unrouted(f) }

// Interim drops a 1xx.
func (a *ask) Interim(*h1.Response) {}

// clientFields are those of an answer in HTTP that a client gets, beside the
// policy's.
var clientFields = []string{"content-type", "location", "www-authenticate", "set-cookie", "cache-control", "retry-after"}

// Response takes the answer's head.
func (a *ask) Response(r *h1.Response) {
	a.status = r.Status
	a.noteCode(r.Fields)
	if a.external == nil {
		return
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.Drop {
			continue
		}
		c := extauthz.Change{Header: extauthz.Header{Name: string(f.Name), Value: string(f.Value)}}
		if take := among(a.external.Policy.Take, f.Name); take {
			a.taken = append(a.taken, c)
			a.fields = append(a.fields, c)
		} else if among(clientFields, f.Name) {
			a.fields = append(a.fields, c)
		}
	}
}

func (a *ask) noteCode(fields []h1.Field) {
	for i := range fields {
		if folds(fields[i].Name, "grpc-status") {
			a.code = string(fields[i].Value)
		}
	}
}

// most is how much of an answer is kept.
func (a *ask) most() int {
	switch {
	case a.external == nil:
		return ratelimit.MaxAnswer + 5
	case a.grpc:
		return extauthz.MaxAnswer + 5
	}
	return maxOpinion
}

// Room is always there.
func (a *ask) Room() bool { return true }

// Body takes some of the answer. What comes without end isn't waited for.
func (a *ask) Body(p []byte) {
	most := a.most()
	a.answer = append(a.answer, p[:min(len(p), most-len(a.answer))]...)
	before := a.received
	if a.received += len(p); a.received > most && before <= most {
		a.worker.Loop.Later(func() {
			if !a.over {
				a.x.abandon()
				a.judge()
			}
		})
	}
}

// End judges the answer.
func (a *ask) End(trailers []h1.Field) {
	a.noteCode(trailers)
	a.judge()
}

func (a *ask) judge() {
	switch {
	case a.external == nil:
		a.endLimit(a.judgeLimit())
		return
	case a.grpc:
		a.end(a.judgeCall())
		return
	}
	o := opinion{answered: true, status: a.status}
	switch {
	case a.status >= 500 || a.status < 200:
		o.answered = false
	case a.status < 300:
		o.allowed, o.request = true, a.taken
	default:
		o.fields = a.fields
		if a.received <= maxOpinion {
			o.body = string(a.answer)
		}
	}
	a.end(o)
}

// message is that of the answer to a gRPC call that went well.
func (a *ask) message() ([]byte, bool) {
	b := a.answer
	if a.status != 200 || a.code != "0" || a.received > a.most() ||
		len(b) < 5 || b[0] != 0 || int64(binary.BigEndian.Uint32(b[1:])) != int64(len(b)-5) {
		return nil, false
	}
	return b[5:], true
}

func (a *ask) judgeCall() (o opinion) {
	b, ok := a.message()
	if !ok {
		return o
	}
	r, err := extauthz.ParseAnswer(b)
	if err != nil || r.Code != 0 && r.Error != nil {
		return o
	}
	o.answered, o.allowed = true, r.Code == 0
	switch {
	case !o.allowed && r.Denied != nil:
		o.status, o.fields, o.body = int(r.Denied.Status), r.Denied.Fields, r.Denied.Body
	case o.allowed && r.OK != nil:
		o.request, o.remove, o.response = r.OK.Fields, r.OK.Remove, r.OK.Response
	}
	return o
}

// Reply is the end of a question that didn't get through.
func (a *ask) Reply(*Failure) { a.fail() }

// Cut is the end of one whose answer broke off.
func (a *ask) Cut() { a.fail() }

func (a *ask) fail() {
	if a.external == nil {
		a.endLimit(nil)
		return
	}
	a.end(opinion{})
}

// Pull sends the body.
func (a *ask) Pull() {
	if up := a.x.up; up != nil && !a.ended && len(a.body) > 0 && up.Room() {
		a.ended = true
		up.Body(a.body)
		if a.x.up == up {
			up.End(nil)
		}
	}
}

// Rewind lets the body be sent once more.
func (a *ask) Rewind() bool {
	a.ended = false
	return true
}

// Whole reports false: no copies are made of a question.
func (a *ask) Whole() bool { return false }

// Replay is never called.
func (a *ask) Replay(Upstream) {}

// Tunnel is never called: nothing offers to upgrade.
func (a *ask) Tunnel(up *loop.Conn) {
	up.Close()
	a.fail()
}

// watchStall does nothing: the question's own time bounds it.
func (a *ask) watchStall() {}

// Expire is called when nobody has answered in time, be it that it isn't even
// known yet where to ask.
func (a *ask) Expire(*loop.Timer) {
	switch {
	case a.over:
	case a.x.worker == nil:
		a.fail()
	default:
		a.x.stalled(true)
	}
}

func (a *ask) end(o opinion) {
	if a.over {
		return
	}
	w, e := a.worker, a.external
	outcome := externalUnanswered
	switch {
	case o.allowed:
		outcome = externalAllowed
	case o.answered:
		outcome = externalDenied
	}
	w.Shard.External(e.Direction, e.Service, outcome)
	a.close()
	a.goOn(func(x *Exchange) { x.opinion = &o })
}

// goOn tells the exchange what came of the question, and lets it go on.
func (a *ask) goOn(tell func(*Exchange)) {
	x, serial := a.of, a.serial
	if x.serial != serial {
		return
	}
	x.ask = nil
	tell(x)
	a.worker.Loop.Later(func() {
		if x.serial == serial {
			x.proceed()
		}
	})
}

func (a *ask) close() {
	a.over = true
	a.worker.asks--
	a.timer.Stop()
	if a.x.worker != nil {
		a.x.reset()
	}
}

// cancel gives the question up.
func (a *ask) cancel() {
	if a.over {
		return
	}
	if a.x.worker != nil {
		a.x.abandon()
	}
	a.close()
}
