package access

import (
	"bytes"
	"net/netip"
	"regexp"
	"strings"

	"tulle.dev/tulle/internal/identity"
)

// Peer is who a connection is from.
type Peer struct {
	// ID is the proven identity; zero when the connection proves none.
	ID identity.ID
	// Address is the client's.
	Address netip.Addr
	// ServerName is what the client's TLS asked for, if it said so.
	ServerName string
}

// Request is what is asked on a connection. Its bytes are only read.
type Request struct {
	Method []byte
	// Path is without the query, as it was sent.
	Path []byte
	// Authority is with or without a port.
	Authority []byte
	Fields    Fields // nil: none
	Claims    Claims // nil: the caller brought no token that holds
}

// Fields looks up a header field by name, in any case.
type Fields interface {
	Field(name string) (value []byte, ok bool)
}

// Claims are those of a verified token.
type Claims interface {
	// Claim reports whether there is a claim of that name, and, when values isn't
	// empty, one of them is among its values.
	Claim(name string, values []string) bool
}

// Decision is the answer. Rules are given by their place in the Spec, -1 is none.
type Decision struct {
	Action Action
	// Rule decided; -1 is the default.
	Rule int32
	// Audit says that what is in audit would have refused what was let pass, and
	// AuditRule by which rule (-1: because none allows it).
	Audit     bool
	AuditRule int32
}

// Session is a Table narrowed to one peer. It belongs to the loop of the
// connection.
type Session struct {
	table   *Table
	peer    Peer
	applies []uint64 // by rule: its From holds the peer
	deny    []int32  // of the index' rest, those that apply
	allow   []int32
	// paths say that the lookups by path may find something.
	denyPaths, allowPaths bool
	// foreign says that the peer is of another trust domain.
	foreign bool
	// fixed says that every request has this answer.
	fixed    bool
	decision Decision
}

// Scratch is memory that a loop lends to its decisions. The zero value is ready.
type Scratch struct{ form, low []byte }

// Session narrows the table to a peer. It allocates.
func (t *Table) Session(p Peer) *Session {
	s := &Session{table: t, peer: p, applies: make([]uint64, (len(t.spec.Rules)+63)/64), foreign: t.Foreign(p.ID)}
	any, who := false, t.caller(p)
	for i := range t.spec.Rules {
		if t.met(i, &who) {
			s.applies[i/64] |= 1 << (i % 64)
			any = true
		}
	}
	if !any {
		s.fixed, s.decision = true, s.decide(&Request{}, nil)
		return s
	}
	var denyPlain, allowPlain bool
	s.deny, s.denyPaths, denyPlain = s.narrow(&t.deny)
	s.allow, s.allowPaths, allowPlain = s.narrow(&t.allow)
	if denyPlain && allowPlain {
		s.decision, s.fixed = s.decide(&Request{}, nil), true
	}
	return s
}

// narrow returns the clauses outside the lookups that apply, whether the lookups
// hold any that do, and whether nothing of a request is ever looked at.
func (s *Session) narrow(x *index) (rest []int32, paths, plain bool) {
	plain = true
	for i := range x.clauses {
		c := &x.clauses[i]
		if !s.has(c.rule) {
			continue
		}
		r := &s.table.spec.Rules[c.rule]
		plain = plain && (c.op == nil || !c.op.looks()) && len(r.When) == 0
		if c.paths && c.path.Kind <= PathPrefix {
			paths = true
			continue
		}
		rest = append(rest, int32(i))
	}
	return rest, paths, plain
}

func (s *Session) has(rule int32) bool { return s.applies[rule/64]&(1<<(rule%64)) != 0 }

// caller is a peer as sources are compared with it.
type caller struct {
	Peer
	uri, account string
	own          bool // of the mesh's own trust domain
}

func (t *Table) caller(p Peer) caller {
	return caller{p, p.ID.String(), p.ID.Namespace + "/" + p.ID.ServiceAccount, !p.ID.IsZero() && p.ID.TrustDomain == t.domain}
}

// met says whether the From of a rule, by its place, holds the peer.
func (t *Table) met(rule int, p *caller) bool {
	from := t.sources[rule]
	for i := range from {
		if from[i].failing(p) == "" {
			return true
		}
	}
	return len(from) == 0
}

