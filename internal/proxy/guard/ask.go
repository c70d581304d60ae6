package guard

import (
	"strings"
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/proxy/meter"
)

// Refusal says why something isn't allowed.
type Refusal struct {
	// Rule refused; empty when no rule allows it.
	Rule string
	// Nearest is the rule that came nearest to allowing it and Clause what of it
	// failed, when that was found out.
	Nearest, Clause string
	// Tell says that the client may know.
	Tell bool

	caller *Caller
	method string
	path   string
}

// Text is one sentence, in printable ASCII.
func (r *Refusal) Text() string {
	s := "No access rule allows it"
	switch {
	case r.Rule != "":
		s = "Access rule " + r.Rule + " denies it"
	case r.Nearest != "":
		s += "; " + r.Nearest + " would, but for its " + r.Clause
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || c == '%' {
			return '?'
		}
		return c
	}, s) + "."
}

var verdictAllowed, verdictAudit = meter.Allowed.String(), meter.Audit.String()

// Ask decides about a request and counts that. route is the rules of the route
// that it takes, nil for none. It returns nil when the request is allowed, and
// doesn't allocate then.
func (c *Caller) Ask(r *access.Request, route *access.Table, now time.Duration) *Refusal {
	var refusal *Refusal
	c.last = Verdict{}
	if s := c.current(); s != nil {
		refusal = c.ask(s, c.table, r, now)
	}
	if refusal == nil && route != nil {
		if s := c.route(route); s != nil {
			refusal = c.ask(s, route, r, now)
		}
	}
	if o := c.door.observed; o != nil {
		o.note(c, r.Method, r.Path, refusal != nil, now)
	}
	return refusal
}

// Enter decides about a connection whose requests can't be seen, and counts that.
func (c *Caller) Enter(now time.Duration) *Refusal {
	var refusal *Refusal
	c.last = Verdict{}
	if s := c.current(); s != nil {
		refusal = c.ask(s, c.table, nil, now)
	}
	if o := c.door.observed; o != nil {
		o.note(c, nil, nil, refusal != nil, now)
	}
	return refusal
}

func (c *Caller) ask(s *access.Session, t *access.Table, r *access.Request, now time.Duration) *Refusal {
	k := c.door.keeper
	d := access.Decision{}
	if r == nil {
		d = s.Connection()
	} else {
		d = s.Request(r, &k.scratch)
	}
	if d.Action == access.Allow {
		c.count(t, meter.Allowed, d.Rule)
		if c.last.Decision != verdictAudit { // by the listener's rules, before the route's
			c.last = Verdict{verdictAllowed, t.Rule(d.Rule)}
		}
		if d.Audit {
			c.count(t, meter.Audit, d.AuditRule)
			c.last = Verdict{verdictAudit, t.Rule(d.AuditRule)}
			if k.log.audited.take(now, maxLines) {
				c.logAudit(t.Rule(d.AuditRule), r)
			}
		}
		return nil
	}
	c.count(t, meter.Denied, d.Rule)
	c.last = Verdict{meter.Denied.String(), t.Rule(d.Rule)}
	f := &Refusal{Rule: t.Rule(d.Rule), Tell: t.Explains(), caller: c}
	if r != nil {
		f.method, f.path = plain(r.Method), plain(r.Path)
	}
	if d.Rule < 0 && k.explained.take(now, maxExplained) {
		why := s.Explain(r)
		f.Nearest, f.Clause = why.Nearest, why.Clause
	}
	return f
}

// Log writes the refusal to the log, unless there were too many. id is the story's.
func (f *Refusal) Log(id string, now time.Duration) {
	l := f.caller.door.keeper.log
	if !l.refused.take(now, maxLines) {
		return
	}
	missed := l.refused.missed.Swap(0)
	l.write(&l.refused, func() {
		l.log.Warn("access denied", append(f.caller.describe(), "method", f.method, "path", f.path,
			"rule", f.Rule, "nearest", f.Nearest, "clause", f.Clause, "id", id, "unlogged", missed)...)
	})
}

func (c *Caller) logAudit(rule string, r *access.Request) {
	l := c.door.keeper.log
	missed := l.audited.missed.Swap(0)
	args := c.describe()
	if r != nil {
		args = append(args, "method", plain(r.Method), "path", plain(r.Path))
	}
	args = append(args, "rule", rule, "unlogged", missed)
	l.write(&l.audited, func() { l.log.Info("access would be denied", args...) })
}

// describe is who it is, for a line of the log.
func (c *Caller) describe() []any {
	return []any{"direction", c.door.direction.String(), "service", c.door.service, "peer", c.peer.ID.String(), "address", c.peer.Address.String()}
}

// Forbidden looks at the connection again: whether it must end with all that is
// under way on it, because the peer is trusted no more or no request of it can be
// allowed. opaque says that its requests can't be seen. It counts what it ends.
func (c *Caller) Forbidden(opaque bool, now time.Duration) bool {
	s := c.current()
	if by := c.Barred(); by != "" {
		c.bar(by, nil, now)
		return true
	}
	if s == nil || !opaque && !s.Fixed() {
		return false
	}
	d := access.Decision{}
	if opaque {
		d = s.Connection()
	} else {
		d = s.Request(&access.Request{}, &c.door.keeper.scratch)
	}
	return c.ended(c.table, d, nil, now)
}

func (c *Caller) bar(by string, r *access.Request, now time.Duration) {
	c.door.keeper.shard.Access(c.door.direction, c.door.service, c.name, meter.Ended, by).Add(1)
	c.last = Verdict{meter.Ended.String(), by}
	c.logEnded(by, r, now)
}

// Withdrawn looks again at a request that is under way: whether it is allowed no
// more. It counts what it ends.
func (c *Caller) Withdrawn(r *access.Request, route *access.Table, now time.Duration) bool {
	k := c.door.keeper
	if by := c.Barred(); by != "" {
		c.bar(by, r, now)
		return true
	}
	if s := c.current(); s != nil && c.ended(c.table, s.Request(r, &k.scratch), r, now) {
		return true
	}
	if route == nil {
		return false
	}
	s := c.route(route)
	return s != nil && c.ended(route, s.Request(r, &k.scratch), r, now)
}

func (c *Caller) ended(t *access.Table, d access.Decision, r *access.Request, now time.Duration) bool {
	if d.Action == access.Allow {
		return false
	}
	c.count(t, meter.Ended, d.Rule)
	c.last = Verdict{meter.Ended.String(), t.Rule(d.Rule)}
	c.logEnded(t.Rule(d.Rule), r, now)
	return true
}

func (c *Caller) logEnded(rule string, r *access.Request, now time.Duration) {
	l := c.door.keeper.log
	if !l.withdrawn.take(now, maxLines) {
		return
	}
	missed := l.withdrawn.missed.Swap(0)
	args := c.describe()
	if r != nil {
		args = append(args, "method", plain(r.Method), "path", plain(r.Path))
	}
	args = append(args, "rule", rule, "unlogged", missed)
	l.write(&l.withdrawn, func() { l.log.Warn("access withdrawn", args...) })
}
