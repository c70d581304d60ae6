package l7http

import (
	"bytes"
	"time"

	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file notes along the way what a story of the exchange would need, and
// tells it when the exchange went badly. The notes are plain stores into memory
// that an exchange keeps.

// tulleID is the field that says under which id the story of an answer is kept.
const tulleID = "tulle-id"

var nameTulleID = []byte(tulleID)

func isTulleID(name []byte) bool { return len(name) == len(tulleID) && h1.EqualFold(name, tulleID) }

// trail is the notes. Its times are the loop's; 0 is never.
type trail struct {
	id, peer                    story.ID
	slow                        bool
	reason, text, policy, told  string // told is for stories alone
	method, host, path, request story.Text
	long                        []byte // the path, where records are wanted; its memory is kept
	recorded                    bool
	routed, first               time.Duration
	tries                       [story.MaxTries]story.Try
	n                           int // tries in all
	digits                      [16]byte
}

// noteStart keeps what names the request: its head is gone when it is over.
func (x *Exchange) noteStart() {
	if x.trail == nil {
		x.trail = new(trail)
	}
	t := x.trail
	t.id, t.peer, t.slow, t.reason, t.text, t.policy, t.told = 0, 0, false, "", "", "", ""
	t.routed, t.first, t.n = 0, 0, 0
	t.method.Set(x.Request.MethodName)
	t.host.Set(x.Request.Authority)
	path := x.Request.Path
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	t.path.Set(path)
	t.recorded, t.long = false, t.long[:0]
	if x.worker.Pen.Wanted() {
		t.long = append(t.long, path[:min(len(path), maxRecordedPath)]...)
	}
	t.request.Set(nil)
	if f := x.Request.Lookup("x-request-id"); f != nil {
		t.request.Set(f.Value)
	}
}

// noteTry notes that a try begins.
func (x *Exchange) noteTry(e *balance.Endpoint) {
	t, now := x.trail, x.worker.Loop.Now()
	if t == nil {
		return
	}
	if t.n == 0 {
		t.routed = now
	}
	t.n++
	x.attempt = t.n
	if t.n <= story.MaxTries {
		t.tries[t.n-1] = story.Try{Address: e.Address, Workload: e.Workload, Began: now}
	}
}

// noteSent notes that the try has a connection.
func (x *Exchange) noteSent() {
	if try := x.attempted(); try != nil {
		try.Sent, try.Reused = x.worker.Loop.Now(), x.reused
	}
}

// noteSecuring notes that the try's connection is there, and its TLS begins.
func (x *Exchange) noteSecuring() {
	if try := x.attempted(); try != nil {
		try.Secured = x.worker.Loop.Now()
	}
}

// Securing is called when the connection is there and TLS begins.
func (c *clientConn) Securing() {
	if c.x != nil {
		c.x.noteSecuring()
	}
}

// Securing is the same for those that wait for the connection.
func (c *h2Client) Securing() {
	for _, call := range c.waiting {
		if call.x != nil {
			call.x.noteSecuring()
		}
	}
}

// attempted is the note of the try under way; nil when there is none.
func (x *Exchange) attempted() *story.Try {
	if x.trail == nil || x.attempt == 0 || x.attempt > story.MaxTries {
		return nil
	}
	return &x.trail.tries[x.attempt-1]
}

// noteTried notes how the try ended: with a word, or the response's status.
func (x *Exchange) noteTried(outcome string, status int) {
	if try := x.attempted(); try != nil {
		try.Outcome, try.Status, try.Ended = outcome, status, x.worker.Loop.Now()
		x.attempt = 0
	}
}

// noteLeft notes that the try is over, by what is known of it, unless that was
// noted before.
func (x *Exchange) noteLeft() {
	if x.status != 0 {
		x.noteTried(triedAnswered, x.status)
	} else {
		x.noteTried(triedGivenUp, 0)
	}
}

// Words for what ends a try and is no failure of the endpoint.
const (
	triedAnswered = "answered"
	triedGivenUp  = "given_up"
)

// Blame says which policy's object an answer in the endpoint's place is owed to.
func (x *Exchange) Blame(policy string) {
	if x.trail != nil {
		x.trail.policy = policy
	}
}

// noteAnswer notes that the answer begins. When that was slow, or is a failure, the
// client is told the story's id; the id of the next proxy's story stays here.
func (x *Exchange) noteAnswer(r *h1.Response) {
	t := x.trail
	if t == nil { // a request of the proxy's own
		return
	}
	t.first = x.worker.Loop.Now()
	for i := range r.Fields {
		f := &r.Fields[i]
		if isTulleID(f.Name) {
			f.Drop = true
			x.notePeer(f)
		}
	}
	t.slow = x.Cluster.Pace.Slow(t.first-x.began, x.worker.slow())
	if t.slow || t.peer != 0 || x.status >= 500 {
		r.Fields = append(r.Fields, x.storyField())
	}
}

// noteEnd notes what trailers say. Those of a call that has failed, though its head
// went well, get the story's id; the next proxy's stays here.
func (x *Exchange) noteEnd(trailers []h1.Field) []h1.Field {
	t := x.trail
	if t == nil {
		return trailers
	}
	for i := range trailers {
		if f := &trailers[i]; isTulleID(f.Name) {
			x.notePeer(f)
			trailers = append(trailers[:i], trailers[i+1:]...)
			break
		}
	}
	if x.status < 500 || t.id != 0 || !x.call {
		return trailers
	}
	return append(trailers, x.storyField())
}

// notePeer takes the id of the next proxy's story, if it is another proxy that says
// so.
func (x *Exchange) notePeer(f *h1.Field) {
	if x.endpoint != nil && x.endpoint.Identity != "" {
		x.trail.peer, _ = story.ParseID(f.Value)
	}
}

// noteFailure notes an answer in the endpoint's place, and gives it the id.
func (x *Exchange) noteFailure(f *Failure) {
	if x.call && x.HTTP2 { // as replyGRPC tells the client
		x.callCode, x.coded = x.codeOf(f), true
	}
	if x.trail == nil || f.Error == "" || f.Status < 400 {
		return
	}
	x.trail.reason, x.trail.text = f.reason(), f.Text
	x.Extra = append(x.Extra, x.storyField())
}

// noteBroken notes that an answer that had begun will not be whole.
func (x *Exchange) noteBroken(reason string) {
	if x.trail == nil {
		return
	}
	x.trail.reason = reason
	x.storyField()
}

// storyField gives the story an id.
func (x *Exchange) storyField() h1.Field {
	t := x.trail
	for t.id == 0 {
		t.id = story.ID(x.worker.Loop.Rand.Uint64())
	}
	return h1.Field{Name: nameTulleID, Value: t.id.AppendID(t.digits[:0])}
}

// noteGone keeps a request whose client didn't wait for the answer, when it had
// waited long.
func (x *Exchange) noteGone(reason string) {
	t := x.trail
	if t == nil {
		return
	}
	t.reason = reason
	if x.Cluster == nil || t.first != 0 || !x.Cluster.Pace.Slow(x.worker.Loop.Now()-x.began, x.worker.slow()) {
		x.record(x.status)
		return
	}
	t.slow = true
	x.storyField()
	x.tell(0)
}

// tell keeps the exchange's story if it went badly; status is what it came to.
func (x *Exchange) tell(status int) {
	t := x.trail
	if t == nil {
		return
	}
	if t.id == 0 && status < 500 {
		x.record(status)
		return
	}
	x.storyField() // a call whose trailers say that it failed has no id yet
	x.record(status)
	kind := story.Slow
	switch {
	case status >= 500 || t.reason != "" && status < 400 && !t.slow:
		kind = story.Failed
	case status >= 400 && (t.reason != "" || t.peer != 0 && !t.slow):
		kind = story.Refused
	}
	now := x.worker.Loop.Now()
	s := x.worker.Stories.Begin(kind)
	s.ID, s.Peer = t.id, t.peer
	s.At = x.worker.Loop.Wall().Add(x.began - now)
	if d, ok := x.router.(interface{ Describe() About }); ok {
		a := d.Describe()
		s.Direction, s.Service, s.Caller = a.Direction, a.Service, a.Identity
	}
	if x.Cluster != nil && x.Cluster.Key != "" {
		s.Service = x.Cluster.Key
	}
	if x.Rule != nil {
		s.Rule = x.Rule.Name
		if x.Backend >= 0 && x.Backend < len(x.Rule.Backends) {
			s.Backend = x.Rule.Backends[x.Backend].Destination
		}
	}
	s.Policy, s.Reason, s.Text, s.Status = t.policy, t.reason, t.text, status
	if t.told != "" {
		s.Text = t.told
	}
	if s.Policy == "" {
		s.Policy = x.detail // a fault's
	}
	s.Method, s.Host, s.Path, s.Request = t.method, t.host, t.path, t.request
	s.Routed, s.First, s.Total = x.since(t.routed), x.since(t.first), now-x.began
	n := min(t.n, story.MaxTries)
	for i := range t.tries[:n] {
		try := &t.tries[i]
		try.Began, try.Secured, try.Sent = x.since(try.Began), x.since(try.Secured), x.since(try.Sent)
		if try.Outcome == "" {
			try.Outcome, try.Ended = triedGivenUp, now
		}
		try.Ended = x.since(try.Ended)
	}
	s.SetTries(t.tries[:n], t.n)
	if x.Cluster != nil {
		x.tellEndpoints(s, t.tries[:n])
	}
	x.worker.Stories.End()
	t.id = 0
}

// since is how long after the exchange's beginning something was; 0 is never.
func (x *Exchange) since(at time.Duration) time.Duration {
	if at == 0 {
		return 0
	}
	return at - x.began
}

// tellEndpoints says of each endpoint that might have been asked why it was, or
// wasn't.
func (x *Exchange) tellEndpoints(s *story.Story, tries []story.Try) {
	for _, e := range x.Cluster.Endpoints() {
		state := "not_chosen"
		switch {
		case triedAt(tries, e):
			state = "tried"
		case e.Out():
			state = "ejected"
		case e.Suspect:
			state = "suspect"
		case x.worker.Zone != "" && e.Zone != x.worker.Zone:
			state = "other_zone"
		}
		s.AddEndpoint(story.Endpoint{Address: e.Address, Workload: e.Workload, State: state})
	}
}

func triedAt(tries []story.Try, e *balance.Endpoint) bool {
	for i := range tries {
		if tries[i].Address == e.Address {
			return true
		}
	}
	return false
}

// slow is the wait that is slow whatever is usual.
func (w *Worker) slow() time.Duration {
	if w.Slow > 0 {
		return w.Slow
	}
	return story.DefaultSlow
}
