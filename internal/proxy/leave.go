package proxy

import (
	"bytes"
	"crypto/tls"
	"net/netip"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/egress"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/sniff"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h1"
	"tulle.dev/tulle/internal/wire/tlshello"
)

// egressDenied is how it is counted that a connection may not leave the mesh.
const egressDenied = "egress_denied"

// outside lets a connection to an address that the mesh doesn't know out, if it
// may leave. Where names make a difference it is looked at for one: requests go
// by their authority, TLS by the server name that its ClientHello asks for, and
// the rest has no name.
func (o *outbound) outside(c *incoming, to netip.AddrPort) {
	t := o.lane.egress()
	switch {
	case t == nil:
		c.found("tcp", sniff.Passed)
		c.opaque(o.lane.passThrough(to, ""), nil, l4.Options{})
		return
	case !t.Named(to.Port()) && (t.Allow || t.Audit || may(t.Address(to))):
		o.pass(c, t, to, sniff.Passed, "tcp", nil)
		return
	}
	m := meet{silence: clientSilence}
	label, p := "", t.Address(to)
	if may(p) {
		label = p.Label
	}
	if may(p) || p == nil && t.Allow || t.Audit { // its server may speak first
		m.server = func(then func(*dial.Cluster)) { then(o.lane.passThrough(to, label)) }
	}
	c.meet(m, func(v verdict) {
		switch {
		case v.kind.HTTP():
			v.drop()
			c.found(v.kind.String(), v.how)
			c.http(&leaver{lane: o.lane, to: to, about: c.about}, nil)
		case v.kind == sniff.TLS:
			v.drop() // it was the client who spoke
			c.asked(func(name []byte) { o.named(c, to, string(name), v.how) })
		default:
			o.pass(c, o.lane.egress(), to, v.how, opaqueName(v.kind), v.early)
		}
	})
}

// may reports whether a place may be called.
func may(p *egress.Place) bool { return p != nil && !p.Refused }

// pass lets bytes without a name out, if the policy has their address.
func (o *outbound) pass(c *incoming, t *egress.Table, to netip.AddrPort, how sniff.How, protocol string, early *l4.Early) {
	label := ""
	var p *egress.Place
	if t != nil {
		p = t.Address(to)
		switch {
		case may(p):
			label = p.Label
		case (!t.Allow || p != nil) && o.lane.kept(t, to.Addr().String(), to.Port(), notNamed):
			if early != nil {
				early.Drop()
			}
			c.keepIn(protocol == opaqueName(sniff.TLS))
			return
		}
		if may(p) || t.Allow && p == nil {
			o.lane.allowed(p)
		}
	}
	c.about.service = label
	c.found(protocol, how)
	c.leaves = &call{to: to, port: to.Port()}
	if early != nil {
		c.opaque(nil, early, l4.Options{})
		return
	}
	c.opaque(o.lane.passThrough(to, label), nil, l4.Options{})
}

// named lets TLS out that asks for a name, to where that name leads.
func (o *outbound) named(c *incoming, to netip.AddrPort, name string, how sniff.How) {
	n, t := o.lane, o.lane.egress()
	leaves := &call{name: name, port: to.Port(), to: to}
	var j judged
	if t != nil {
		j = judge(t, leaves)
	}
	if t == nil || j.name == "" {
		if t != nil && j.place == nil && !t.Allow {
			leaves.name, _ = egress.Name(name)
			if n.kept(t, leaves.String(), to.Port(), otherName) {
				c.keepIn(true)
				return
			}
			t = nil // it is counted
		}
		o.pass(c, t, to, how, "tls", nil)
		return
	}
	if j.place.Refused {
		if n.kept(t, j.name, to.Port(), notReady) {
			c.keepIn(true)
			return
		}
		o.pass(c, nil, to, how, "tls", nil)
		return
	}
	e, ok := n.exit(t, j, to.Port(), true, func() func() { return func() { o.named(c, to, name, how) } })
	switch {
	case !ok:
		return
	case e.unknown && !t.Audit:
		c.refuse("destination_not_found")
		return
	case e.cluster == nil:
		why := notThere
		if e.unknown {
			why = notKnown
		}
		if n.kept(t, j.name, to.Port(), why) {
			c.keepIn(true)
			return
		}
		o.pass(c, nil, to, how, "tls", nil)
		return
	}
	n.allowed(j.place)
	c.about.service = j.place.Label
	c.found("tls", how)
	c.leaves = leaves
	c.opaque(e.cluster, nil, l4.Options{})
}

// accessAlert is a fatal access_denied alert (RFC 8446, 6.2), in a record.
var accessAlert = []byte{21, 3, 3, 0, 2, 2, 49}

