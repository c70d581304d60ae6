package l7http

import (
	"tulle.dev/tulle/internal/proxy/record"
	"tulle.dev/tulle/internal/proxy/story"
)

// maxRecordedPath bounds the path in a record, in bytes.
const maxRecordedPath = 2 << 10

// The protocols of records.
const (
	protocolHTTP1 = "http1"
	protocolHTTP2 = "http2"
	protocolGRPC  = "grpc"
)

// record tells of the exchange, which has come to that status, to who wants to
// know: once, when it is over, from the notes of its trail.
func (x *Exchange) record(status int) {
	t, pen := x.trail, x.worker.Pen
	if !pen.Wanted() || t.recorded {
		return
	}
	t.recorded = true
	l := x.worker.Loop
	now := l.Now()
	r := record.Record{
		At: l.Wall().Add(x.began - now), SourceAddress: x.Peer(), Protocol: protocolHTTP1,
		Method: t.method.Bytes(), Authority: t.host.Bytes(), Path: t.long, RequestID: t.request.Bytes(),
		Status: status, GRPC: -1, Reason: t.reason, Text: t.text, Policy: t.policy, Decision: x.ruled.Decision, AccessRule: x.ruled.Rule,
		Routed: x.since(t.routed), First: x.since(t.first), Total: now - x.began,
		Received: x.arrived, Answered: x.returned, Tries: t.n, ID: t.id, Peer: t.peer,
	}
	if len(t.long) == 0 {
		r.Path = t.path.Bytes()
	}
	if t.told != "" {
		r.Text = t.told
	}
	if r.Policy == "" {
		r.Policy = x.detail // a fault's
	}
	switch {
	case x.call:
		r.Protocol = protocolGRPC
	case x.HTTP2:
		r.Protocol = protocolHTTP2
	}
	if x.coded {
		r.GRPC = x.callCode
	}
	if d, ok := x.router.(interface{ Describe() About }); ok {
		a := d.Describe()
		r.Direction, r.Listener, r.Service, r.Source = a.Direction, a.Listener, a.Service, a.Identity
	}
	if x.Cluster != nil && x.Cluster.Key != "" {
		r.Service = x.Cluster.Key
	}
	if x.Rule != nil {
		r.Rule = x.Rule.Name
		if x.Backend >= 0 && x.Backend < len(x.Rule.Backends) {
			r.Backend = x.Rule.Backends[x.Backend].Destination
		}
	}
	if n := min(t.n, story.MaxTries); n > 0 {
		try := &t.tries[n-1]
		r.Endpoint, r.Workload, r.Sent = try.Address, try.Workload, x.since(try.Sent)
	}
	pen.Write(&r, x.chance())
}

// chance is a number that decides whether the request is among those of which a
// sample is kept: the same at each proxy where the request has an id.
func (x *Exchange) chance() uint64 {
	id := x.trail.request.Bytes()
	if len(id) == 0 {
		return x.worker.Loop.Rand.Uint64()
	}
	h := uint64(14695981039346656037) // FNV-1a
	for _, c := range id {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h ^ h>>32
}
