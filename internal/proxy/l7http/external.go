package l7http

import (
	"net/netip"
	"strings"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/extauthz"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file is what another program says about a request before that goes on, and
// what becomes of the request then; ask.go is how it is asked.

// External is who is asked about a listener's requests. It belongs to one loop.
type External struct {
	Policy *policy.External
	// Router leads to whom is asked.
	Router Router
	// Direction and Service are the listener's, Identity the SPIFFE id of who
	// serves there and Address where that is; all are told.
	Direction meter.Direction
	Service   string
	Identity  string
	Address   netip.AddrPort
}

// maxAsks bounds the questions that one loop has under way. One that comes over it
// is as one that nobody answers.
const maxAsks = 1024

// vouching is what another program says about a request.
type vouching struct {
	// External is who is asked; nil is nobody. The Router sets it.
	External *External

	ask       *ask     // under way
	opinion   *opinion // of opiner
	opiner    *External
	vouchedBy *External // who let it pass
	typed     bool      // Extra says what the content of an answer is
}

// opinion is an answer. The zero value is none.
type opinion struct {
	answered, allowed bool
	// What is changed in the request, and in its response.
	request  []extauthz.Change
	remove   []string
	response []extauthz.Change
	// How the client is answered when it isn't allowed.
	status int
	fields []extauthz.Change
	body   string
}

// The outcomes, as they are counted.
const (
	externalAllowed    = "allowed"
	externalDenied     = "denied"
	externalUnanswered = "no_answer"
	externalOverload   = "overload"
)

var unanswered = &Failure{403, "http_request_denied", "Whoever decides about this request did not answer.", false}

// deniedText is told where whoever denied a request said nothing itself.
const deniedText = "Another program, which decides about requests, denies this one."

// vouched is the gate of who is asked.
func (x *Exchange) vouched() *Failure {
	e := x.External
	if e == nil || x.vouchedBy == e {
		return nil
	}
	w := x.worker
	if x.opinion == nil || x.opiner != e {
		x.opinion, x.opiner = nil, e
		if w.asks < maxAsks {
			x.ask = newAsk(x, e)
			return Later
		}
		w.Shard.External(e.Direction, e.Service, externalOverload)
		x.opinion = &opinion{}
	}
	o := x.opinion
	switch {
	case !o.answered && !e.Policy.FailOpen:
		x.Blame("external/" + e.Policy.Destination)
		x.logRefused("nobody decided about a request", "asked", e.Policy.Destination)
		return unanswered
	case o.answered && !o.allowed:
		return x.vetoed(o)
	}
	x.vouchedBy = e
	r := &x.Request
	for _, name := range e.Policy.Take { // only who is asked says that
		dropAlike(r.Fields, name, false)
	}
	for i := range o.request {
		if c := &o.request[i]; c.Action == extauthz.Set {
			dropAlike(r.Fields, c.Name, true)
		}
	}
	r.Fields = changed(r.Fields, o.request)
	for _, name := range o.remove {
		if route.Writable(name) {
			drop(r.Fields, strings.ToLower(name))
		}
	}
	return nil
}

// vetoed is the answer to a request that isn't allowed.
func (x *Exchange) vetoed(o *opinion) *Failure {
	x.Blame("external/" + x.External.Policy.Destination)
	if x.trail != nil {
		x.trail.told = deniedText
	}
	x.logRefused("request denied by another program", "asked", x.External.Policy.Destination, "status", o.status)
	f := &Failure{o.status, "http_request_denied", o.body, false}
	if f.Status < 200 || f.Status > 599 {
		f.Status = denied.Status
	}
	switch {
	case x.grpc():
		f.Text = deniedText
	case f.Status == 204 || f.Status == 205 || f.Status == 304:
		f.Text = ""
	case f.Text == "" && f.Status >= 400:
		f.Text = deniedText
	}
	before := len(x.Extra)
	x.Extra = changed(x.Extra, o.fields)
	kept := x.Extra[:before]
	for _, field := range x.Extra[before:] {
		if field.ID == h1.ContentType {
			if o.body == "" || x.grpc() || x.typed {
				continue
			}
			x.typed = true
		}
		if field.ID != h1.Date && !sameName(field.Name, nameProxyStatus) && !sameName(field.Name, nameAllow) {
			kept = append(kept, field)
		}
	}
	x.Extra = kept
	return f
}

// vouchedTo changes the response as whoever was asked wants it.
func (x *Exchange) vouchedTo(fields []h1.Field) []h1.Field {
	if x.opinion != nil {
		fields = changed(fields, x.opinion.response)
	}
	if len(x.adds) > 0 {
		fields = changed(fields, x.adds)
	}
	return fields
}

// changed changes fields. What may not be written is left alone.
func changed(fields []h1.Field, changes []extauthz.Change) []h1.Field {
	for i := range changes {
		c := &changes[i]
		if !route.Writable(c.Name) || !route.ValidValue(c.Value) {
			continue
		}
		f := h1.Field{Name: []byte(c.Name), Value: []byte(c.Value)}
		f.ID = h1.NameOf(f.Name)
		at := -1
		for j := range fields {
			if !fields[j].Drop && sameName(fields[j].Name, f.Name) {
				at = j
				break
			}
		}
		switch {
		case at >= 0 && (c.Action == extauthz.Set || c.Action == extauthz.SetIfPresent):
			fields[at].Value, fields[at].Never = f.Value, false
			dropSame(fields[at+1:], f.Name)
		case at < 0 && c.Action != extauthz.SetIfPresent, c.Action == extauthz.Add:
			fields = append(fields, f)
		}
	}
	return fields
}

// dropAlike leaves out all fields whose name programs may take for that one: also
// with "_" for "-". but spares those with the very name.
func dropAlike(fields []h1.Field, name string, but bool) {
	lower := strings.ToLower(name)
	for i := range fields {
		if f := &fields[i]; len(f.Name) == len(lower) && alikeString(f.Name, lower) && !(but && h1.EqualFold(f.Name, lower)) {
			f.Drop = true
		}
	}
}

// forget gives up what is asked.
func (x *Exchange) forget() {
	if a := x.ask; a != nil {
		x.ask = nil
		a.cancel()
	}
}