// failing returns "" when the source holds the peer, else what of it fails.
func (s *source) failing(p *caller) string {
	switch {
	case len(s.Identities) > 0 && !anyPattern(s.Identities, p.uri):
		return "identity"
	case len(s.ServiceAccounts) > 0 && !(p.own && anyOf(s.ServiceAccounts, p.account)):
		return "service account"
	case len(s.Namespaces) > 0 && !(p.own && anyOf(s.Namespaces, p.ID.Namespace)):
		return "namespace"
	case len(s.TrustDomains) > 0 && (p.ID.IsZero() || !anyOf(s.TrustDomains, string(p.ID.TrustDomain))):
		return "trust domain"
	case len(s.networks) > 0 && !contains(s.networks, p.Address):
		return "network"
	case len(s.NotIdentities) > 0 && anyPattern(s.NotIdentities, p.uri):
		return "excluded identity"
	case len(s.NotServiceAccounts) > 0 && p.own && anyOf(s.NotServiceAccounts, p.account):
		return "excluded service account"
	case len(s.NotNamespaces) > 0 && p.own && anyOf(s.NotNamespaces, p.ID.Namespace):
		return "excluded namespace"
	case len(s.notNetworks) > 0 && contains(s.notNetworks, p.Address):
		return "excluded network"
	}
	return ""
}

