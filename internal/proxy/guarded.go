package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/guard"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
)

// This file is how connections meet access rules: whose they are, whether they may
// come in, and what happens to open ones when the rules or the identities that are
// trusted change.

// accessDenied is how it is counted that a connection was refused or ended by an
// access rule.
const accessDenied = "access_denied"

// guarded lets a door keep to its listener's rules. When they are others than
// before, or may be, all that is open is looked at again.
func (n *lane) guarded(d *guard.Door, l *live.Listener) {
	if d.Update(l.Destination, l.Access, l.Kind == view.Inbound && !l.Plaintext) || l.RouteAccess != nil {
		n.recheckSoon()
	}
}

// trust takes over whose certificates are believed.
func (n *lane) trust(t *live.Table) {
	n.keeper.Domain = identity.TrustDomain(t.Proxy.TrustDomain)
	if b := n.proxy.config.Live.Credentials().Bundle(); b != n.keeper.Bundle {
		n.keeper.Bundle = b
		n.recheckSoon()
	}
}

func (n *lane) recheckSoon() {
	if !n.rechecking {
		n.rechecking = true
		n.loop.Later(n.recheck)
	}
}

// recheck ends what is open and isn't allowed any more.
func (n *lane) recheck() {
	n.rechecking = false
	n.http.Recheck()
	var list []*incoming
	for c := range n.incoming {
		if c.caller != nil {
			list = append(list, c)
		}
	}
	n.recheckOpaque(list)
	for _, c := range n.clusters {
		for _, e := range c.Endpoints() {
			if e.Identity == "" {
				continue
			}
			if id, err := identity.Parse(e.Identity); err == nil && n.keeper.Bundle != nil && !n.keeper.Bundle.Trusts(id) {
				dial.PoolOf(e).Drop() // no new request goes there: the handshake fails
			}
		}
	}
}

// recheckAtOnce bounds how many opaque connections are looked at in one turn of
// the loop.
const recheckAtOnce = 64

func (n *lane) recheckOpaque(list []*incoming) {
	for _, c := range list[:min(len(list), recheckAtOnce)] {
		if _, there := n.incoming[c]; there && c.caller.Forbidden(true, n.loop.Now()) {
			c.forbid()
		}
	}
	if len(list) > recheckAtOnce {
		n.loop.Post(func() { n.recheckOpaque(list[recheckAtOnce:]) })
	}
}

// forbid ends an opaque connection.
func (c *incoming) forbid() {
	if c.carried == nil { // it isn't known yet where it goes
		c.forbidden = true
		return
	}
	c.lane.shard.Error(c.about.direction, c.about.service, accessDenied)
	c.reason = accessDenied
	if c.caller != nil { // else the egress policy doesn't let it out
		c.judged = c.caller.Last()
	}
	c.tell(accessDenied)
	c.carried.Reset()
}

// retirer is a lane whose timer for clients' certificates is over.
type retirer lane

const (
	// retireEvery is how often connections are looked at for a peer's certificate
	// that has ended, at most.
	retireEvery = time.Second
	// retireLook is how often it is looked at the time until then: timers are the
	// less exact the longer they are.
	retireLook = 10 * time.Second
)

// Expire lets connections end whose client's certificate has.
func (r *retirer) Expire(*loop.Timer) {
	n := (*lane)(r)
	now := n.loop.Now()
	if n.retireDue <= now || n.http.Open() == 0 {
		n.retireDue = sooner(n.http.Retire(), n.outlived())
	}
	if n.retireDue != 0 {
		n.retiring.Set(min(max(n.retireDue-now, retireEvery), retireLook))
	}
}

// sooner is the earlier of two moments; 0 is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// outlived ends opaque connections whose peer's certificate has ended, on either
// side, where they are to. It returns when to look again; 0 is never.
func (n *lane) outlived() (next time.Duration) {
	if !n.http.EndExpired {
		return 0
	}
	now := n.loop.Now()
	var list []*incoming
	for c := range n.incoming {
		switch at := c.ends(); {
		case at == 0:
		case at+l7http.ExpiredGrace <= now:
			list = append(list, c)
		default:
			next = sooner(next, at+l7http.ExpiredGrace)
		}
	}
	for _, c := range list {
		n.shard.Error(c.about.direction, c.about.service, l7http.PeerExpired)
		c.carried.Reset()
	}
	if next == 0 && len(n.incoming) > 0 {
		return now + retireLook // they may be on their way
	}
	return next
}

// ends is when a certificate ends that an opaque connection was made with, the
// client's or the endpoint's; 0 is never.
func (c *incoming) ends() (at time.Duration) {
	if c.carried == nil {
		return 0
	}
	if c.caller != nil {
		at = c.caller.Expires()
	}
	if end := c.carried.Expires(); !end.IsZero() {
		at = sooner(at, l7http.Expiry(c.lane.loop, end))
	}
	return at
}

// endExpired says whether what is under way ends with the certificates.
func (n *lane) endExpired(yes bool) {
	if n.http.EndExpired != yes {
		n.http.EndExpired = yes
		n.retireAt(n.loop.Now())
	}
}