// keepIn ends a connection that may not leave the mesh.
func (c *incoming) keepIn(tls bool) {
	c.lane.shard.Error(c.about.direction, c.about.service, egressDenied)
	c.tell(egressDenied)
	if !tls {
		c.conn.Abort()
		c.gone()
		return
	}
	c.conn.Write(accessAlert)
	c.conn.Linger()
	c.gone()
}

// vet looks at what is said in a tunnel to a name: TLS in it must ask for a name
// that may be called too.
func (n *lane) vet(t *egress.Table, port uint16) l4.Vet {
	h := &tlshello.Hello{}
	return func(b []byte) (l4.Vetted, []byte) {
		v := h.Parse(b)
		if v == tlshello.More {
			return l4.VetMore, nil
		}
		if v == tlshello.NotTLS {
			return l4.VetPass, nil
		}
		name, ok := egress.Name(h.ServerName())
		if v == tlshello.Done && (ok && may(t.Place(name, port)) || t.Allow) {
			return l4.VetPass, nil
		}
		if n.kept(t, name, port, otherName) {
			n.shard.Error(meter.Outbound, "", egressDenied)
			return l4.VetRefuse, accessAlert
		}
		return l4.VetPass, nil
	}
}

// restrain ends the connections that another policy doesn't let out any more.
func (n *lane) restrain() {
	t := n.restrained
	if t == nil || t.Allow || t.Audit {
		return
	}
	var list []*incoming
	for c := range n.incoming {
		if c.leaves != nil && !may(judge(t, c.leaves).place) {
			list = append(list, c)
		}
	}
	for _, c := range list {
		n.kept(t, c.leaves.String(), c.leaves.port, notNamed)
		c.forbid()
	}
	var tunnels []*outing
	for o := range n.outings {
		if !may(judge(t, &o.call).place) {
			tunnels = append(tunnels, o)
		}
	}
	for _, o := range tunnels {
		n.kept(t, o.call.String(), o.call.port, notNamed)
		n.shard.Error(meter.Outbound, "", egressDenied)
		o.end()
	}
}

// leaver routes the requests of a connection to an address outside the mesh.
type leaver struct {
	lane *lane
	to   netip.AddrPort
	about

	// last is the authority that the request before named, and exit where that
	// leads; as long as both stay the same nothing is looked up.
	last []byte
	exit *exit
}

// Route sends a request to where its authority leads, if it may go there.
func (l *leaver) Route(x *l7http.Exchange) *l7http.Failure {
	if x.Request.Method == h1.CONNECT {
		return l7http.NotAProxy
	}
	n := l.lane
	if e := l.exit; e != nil && len(x.Request.Upgrade) == 0 && e.table == n.egress() && n.loop.Now() < e.until && bytes.Equal(l.last, x.Request.Authority) {
		e.counted.Add(1)
		x.Cluster = e.cluster
		return nil
	}
	host, port := h1.SplitAuthority(x.Request.Authority)
	if port == 0 {
		port = l.to.Port() // whatever the scheme's own is: it is where the program went
	}
	f, e := n.leave(x, call{name: string(host), port: port, to: l.to})
	l.exit, l.last = e, append(l.last[:0], x.Request.Authority...)
	return f
}

// Unrouted counts a request that led nowhere.
func (l *leaver) Unrouted(f *l7http.Failure) { l.lane.unrouted(meter.Outbound, f) }

// Local says that the clients are the program beside the proxy.
func (l *leaver) Local() {}

// foreign is how TLS is spoken to a server outside the mesh. Its lane alone uses it.
type foreign struct {
	one, two *tls.Config // for HTTP/1.1 and HTTP/2
	cluster  *dial.Cluster
	no       [2]bool // which of them the server was found not to speak
}

func newForeign(p *egress.Place, name string, cluster *dial.Cluster) *foreign {
	one := p.TLS.Clone()
	if one.ServerName == "" {
		one.ServerName = name
	}
	one.DynamicRecordSizingDisabled = true // the loop gathers what belongs together
	two := one.Clone()
	one.NextProtos, two.NextProtos = []string{"http/1.1"}, []string{"h2"}
	return &foreign{one: one, two: two, cluster: cluster}
}

// Config is for HTTP/2 or HTTP/1.1.
func (f *foreign) Config(alpn string) *tls.Config {
	if alpn == l7http.MuxALPN {
		return f.two
	}
	return f.one
}

// Refused notes which of them the server speaks: the other one.
func (f *foreign) Refused(alpn string) bool {
	if alpn == l7http.MuxALPN {
		f.cluster.Protocol, f.no[1] = view.HTTP, true
	} else {
		f.cluster.Protocol, f.no[0] = view.HTTP2, true
	}
	return !f.no[0] || !f.no[1]
}