func anyOf(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func anyPattern(list []string, s string) bool {
	for _, x := range list {
		if matches(x, s) {
			return true
		}
	}
	return false
}

func matches(pattern, s string) bool {
	if p, ok := strings.CutSuffix(pattern, "*"); ok {
		return s != "" && strings.HasPrefix(s, p)
	}
	return pattern == s
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// Request decides about a request. It doesn't allocate once the scratch has grown.
func (s *Session) Request(r *Request, m *Scratch) Decision {
	if s.fixed {
		return s.decision
	}
	return s.decide(r, m)
}

// Fixed reports whether every request on the connection has the same answer.
func (s *Session) Fixed() bool { return s.fixed }

// Connection decides about a connection of which the requests can't be seen. An
// Allow that looks at requests isn't met; a Deny that does is, unless it says
// otherwise.
func (s *Session) Connection() Decision {
	return s.decide(nil, nil)
}

// decide is all decisions; r is nil when requests can't be seen.
func (s *Session) decide(r *Request, m *Scratch) Decision {
	t := s.table
	v := verdict{session: s, request: r, audit: -1, rule: -1}
	if r != nil && m != nil && (s.denyPaths || s.allowPaths || len(s.deny)+len(s.allow) > 0) {
		v.form, v.odd = normal(m.form[:0], r.Path)
		m.form = v.form
		if s.denyPaths || len(s.deny) > 0 {
			m.low = append(m.low[:0], v.form...)
			lower(m.low)
			v.low = m.low
		}
	}
	d := Decision{Rule: -1, AuditRule: -1}
	if v.any(&t.deny, s.deny, s.denyPaths, true) {
		return Decision{Action: Deny, Rule: v.rule, AuditRule: -1}
	}
	denied := v.audit
	v.audit = -1
	allowed := v.any(&t.allow, s.allow, s.allowPaths, false)
	switch {
	case allowed:
		d.Action, d.Rule = Allow, v.rule
	default:
		d.Action = t.spec.Default
		if s.foreign && t.spec.Foreign == Deny {
			d.Action = Deny
		}
	}
	if d.Action == Allow {
		switch {
		case denied >= 0:
			d.Audit, d.AuditRule = true, denied
		case !allowed && v.audit < 0 && t.shadow == Deny:
			d.Audit = true
		}
	}
	return d
}

// verdict is one decision in the making.
type verdict struct {
	session *Session
	request *Request
	form    []byte // of the path
	low     []byte // the same in lower case
	odd     bool
	rule    int32 // that was met
	audit   int32 // the first in audit that was met
}

// any reports whether a rule of the index is met that isn't in audit.
func (v *verdict) any(x *index, rest []int32, paths, deny bool) bool {
	if v.request == nil { // the lookups' clauses all look at requests
		for i := range x.clauses {
			if v.blind(&x.clauses[i], deny) {
				return true
			}
		}
		return false
	}
	if v.all(x, rest, deny) {
		return true
	}
	if !paths || v.odd && !deny {
		return false
	}
	form := v.form
	if deny {
		form = v.low
	}
	if v.all(x, x.exact[string(form)], deny) {
		return true
	}
	if len(x.prefix) == 0 {
		return false
	}
	return v.prefixes(x, form, deny)
}

// prefixes tries each beginning of the path, no longer than the longest that any
// rule has.
func (v *verdict) prefixes(x *index, form []byte, deny bool) bool {
	depth := 0
	for at := 0; ; {
		// form[:at] is a beginning of depth segments.
		if v.all(x, x.prefix[string(form[:at])], deny) {
			return true
		}
		if at >= len(form) || depth == x.depth {
			return false
		}
		depth++
		if i := bytes.IndexByte(form[at+1:], '/'); i >= 0 {
			at += 1 + i
		} else {
			at = len(form)
		}
	}
}

// all tries clauses by their places.
func (v *verdict) all(x *index, list []int32, deny bool) bool {
	for _, i := range list {
		c := &x.clauses[i]
		if v.session.has(c.rule) && v.meets(c, deny) == "" && v.hit(c.rule) {
			return true
		}
	}
	return false
}

// hit notes a rule that is met and reports whether it counts.
func (v *verdict) hit(rule int32) bool {
	if v.session.table.spec.Rules[rule].Audit {
		if v.audit < 0 {
			v.audit = rule
		}
		return false
	}
	v.rule = rule
	return true
}

// blind is about connections whose requests can't be seen.
func (v *verdict) blind(c *clause, deny bool) bool {
	if !v.session.has(c.rule) {
		return false
	}
	r := &v.session.table.spec.Rules[c.rule]
	if c.op != nil && len(c.op.ServerNames) > 0 && !anyHost(c.op.ServerNames, v.session.peer.ServerName) {
		return false
	}
	looks := c.op != nil && c.op.looks() || len(r.When) > 0
	if looks && (!deny || r.AllowUnenforceable) {
		return false
	}
	return v.hit(c.rule)
}

// meets returns "" when the request meets the clause (its sources are known to),
// else what of it fails.
func (v *verdict) meets(c *clause, deny bool) string {
	r := v.request
	if o := c.op; o != nil {
		switch {
		case len(o.Methods) > 0 && !anyBytes(o.Methods, r.Method):
			return "method"
		case len(o.NotMethods) > 0 && anyBytes(o.NotMethods, r.Method):
			return "excluded method"
		case c.paths && !v.path(&c.path, c.regex, deny):
			return "path"
		}
		for i := range c.not {
			if n := &c.not[i]; v.path(&n.Path, n.regex, !deny) {
				return "excluded path"
			}
		}
		if len(o.Hosts) > 0 && !anyAuthority(o.Hosts, r.Authority) {
			return "host"
		}
		if len(o.ServerNames) > 0 && !anyHost(o.ServerNames, v.session.peer.ServerName) {
			return "server name"
		}
		for i := range o.Headers {
			if !o.Headers[i].met(r.Fields) {
				return "header " + o.Headers[i].Name
			}
		}
	}
	for i, list := 0, v.session.table.spec.Rules[c.rule].When; i < len(list); i++ {
		if r.Claims == nil || !r.Claims.Claim(list[i].Name, list[i].Values) {
			return "claim " + list[i].Name
		}
	}
	return ""
}

// path compares the request's path. folded is the careful way: without regard to
// case, and whatever the path's spelling was; otherwise the path must be plain.
func (v *verdict) path(p *Path, regex *regexp.Regexp, folded bool) bool {
	form := v.form
	if folded {
		form = v.low
		if form == nil {
			form = bytes.ToLower(v.form) // rare: an Allow that excludes a path
		}
	} else if v.odd {
		return false
	}
	switch p.Kind {
	case PathExact:
		return string(form) == p.Value
	case PathPrefix:
		return len(form) >= len(p.Value) && string(form[:len(p.Value)]) == p.Value && (len(form) == len(p.Value) || form[len(p.Value)] == '/')
	case PathMethod:
		if len(form) == 0 {
			return false
		}
		i := bytes.IndexByte(form[1:], '/')
		return i > 0 && string(form[i+2:]) == p.Value
	}
	return regex.Match(form)
}

func anyBytes(list []string, b []byte) bool {
	for _, x := range list {
		if x == string(b) {
			return true
		}
	}
	return false
}

func anyAuthority(list []string, authority []byte) bool {
	host := authority
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	for _, pattern := range list {
		if hostMatches(pattern, host) {
			return true
		}
	}
	return false
}

func anyHost(list []string, name string) bool {
	for _, pattern := range list {
		if name != "" && hostMatches(pattern, []byte(name)) {
			return true
		}
	}
	return false
}

// hostMatches compares in any case; "*.x" is any name below x.
func hostMatches(pattern string, host []byte) bool {
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if rest, ok := strings.CutPrefix(pattern, "*"); ok {
		if len(host) <= len(rest) {
			return false
		}
		host, pattern = host[len(host)-len(rest):], rest
	}
	if len(host) != len(pattern) {
		return false
	}
	for i, c := range host {
		p := pattern[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if 'A' <= p && p <= 'Z' {
			p |= 0x20
		}
		if c != p {
			return false
		}
	}
	return true
}

func (h *Header) met(f Fields) bool {
	var value []byte
	ok := false
	if f != nil {
		value, ok = f.Field(h.Name)
	}
	fits := ok && len(h.Values) == 0
	for _, want := range h.Values {
		if p, any := strings.CutSuffix(want, "*"); any {
			fits = fits || ok && len(value) >= len(p) && string(value[:len(p)]) == p
		} else {
			fits = fits || ok && string(value) == want
		}
	}
	return fits != h.Not
}
