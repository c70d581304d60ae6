package names

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"tulle.dev/tulle/internal/proxy/egress"
	"tulle.dev/tulle/internal/proxy/live"
)

const (
	// ttl is how long programs may keep an answer, in seconds.
	ttl = 5
	// udpLimit is the size of an answer without EDNS (RFC 1035, 4.2.1).
	udpLimit = 512
	// ednsSize is the size of datagrams that this server takes.
	ednsSize = 1232

	// extendedError is the EDNS option for why there is no answer, and blocked the
	// reason that an operator's policy doesn't let there be one (RFC 8914, 4.16).
	extendedError = 15
	blocked       = 15

	localhost      = "localhost"
	serverFailure  = dnsmessage.RCodeServerFailure
	defaultCluster = "cluster.local"
)

// query is a query that could be read.
type query struct {
	raw      []byte
	header   dnsmessage.Header
	question dnsmessage.Question
	// name is in lower case, without the final dot.
	name string
	// rcode is why it can't be answered; RCodeSuccess: it can.
	rcode dnsmessage.RCode
	// edns says that there was an OPT record; size is what it allows.
	edns bool
	size int
	// why is an Extended DNS Error of the answer (RFC 8914); 0 is none.
	why uint16
}

// parse reads a query; nil means that it isn't one and gets no answer.
func parse(b []byte) *query {
	q := &query{raw: b, size: udpLimit}
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.Response {
		return nil
	}
	q.header = h
	if h.OpCode != 0 {
		q.rcode = dnsmessage.RCodeNotImplemented
		return q
	}
	q.question, err = p.Question()
	if err != nil {
		q.rcode = dnsmessage.RCodeFormatError
		return q
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		q.question = dnsmessage.Question{} // several: nobody sends that
		q.rcode = dnsmessage.RCodeFormatError
		return q
	}
	q.name = strings.ToLower(strings.TrimSuffix(q.question.Name.String(), "."))
	q.readEDNS(&p)
	return q
}

func (q *query) readEDNS(p *dnsmessage.Parser) {
	bad := func(err error) bool { return err != nil && !errors.Is(err, dnsmessage.ErrSectionDone) }
	if bad(p.SkipAllAnswers()) || bad(p.SkipAllAuthorities()) {
		q.rcode = dnsmessage.RCodeFormatError
		return
	}
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return
		}
		if err != nil {
			q.rcode = dnsmessage.RCodeFormatError
			return
		}
		if h.Type == dnsmessage.TypeOPT {
			if q.edns { // RFC 6891, 6.1.1: only one
				q.rcode = dnsmessage.RCodeFormatError
				return
			}
			q.edns = true
			q.size = max(udpLimit, int(h.Class))
		}
		if err := p.SkipAdditional(); err != nil {
			q.rcode = dnsmessage.RCodeFormatError
			return
		}
	}
}

// failure is an answer that holds only the reason why there is none.
func (q *query) failure(code dnsmessage.RCode) []byte { return q.build(code, nil, maxTCP) }

// build makes an answer of at most limit bytes; one that is longer is cut and
// marked so.
func (q *query) build(code dnsmessage.RCode, records []dnsmessage.Resource, limit int) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.header.ID, Response: true, OpCode: q.header.OpCode, RCode: code,
			Authoritative:      code == dnsmessage.RCodeSuccess || code == dnsmessage.RCodeNameError,
			RecursionDesired:   q.header.RecursionDesired,
			RecursionAvailable: true,
		},
		Answers: records,
	}
	if q.question.Name.Length > 0 {
		m.Questions = []dnsmessage.Question{q.question}
	}
	if q.edns {
		var h dnsmessage.ResourceHeader
		h.SetEDNS0(ednsSize, dnsmessage.RCodeSuccess, false) // never fails for these
		opt := &dnsmessage.OPTResource{}
		if q.why != 0 {
			opt.Options = []dnsmessage.Option{{Code: extendedError, Data: binary.BigEndian.AppendUint16(nil, q.why)}}
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: opt}}
	}
	b, err := m.Pack()
	for err == nil && len(b) > limit && len(m.Answers) > 0 {
		m.Truncated = true
		m.Answers = m.Answers[:len(m.Answers)/2]
		b, err = m.Pack()
	}
	if err != nil {
		return nil
	}
	return b
}

// kind says how a name is related to the mesh.
type kind uint8

const (
	foreign kind = iota
	// maybe: a service's name if the mesh knows it, else somebody else's.
	maybe
	// ours: under the cluster domain; if the mesh doesn't know it, it isn't there.
	ours
	// reverse: an address.
	reverse
)

// classify says what a query's name may be, and the key of its look-up.
func (s *Server) classify(q *query) (kind, string) {
	if q.question.Class != dnsmessage.ClassINET && q.question.Class != dnsmessage.ClassANY {
		return foreign, ""
	}
	if addr, ok := reverseAddr(q.name); ok {
		return reverse, live.HostKey(addr.String())
	}
	key := live.HostKey(q.name)
	cluster := s.clusterDomain()
	if rest, ok := strings.CutSuffix(q.name, "."+cluster); ok {
		labels := strings.Split(rest, ".")
		if len(labels) == 3 && labels[2] == "svc" {
			return ours, key
		}
		return ours, "" // nothing else lives there yet
	}
	if q.name == cluster {
		return ours, ""
	}
	labels := strings.Split(q.name, ".")
	switch {
	case q.name == "", q.name == localhost:
		return foreign, ""
	case len(labels) <= 2, len(labels) == 3 && labels[2] == "svc":
		return maybe, key
	}
	return foreign, ""
}