// retireAt makes sure that connections are looked at then.
func (n *lane) retireAt(at time.Duration) {
	if n.retireDue == 0 || at < n.retireDue {
		n.retireDue = at
		n.retiring.Set(min(max(at-n.loop.Now(), retireEvery), retireLook))
	}
}

// caller is whose a connection to an inbound listener is.
func (in *inbound) caller(c *incoming, id identity.ID, state tls.ConnectionState) *guard.Caller {
	who := &guard.Caller{}
	expires := time.Duration(0)
	if len(state.PeerCertificates) > 0 {
		expires = l7http.Expiry(in.lane.loop, state.PeerCertificates[0].NotAfter)
		in.lane.retireAt(expires)
	}
	who.Init(in.door, access.Peer{ID: id, Address: c.conn.Peer().Addr(), ServerName: state.ServerName}, expires)
	return who
}

// router is for the requests of a connection.
func (in *inbound) router(c *incoming, series *meter.Traffic, who *guard.Caller) *inboundRouter {
	r := &inboundRouter{inbound: in, series: series, who: who, about: c.about}
	if id := who.ID(); !id.IsZero() {
		r.uri = []byte(id.String())
	}
	return r
}

// Caller is whose the connection is.
func (r *inboundRouter) Caller() *guard.Caller { return r.who }

// Access is nil: an inbound listener has no routes.
func (r *inboundRouter) Access(string) *access.Table { return nil }

// enter reports whether an opaque connection may come in; else it is reset.
func (c *incoming) enter(who *guard.Caller) bool {
	now := c.lane.loop.Now()
	refusal := who.Enter(now)
	c.judged = who.Last()
	if refusal != nil {
		refusal.Log("", now)
		c.text = refusal.Text()
		if c.refusedBy = refusal.Rule; c.refusedBy == "" {
			c.refusedBy = refusal.Nearest
		}
		c.refuse(accessDenied)
		return false
	}
	c.caller = who
	return true
}

// visitor makes the router of a connection from outside the mesh.
func (e *edge) visitor(peer netip.AddrPort, name string) *visitor {
	v := &visitor{edge: e}
	v.who.Init(e.door, access.Peer{Address: peer.Addr(), ServerName: name}, 0)
	return v
}

// Caller is whose the connection is.
func (n *visitor) Caller() *guard.Caller { return &n.who }

// Access is the rules that the route has now.
func (n *visitor) Access(name string) *access.Table {
	l := n.edge.listener
	if l.Routes == nil {
		return nil
	}
	rules := l.Routes.Rules()
	for i, t := range l.RouteAccess {
		if t != nil && rules[i].Name == name {
			return t
		}
	}
	return nil
}

// enter reports whether an opaque connection from outside the mesh may come in;
// else it is reset.
func (e *edge) enter(c *incoming, name []byte) bool {
	who := &guard.Caller{}
	who.Init(e.door, access.Peer{Address: c.conn.Peer().Addr(), ServerName: string(name)}, 0)
	return c.enter(who)
}

// named goes on with an opaque connection that may come in. The client's server
// name is waited for where routes or rules are for one.
func (e *edge) named(c *incoming, wanted bool, then func(name []byte)) {
	if !wanted && !e.listener.Access.LooksAtServerNames() {
		if e.enter(c, nil) {
			then(nil)
		}
		return
	}
	c.asked(func(name []byte) {
		if e.enter(c, name) {
			then(name)
		}
	})
}

// distrust counts and logs that a handshake failed.
func (c *incoming) distrust(err error) {
	reason := distrusted(err)
	c.lane.shard.Error(c.about.direction, c.about.service, reason)
	c.reason = reason
	if reason == brokenHandshake {
		c.lane.proxy.config.Log.Debug("handshake failed", "peer", c.conn.Peer(), "error", err)
		return
	}
	c.lane.proxy.refusals.Handshake(c.lane.loop.Now(), c.about.service, c.conn.Peer().String(), reason, err)
}

// errPlaintext is a client that doesn't prove anything where it must.
var errPlaintext = errors.New("plaintext, and this port takes mutual TLS only")

// brokenHandshake is a handshake that failed for another reason than who the
// client is.
const brokenHandshake = "tls_handshake"

// distrusted is why a client isn't believed who it is.
func distrusted(err error) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var deniedError *identity.DeniedError
	var domain *identity.DomainError
	var form *identity.FormError
	switch {
	case err == errPlaintext:
		return "plaintext_refused"
	case errors.As(err, &deniedError):
		return "peer_identity_denied"
	case errors.As(err, &domain):
		return "peer_trust_domain_unknown"
	case errors.As(err, &form):
		return "peer_certificate_malformed"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "peer_certificate_expired" // or not valid yet
	case errors.As(err, &invalid), errors.As(err, &unknown):
		return "peer_certificate_untrusted"
	}
	return brokenHandshake
}

// Callers tells who asked the programs behind the proxy for what (admin's dump).
func (p *Proxy) Callers() any {
	var lists [][]guard.Observed
	p.inspect(func(n *lane) {
		for _, s := range n.ports {
			if in, ok := s.layers.(*inbound); ok {
				lists = append(lists, in.door.Observed(n.loop.Now()))
			}
		}
	})
	return guard.Merge(lists...)
}
