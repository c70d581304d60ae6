package l7http

import (
	"bytes"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/token"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file is how people and programs from elsewhere prove who they are: by a
// token that the request bears. A signature may take milliseconds (P-521), so none
// is checked on the loop; what was verified is remembered until it ends.

const (
	// maxVerifying bounds the signatures of one loop that are being checked, and
	// maxUnverified the tokens that wait for that. What comes over it is refused.
	maxVerifying  = 1
	maxUnverified = 1024
	// maxUnverifiedBytes bounds their length in all.
	maxUnverifiedBytes = 4 << 20
	// maxCandidates bounds the tokens that one request may bear.
	maxCandidates = 8
)

// Tokens says whose tokens are believed at a listener, or a route of it. It belongs
// to one loop.
type Tokens struct {
	verifier  *token.Verifier
	worker    *Worker
	direction meter.Direction
	service   string
	valid     []*meter.Counter // by issuer
	// Denied says whose JWT-SVIDs aren't believed all the same; nil is nobody's.
	Denied func(identity.ID) bool
}

// NewTokens makes the Tokens of a listener on the worker's loop, nil for no
// verifier. What comes of them is counted for a service.
func (w *Worker) NewTokens(v *token.Verifier, d meter.Direction, service string) *Tokens {
	if v == nil {
		return nil
	}
	return &Tokens{verifier: v, worker: w, direction: d, service: service, valid: make([]*meter.Counter, len(v.Policy.Issuers))}
}

// proving is what a request's token came to.
type proving struct {
	// Tokens says whose tokens are believed; nil looks for none. The Router sets it.
	Tokens *Tokens

	proven *Tokens         // who found nothing wrong
	judged *token.Verifier // who has said what follows
	token  *token.Token
	wrong  *token.Error
	which  int // of the candidates
}

// verifying are the tokens of one loop that aren't verified yet.
type verifying struct {
	cache   token.Cache
	running int
	waiting []*verification
	bytes   int                               // of those that run or wait
	known   map[verificationKey]*verification // running, or waiting for it
	// Memory that is used again.
	candidates []token.Candidate
	fields     []int
	text       []byte
}

type verificationKey struct {
	verifier *token.Verifier
	sum      token.Sum
}

// verification is what several requests may wait for.
type verification struct {
	verificationKey
	list    []token.Candidate
	at      time.Time
	bytes   int
	bearers []bearer

	token *token.Token
	which int
	err   error
}

// bearer is a request that waits.
type bearer struct {
	x      *Exchange
	serial uint64
}

// identified is the gate of tokens.
func (x *Exchange) identified() *Failure {
	t := x.Tokens
	if t == nil || x.proven == t {
		return nil
	}
	w := x.worker
	v := &w.verifying
	x.candidates(t.verifier)
	if x.judged != t.verifier {
		x.token, x.wrong = nil, nil
		switch {
		case len(v.candidates) == 0:
			x.wrong = noToken
		case len(v.candidates) > maxCandidates:
			x.wrong = manyTokens
		default:
			v.text = v.text[:0]
			for i := range v.candidates {
				if len(v.candidates[i].Text) > token.MaxToken {
					x.wrong = longToken
					break
				}
				v.text = token.AppendCandidate(v.text, v.candidates[i])
			}
			if x.wrong != nil {
				break
			}
			sum := token.SumOf(v.text)
			if x.token, x.which = v.cache.Get(t.verifier, sum, w.Loop.Wall()); x.token == nil {
				return w.verify(x, verificationKey{t.verifier, sum})
			}
		}
		x.judged = t.verifier
	}
	return x.prove(t)
}

var (
	noToken     = &token.Error{Outcome: token.Missing}
	deniedToken = &token.Error{Outcome: token.Denied, Text: "its subject is denied"}
	manyTokens  = &token.Error{Outcome: token.Malformed, Text: "there are too many tokens"}
	longToken   = &token.Error{Outcome: token.Malformed, Text: "it is too long"}
)

// candidates finds what may be a token. They are slices of the request.
func (x *Exchange) candidates(t *token.Verifier) {
	v := &x.worker.verifying
	v.candidates, v.fields = v.candidates[:0], v.fields[:0]
	for p := range t.Places {
		place := &t.Places[p]
		for i := range x.Request.Fields {
			f := &x.Request.Fields[i]
			if f.Drop || len(f.Name) != len(place.Name) || !folds(f.Name, place.Name) ||
				len(f.Value) <= len(place.Prefix) || !folds(f.Value[:len(place.Prefix)], place.Prefix) {
				continue
			}
			v.candidates = append(v.candidates, token.Candidate{Place: p, Text: trimSpaces(f.Value[len(place.Prefix):])})
			v.fields = append(v.fields, i)
		}
	}
}

func trimSpaces(b []byte) []byte {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	return b
}

// prove does what the token came to: the candidates are those of now. What isn't
// verified reaches nobody where tokens are looked for, and nobody but this proxy
// writes the fields in which claims are told.
func (x *Exchange) prove(t *Tokens) *Failure {
	v := &x.worker.verifying
	r := &x.Request
	if x.token != nil && t.Denied != nil && !x.token.Subject.IsZero() && t.Denied(x.token.Subject) { // it may have been verified before
		x.token, x.wrong = nil, deniedToken
	}
	if x.token == nil && (x.wrong.Outcome != token.Missing || t.verifier.Policy.Required) {
		return x.unproven(t)
	}
	for _, told := range t.verifier.Told {
		for i := range r.Fields {
			if f := &r.Fields[i]; len(f.Name) == len(told) && alikeString(f.Name, told) {
				f.Drop = true
			}
		}
	}
	x.proven = t
	if x.token == nil {
		t.count("", token.Missing)
		return nil
	}
	for c, i := range v.fields {
		if c != x.which || !t.verifier.Forward(x.token) {
			r.Fields[i].Drop = true
		}
	}
	for i, value := range x.token.Headers {
		if name := t.verifier.Header(x.token, i); value != nil {
			r.Fields = append(r.Fields, h1.Field{Name: name, Value: value, ID: h1.NameOf(name)})
		}
	}
	x.Claims = x.token
	x.watchToken()
	if c := t.valid[x.token.Issuer]; c != nil {
		c.Add(1)
	} else {
		t.valid[x.token.Issuer] = t.count(x.token.Name, token.Valid)
	}
	return nil
}

// alikeString is alike for a name in lower case.
func alikeString(name []byte, lower string) bool {
	for i, c := range name {
		d := lower[i]
		if c == '_' {
			c = '-'
		} else if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if d == '_' {
			d = '-'
		}
		if c != d {
			return false
		}
	}
	return true
}

func (t *Tokens) count(issuer, outcome string) *meter.Counter {
	c := t.worker.Shard.JWT(t.direction, t.service, issuer, outcome)
	c.Add(1)
	return c
}

var (
	nameAuthenticate = []byte("WWW-Authenticate")
	valueBearer      = []byte("Bearer")
)

// unproven is the answer to who has no token that holds (RFC 6750, 3).
func (x *Exchange) unproven(t *Tokens) *Failure {
	t.count(x.wrong.Issuer, x.wrong.Outcome)
	x.logRefused("token refused", "outcome", x.wrong.Outcome, "issuer", x.wrong.Issuer)
	if x.wrong.Outcome == token.Missing {
		x.extra(nameAuthenticate, valueBearer)
		return needsToken
	}
	x.extra(nameAuthenticate, append(append([]byte(`Bearer error="invalid_token", error_description="`), x.wrong.Text...), '"'))
	return &Failure{401, "http_request_denied", "The token is not valid: " + x.wrong.Text + ".", false}
}

var (
	needsToken = &Failure{401, "http_request_denied", "A token is needed.", false}
	unverified = &Failure{503, "connection_limit_reached", "There are too many tokens to verify: try again later.", false}
)

// verify has the request's candidates verified, and goes on with it then.
func (w *Worker) verify(x *Exchange, k verificationKey) *Failure {
	v := &w.verifying
	job := v.known[k]
	if job == nil {
		if len(v.waiting) >= maxUnverified || v.bytes+len(v.text) > maxUnverifiedBytes {
			x.Tokens.count("", "overload")
			x.extra(nameRetryAfter, valueRetryAfter)
			return unverified
		}
		job = &verification{verificationKey: k, at: w.Loop.Wall()}
		job.bytes = len(v.text)
		v.bytes += job.bytes
		memory := make([]byte, 0, len(v.text))
		for _, c := range v.candidates {
			begin := len(memory)
			memory = append(memory, c.Text...)
			job.list = append(job.list, token.Candidate{Place: c.Place, Text: memory[begin:len(memory):len(memory)]})
		}
		if v.known == nil {
			v.known = make(map[verificationKey]*verification)
		}
		v.known[k] = job
		v.waiting = append(v.waiting, job)
	}
	job.bearers = append(job.bearers, bearer{x, x.serial})
	w.verifyNext()
	return Later
}

// verifyNext begins what there is room for.
func (w *Worker) verifyNext() {
	v := &w.verifying
	for v.running < maxVerifying && len(v.waiting) > 0 {
		job := v.waiting[0]
		v.waiting[0] = nil
		v.waiting = v.waiting[1:]
		if !job.wanted() {
			v.forget(job)
			continue
		}
		v.running++
		w.run(func() {
			job.token, job.which, job.err = job.verifier.Verify(job.list, job.at)
			w.Loop.Post(func() { w.verified(job) })
		})
	}
}

func (v *verifying) forget(job *verification) {
	delete(v.known, job.verificationKey)
	v.bytes -= job.bytes
}

// wanted reports whether somebody still waits.
func (job *verification) wanted() bool {
	for _, b := range job.bearers {
		if b.x.serial == b.serial {
			return true
		}
	}
	return false
}

// run runs a computation off the loop.
func (w *Worker) run(f func()) {
	if w.Compute != nil {
		w.Compute(f)
		return
	}
	go f()
}

// verified goes on with the requests that have waited.
func (w *Worker) verified(job *verification) {
	v := &w.verifying
	v.running--
	v.forget(job)
	if job.err == nil {
		v.cache.Put(job.verifier, job.sum, job.token, job.which)
	}
	for _, b := range job.bearers {
		x := b.x
		if x.serial != b.serial {
			continue
		}
		x.judged, x.token, x.which, x.wrong = job.verifier, job.token, job.which, nil
		if job.err != nil {
			x.wrong, _ = job.err.(*token.Error)
		}
		x.proceed()
	}
	w.verifyNext()
}

// withoutTold drops from a trailer section what only this proxy may say.
func (x *Exchange) withoutTold(list []h1.Field) []h1.Field {
	if x.Tokens == nil || len(x.Tokens.verifier.Told) == 0 {
		return list
	}
	kept := list[:0]
next:
	for i := range list {
		for _, told := range x.Tokens.verifier.Told {
			if len(told) == len(list[i].Name) && alikeString(list[i].Name, told) {
				continue next
			}
		}
		kept = append(kept, list[i])
	}
	return kept
}

// logRefused writes to the log that the request is refused.
func (x *Exchange) logRefused(msg string, args ...any) {
	if x.Guard == nil {
		return
	}
	id := ""
	if x.trail != nil {
		x.storyField()
		id = x.trail.id.String()
	}
	path := x.Request.Path
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	x.Guard.Refused(x.worker.Loop.Now(), msg, id, x.Request.MethodName, path, args...)
}
