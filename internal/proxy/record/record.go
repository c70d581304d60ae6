package record

import (
	"net/netip"
	"strconv"
	"time"

	"tulle.dev/tulle/internal/proxy/story"
)

// Record is one request or opaque connection that has ended. Its strings and
// slices are good for the call that it is passed to.
type Record struct {
	// At is when the request's head was there, or the connection.
	At        time.Time
	Direction string // inbound, outbound, edge
	Listener  string
	// Source is the client's proven SPIFFE id, SourceAddress where it is.
	Source        string
	SourceAddress netip.AddrPort
	// Service is the destination's key; Rule and Backend what the route decided.
	Service, Rule, Backend string
	// Endpoint is the last one that was tried, with its workload's name.
	Endpoint netip.AddrPort
	Workload string
	// Protocol is http1, http2, grpc or tcp.
	Protocol                string
	Method, Authority, Path []byte
	// Status is 0 when no answer began; GRPC is -1 when there is none.
	Status, GRPC int
	// Reason is Proxy-Status's error or a word alike, Text the same in a sentence,
	// Policy the object that it is owed to.
	Reason, Text, Policy string
	// Decision is what access rules came to (allowed, denied, audit, ended) and
	// AccessRule the rule that decided; empty where there are none.
	Decision, AccessRule string
	// Routed, Sent and First are times since At: when it was known where to, when the
	// last try was sent, when the answer began (0: it didn't); Total is the end.
	Routed, Sent, First, Total time.Duration
	// Received and Answered are the bytes of the bodies, or of the connection, from
	// and to the client.
	Received, Answered uint64
	Tries              int
	RequestID          []byte
	ID, Peer           story.ID
}

// Failed reports whether it is one that a log of failures has: the answer is a 5xx
// or none, the proxy refused it or couldn't do it, or an access rule would have it
// refused.
func (r *Record) Failed() bool {
	return r.Status >= 500 || r.Reason != "" || r.Decision == "denied" || r.Decision == "audit" || r.Decision == "ended"
}

// line appends fields of a JSON object.
type line []byte

func (l line) key(name string) line {
	if l[len(l)-1] != '{' {
		l = append(l, ',')
	}
	l = append(append(l, '"'), name...)
	return append(l, '"', ':')
}

func (l line) text(name, v string) line {
	if v == "" {
		return l
	}
	return AppendString(l.key(name), v)
}

func (l line) bytes(name string, v []byte) line {
	if len(v) == 0 {
		return l
	}
	return AppendString(l.key(name), v)
}

func (l line) address(name string, a netip.AddrPort) line {
	if !a.IsValid() {
		return l
	}
	l = append(l.key(name), '"')
	if a.Addr().Zone() != "" {
		a = netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
	}
	return append(a.AppendTo(l), '"')
}

func (l line) number(name string, v uint64) line { return strconv.AppendUint(l.key(name), v, 10) }

// milliseconds writes a time in milliseconds, exact to the microsecond.
func (l line) milliseconds(name string, d time.Duration) line {
	us := uint64(max(d, 0).Round(time.Microsecond) / time.Microsecond)
	l = strconv.AppendUint(l.key(name), us/1000, 10)
	if us %= 1000; us != 0 {
		l = append(l, '.', byte('0'+us/100))
		if us %= 100; us != 0 {
			l = append(l, byte('0'+us/10))
			if us %= 10; us != 0 {
				l = append(l, byte('0'+us))
			}
		}
	}
	return l
}

func (l line) id(name string, id story.ID) line {
	if id == 0 {
		return l
	}
	return append(id.AppendID(append(l.key(name), '"')), '"')
}

// timeFormat is RFC 3339 in UTC, to the microsecond.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// AppendJSON appends the record as one JSON object without a newline. What is
// empty is left out. It is printable ASCII and allocates nothing.
func (r *Record) AppendJSON(dst []byte) []byte {
	l := line(append(dst, '{'))
	l = append(l.key("time"), '"')
	l = append(r.At.UTC().AppendFormat(l, timeFormat), '"')
	l = l.text("direction", r.Direction).text("listener", r.Listener)
	l = l.text("source", r.Source).address("source_address", r.SourceAddress)
	l = l.text("service", r.Service).text("rule", r.Rule).text("backend", r.Backend)
	l = l.address("endpoint", r.Endpoint).text("workload", r.Workload)
	l = l.text("protocol", r.Protocol).bytes("method", r.Method).bytes("authority", r.Authority).bytes("path", r.Path)
	if r.Status > 0 {
		l = l.number("status", uint64(r.Status))
	}
	if r.GRPC >= 0 {
		l = l.number("grpc_status", uint64(r.GRPC))
	}
	l = l.text("reason", r.Reason).text("text", r.Text).text("policy", r.Policy)
	l = l.text("decision", r.Decision).text("access_rule", r.AccessRule)
	l = l.milliseconds("duration_ms", r.Total)
	if r.Routed > 0 {
		l = l.milliseconds("routed_ms", r.Routed)
	}
	if r.Sent > 0 {
		l = l.milliseconds("sent_ms", r.Sent)
	}
	if r.First > 0 {
		l = l.milliseconds("first_byte_ms", r.First)
	}
	l = l.number("received_bytes", r.Received).number("sent_bytes", r.Answered)
	if r.Tries > 0 {
		l = l.number("tries", uint64(r.Tries))
	}
	l = l.bytes("request_id", r.RequestID).id("tulle_id", r.ID).id("peer_tulle_id", r.Peer)
	return append(l, '}')
}
