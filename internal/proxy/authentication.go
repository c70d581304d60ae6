package proxy

import (
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
)

// This file is how requests meet what policies say of callers from elsewhere: whose
// tokens are believed, and who else is asked.

// proofs is a live.Authentication on one loop, ready for exchanges. The zero value
// says nothing.
type proofs struct {
	made     live.Authentication // what it was made of
	tokens   *l7http.Tokens
	external *l7http.External
}

// follow takes over what a listener, or one of its rules, says now.
func (p *proofs) follow(n *lane, a live.Authentication, d meter.Direction, l *live.Listener) {
	if p.made.Tokens != a.Tokens {
		p.tokens = n.http.NewTokens(a.Tokens, d, l.Destination)
		if p.tokens != nil {
			credentials := n.proxy.config.Live.Credentials()
			p.tokens.Denied = func(id identity.ID) bool { return credentials.Bundle().Denied(id) }
		}
		if a.Tokens != nil && n.prober != nil { // once for all loops
			for _, err := range a.Tokens.Skipped {
				n.proxy.config.Log.Warn("a key can't verify tokens", "service", l.Destination, "error", err)
			}
		}
	}
	if p.made.External != a.External {
		p.external = n.external(a.External, d, l)
	}
	p.made = a
}

// to lets it hold for an exchange. What it doesn't say stays.
func (p *proofs) to(x *l7http.Exchange) {
	if p.tokens != nil {
		x.Tokens = p.tokens
	}
	if p.external != nil {
		x.External = p.external
	}
}

// external is who is asked about a listener's requests.
func (n *lane) external(e *policy.External, d meter.Direction, l *live.Listener) *l7http.External {
	if e == nil {
		return nil
	}
	out := &l7http.External{Policy: e, Direction: d, Service: l.Destination, Address: l.Address}
	if p := n.proxy.config.Live.Table().Proxy; p != nil {
		out.Identity = p.Identity
	}
	out.Router = n.asker(e.Destination)
	return out
}

// asker leads to a port that is asked about requests.
func (n *lane) asker(destination string) *asker {
	to := &asker{lane: n, direction: meter.Outbound, key: destination}
	if p := n.proxy.config.Live.Table().Proxy; p != nil && p.Role == view.Gateway {
		to.direction = meter.Edge
	}
	return to
}

// asker routes questions about requests.
type asker struct {
	lane      *lane
	direction meter.Direction
	key       string
	cluster   *dial.Cluster
}

// Route sends it to the one place it is for.
func (a *asker) Route(x *l7http.Exchange) *l7http.Failure {
	n := a.lane
	if n.current().Destination(a.key) == nil && x.Once(askHost) && !n.ask(x.Resume(), live.DestinationKey(a.key)) {
		return l7http.Later
	}
	n.current()
	if a.cluster == nil {
		a.cluster = n.cluster(a.direction, a.key)
	}
	x.Cluster = a.cluster
	return n.known(x)
}

// Unrouted counts a question that led nowhere.
func (a *asker) Unrouted(f *l7http.Failure) { a.lane.unrouted(a.direction, f) }

// compute runs what is too long for a loop, nil with goroutines.
func (c *Config) compute() func(func()) {
	if c.Steps == nil {
		return nil
	}
	return c.Steps.Run
}
