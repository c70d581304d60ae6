package guard

import (
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/meter"
)

// maxExplained bounds the refusals of one loop in a second of which it is found
// out which rule came nearest: that looks at every rule.
const maxExplained = 50

// Keeper is what the doors of one loop share.
type Keeper struct {
	shard     *meter.Shard
	log       *Log
	scratch   access.Scratch
	explained window
	// Bundle says who is trusted no more; the owner sets it.
	Bundle *identity.Bundle
	// Domain is the proxy's own trust domain.
	Domain identity.TrustDomain
	// strangers is what holds for callers of other trust domains where there are no
	// rules: nothing is allowed.
	strangers *access.Table
}

// NewKeeper makes the Keeper of a loop, which counts in shard.
func NewKeeper(shard *meter.Shard, log *Log) *Keeper { return &Keeper{shard: shard, log: log} }

// foreign reports whether an id is of another trust domain, and has the table for
// such callers ready then.
func (k *Keeper) foreign(id identity.ID) bool {
	if id.IsZero() || k.Domain == "" || id.TrustDomain == k.Domain {
		return false
	}
	if k.strangers == nil {
		k.strangers, _ = access.Compile(access.Spec{Default: access.Allow}, k.Domain) // nothing in it can be wrong
	}
	return true
}

// Log is where refusals are written.
func (k *Keeper) Log() *Log { return k.log }

// Name is how a peer is called in labels and rules of policies:
// "SERVICE-ACCOUNT.NAMESPACE", with "@TRUST-DOMAIN" when that is another one;
// empty for who proves nothing.
func (k *Keeper) Name(id identity.ID) string {
	switch {
	case id.IsZero():
		return ""
	case id.TrustDomain != k.Domain && k.Domain != "":
		return id.ServiceAccount + "." + id.Namespace + "@" + string(id.TrustDomain)
	}
	return id.ServiceAccount + "." + id.Namespace
}

// Door is the access rules of one listener.
type Door struct {
	keeper    *Keeper
	direction meter.Direction
	service   string
	table     *access.Table
	strict    bool
	observed  *observed // nil: nobody wants to know
}

// Door makes the door to a service, which lets everybody in until Update.
// observe says that it is remembered who asks for what.
func (k *Keeper) Door(d meter.Direction, service string, observe bool) *Door {
	door := &Door{keeper: k, direction: d, service: service}
	if observe {
		door.observed = newObserved()
	}
	return door
}

// Update takes other rules, nil for none, and reports whether that is a change:
// then callers should be looked at again. Decisions keep to the new rules at once.
// strict says that who proves nothing may not stay, whatever the rules.
func (d *Door) Update(service string, t *access.Table, strict bool) bool {
	changed := d.table != t || d.strict != strict
	d.service, d.table, d.strict = service, t, strict
	return changed
}

// Caller is who one connection is from.
type Caller struct {
	door    *Door
	peer    access.Peer
	name    string
	foreign bool // of another trust domain than the proxy
	expires time.Duration
	table   *access.Table   // that session is of
	session *access.Session // nil when the table enforces nothing
	routes  map[*access.Table]*access.Session
	counts  *[counters]counted
	seen    *seen
	last    Verdict
}

// Verdict is what access rules came to; the zero value is that there were none.
type Verdict struct {
	// Decision is a value of tulle_access_total's label of that name.
	Decision string
	// Rule decided; empty is the default.
	Rule string
}

// Last is the latest verdict about the caller: of Ask or Enter, or of what ended
// something under way.
func (c *Caller) Last() Verdict { return c.last }

// Init makes c the caller of a connection. expires is when the peer's certificate
// ends, as the loop counts; 0 is never.
func (c *Caller) Init(d *Door, p access.Peer, expires time.Duration) {
	*c = Caller{door: d, peer: p, name: d.keeper.Name(p.ID), foreign: d.keeper.foreign(p.ID), expires: expires}
}

// Name is Keeper.Name of the peer.
func (c *Caller) Name() string { return c.name }

// ID is who the peer has proven to be.
func (c *Caller) ID() identity.ID { return c.peer.ID }

// What is named in a rule's place where it isn't rules that keep a peer out.
const (
	ByBundle = "bundle/denied" // its identity, or its trust domain, is trusted no more
	ByMode   = "mode/strict"   // it proves nothing, and must now
)

// Barred says by what the peer is kept out whatever the rules; empty by nothing.
func (c *Caller) Barred() string {
	id, b := c.peer.ID, c.door.keeper.Bundle
	switch {
	case id.IsZero() && c.door.strict:
		return ByMode
	case id.IsZero() || b == nil:
		return ""
	case b.Denied(id) || len(b.Roots(id.TrustDomain)) == 0:
		return ByBundle
	}
	return ""
}

// Expires is when the peer's certificate ends, as the loop counts; 0 is never.
func (c *Caller) Expires() time.Duration { return c.expires }

// current returns the session with the door's rules; nil when they are none.
func (c *Caller) current() *access.Session {
	t := c.door.table
	if t == nil && c.foreign {
		t = c.door.keeper.strangers
	}
	if t != c.table {
		c.table, c.session, c.counts = t, nil, nil
		if t.Enforces() || c.foreign {
			c.session = t.Session(c.peer)
		}
	}
	return c.session
}

// maxRoutes bounds the routes' rules that a caller has sessions with.
const maxRoutes = 64

// route returns the session with a route's rules.
func (c *Caller) route(t *access.Table) *access.Session {
	if !t.Enforces() {
		return nil
	}
	s := c.routes[t]
	if s == nil {
		if c.routes == nil || len(c.routes) >= maxRoutes {
			c.routes = make(map[*access.Table]*access.Session)
		}
		s = t.Session(c.peer)
		c.routes[t] = s
	}
	return s
}

// counters is how many handles a caller keeps.
const counters = 4

type counted struct {
	table    *access.Table
	counter  *meter.Counter
	rule     int32
	decision meter.Access
}

// count counts a decision.
func (c *Caller) count(t *access.Table, decision meter.Access, rule int32) {
	if c.counts == nil {
		c.counts = new([counters]counted)
	}
	e := &c.counts[uint32(rule+1)%counters]
	if e.counter == nil || e.table != t || e.rule != rule || e.decision != decision {
		*e = counted{t, c.door.keeper.shard.Access(c.door.direction, c.door.service, c.name, decision, t.Rule(rule)), rule, decision}
	}
	e.counter.Add(1)
}