func (s *Server) clusterDomain() string {
	if p := s.live.Table().Proxy; p != nil && p.ClusterDomain != "" {
		return p.ClusterDomain
	}
	return defaultCluster
}

// meshRanges are where virtual addresses come from; only those are looked up
// in reverse.
var meshRanges = []netip.Prefix{netip.MustParsePrefix("240.240.0.0/16"), netip.MustParsePrefix("fd74:756c:6c65::/64")}

// reverseAddr reads a name under in-addr.arpa or ip6.arpa (RFC 1035, 3.5; RFC
// 3596, 2.5) that stands for a virtual address.
func reverseAddr(name string) (netip.Addr, bool) {
	var text strings.Builder
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(rest, ".")
		for i := len(labels) - 1; i >= 0; i-- {
			text.WriteString(labels[i])
			if i > 0 {
				text.WriteByte('.')
			}
		}
	} else if rest, ok := strings.CutSuffix(name, ".ip6.arpa"); ok {
		labels := strings.Split(rest, ".")
		if len(labels) != 32 {
			return netip.Addr{}, false
		}
		for i := len(labels) - 1; i >= 0; i-- {
			if len(labels[i]) != 1 {
				return netip.Addr{}, false
			}
			text.WriteString(labels[i])
			if i > 0 && i%4 == 0 {
				text.WriteByte(':')
			}
		}
	} else {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(text.String())
	if err != nil {
		return netip.Addr{}, false
	}
	for _, p := range meshRanges {
		if p.Contains(addr) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// answerNow answers from what is known without waiting; ok is false when that
// takes a look-up or a resolver.
func (s *Server) answerNow(q *query, limit int) (b []byte, r result, ok bool) {
	if q.rcode != dnsmessage.RCodeSuccess {
		return q.failure(q.rcode), malformed, true
	}
	limit = max(limit, min(q.size, ednsSize))
	k, key := s.classify(q)
	if k == foreign {
		return nil, 0, false
	}
	if key == "" { // under the cluster domain, and not a service's form
		return q.build(dnsmessage.RCodeNameError, nil, limit), nxDomain, true
	}
	h := s.host(k, key)
	switch {
	case h == nil:
		return nil, 0, false
	case h.Service != "":
		return q.build(dnsmessage.RCodeSuccess, s.records(q, k, h), limit), fromMesh, true
	case k == maybe:
		return nil, 0, false // the resolver may know it
	}
	return q.build(dnsmessage.RCodeNameError, nil, limit), nxDomain, true
}

// withheld reports whether the egress policy lets nothing call the name: then
// nobody outside is asked for it either, for questions carry what they say as well
// as calls do.
func (s *Server) withheld(q *query) bool {
	p := s.live.Table().Proxy
	if p == nil || p.Egress == nil || q.name == localhost {
		return false
	}
	name, ok := egress.Name(q.name)
	if ok && p.Egress.Resolves(name) || !ok && p.Egress.Allow {
		return false
	}
	if p.Egress.Audit {
		s.counts[audited].Add(1)
		return false
	}
	return true
}

func (s *Server) host(k kind, key string) *live.Host {
	name := key[len(live.HostKey("")):]
	if k != reverse {
		return s.live.Table().Host(name)
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return nil
	}
	return s.live.Table().HostByAddr(addr)
}

// records are the answers about a service; none for a type that it doesn't have
// (RFC 2308, 2.2: NODATA).
func (s *Server) records(q *query, k kind, h *live.Host) []dnsmessage.Resource {
	header := dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: ttl}
	var list []dnsmessage.Resource
	add := func(t dnsmessage.Type, body dnsmessage.ResourceBody) {
		if q.question.Type == t || q.question.Type == dnsmessage.TypeALL {
			header.Type = t
			list = append(list, dnsmessage.Resource{Header: header, Body: body})
		}
	}
	if k == reverse {
		if name, err := dnsmessage.NewName(h.Service + ".svc." + s.clusterDomain() + "."); err == nil {
			add(dnsmessage.TypePTR, &dnsmessage.PTRResource{PTR: name})
		}
		return list
	}
	for _, a := range h.Addresses {
		switch {
		case a.Is4():
			add(dnsmessage.TypeA, &dnsmessage.AResource{A: a.As4()})
		case a.Is6():
			add(dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	return list
}

// answer answers a query, waiting for the control plane and for a resolver as
// it must.
func (s *Server) answer(q *query, network string, limit int) ([]byte, result) {
	if b, r, ok := s.answerNow(q, limit); ok {
		return b, r
	}
	k, key := s.classify(q)
	if k != foreign && s.host(k, key) == nil {
		done := make(chan struct{})
		if !s.live.Lookup(func() { close(done) }, key) {
			<-done
		}
		if b, r, ok := s.answerNow(q, limit); ok {
			return b, r
		}
		if k == ours || k == reverse {
			// The control plane is away and this was never asked before: that
			// is no proof that it doesn't exist.
			if s.host(k, key) == nil && !s.live.Static() {
				return q.failure(serverFailure), failed
			}
			return q.build(dnsmessage.RCodeNameError, nil, limit), nxDomain
		}
	}
	if s.withheld(q) {
		q.why = blocked
		// As a name that isn't there: a program that was refused would ask again.
		return q.build(dnsmessage.RCodeNameError, nil, limit), withheld
	}
	b, err := s.upstream.ask(network, q.raw)
	if err != nil {
		s.log.Debug("names: no answer", "name", strconv.Quote(q.name), "error", err)
		return q.failure(serverFailure), failed
	}
	return b, forwarded
}
