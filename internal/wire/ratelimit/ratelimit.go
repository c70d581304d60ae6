package ratelimit

import (
	"math"
	"time"

	"tulle.dev/tulle/internal/wire/pb"
)

// Method is the path of the call.
const Method = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"

// Bounds of an answer, and of what is asked.
const (
	maxDescriptors = 64
	maxEntries     = 16
	maxFields      = 64
	maxName        = 256
	maxValue       = 16 << 10
	maxBody        = 16 << 10
	// maxSeconds bounds the time until there is room again: a year and a day.
	maxSeconds = 366 * 24 * 3600
	// MaxAnswer bounds a RateLimitResponse, in bytes.
	MaxAnswer = 64 << 10
)

// Request asks about a request.
type Request struct {
	Domain      string
	Descriptors []Descriptor
	// Hits is how many the request counts for; 0 is one.
	Hits uint32
}

// Descriptor is what a limit is looked up by.
type Descriptor struct {
	Entries []Entry
	// Hits is how many the request counts for here; 0 is the Request's.
	Hits uint64
}

// Entry is one part of a Descriptor.
type Entry struct{ Key, Value string }

// Code is an answer, as the protocol numbers them.
type Code uint32

// The answers. Unknown is none.
const (
	Unknown Code = iota
	OK
	OverLimit
)

// Response is the answer.
type Response struct {
	Code     Code
	Statuses []Status
	// Response and Request are fields to add to the response and to the request.
	Response, Request []Header
	// Body is of the answer to a request that is refused.
	Body []byte

	code uint32
}

// Status is what holds for one Descriptor, in the order of the Request's.
type Status struct {
	Code Code
	// Requests per Per is the limit; 0 and 0 when none is said.
	Requests uint32
	Per      time.Duration
	// Left is how many may come, Reset how long until there are all again.
	Left  uint32
	Reset time.Duration

	code  uint32
	limit limit
	reset duration
}

// Header is a field.
type Header struct {
	Name, Value string

	raw []byte
}

type (
	wrapped  struct{ value uint64 }
	duration struct{ seconds, nanos uint64 }
	limit    struct {
		requests, unit uint32
		multiplier     *wrapped
	}
	descriptor struct {
		entries []Entry
		hits    *wrapped
	}
	question struct {
		domain      string
		descriptors []descriptor
		hits        uint32
	}
)

// units are those of RateLimitResponse.RateLimit; a month has 30 days, a year 365.
var units = [...]time.Duration{0, time.Second, time.Minute, time.Hour, 24 * time.Hour, 30 * 24 * time.Hour, 365 * 24 * time.Hour, 7 * 24 * time.Hour}

func wrappedMessage(m *pb.Message, w *wrapped) {
	pb.Number(m, 1, "value", math.MaxUint64, &w.value)
}

func questionMessage(m *pb.Message, q *question) {
	pb.String(m, 1, "domain", maxName, &q.domain)
	pb.Messages(m, 2, "descriptors", maxDescriptors, &q.descriptors, func(m *pb.Message, d *descriptor) {
		pb.Messages(m, 1, "entries", maxEntries, &d.entries, func(m *pb.Message, e *Entry) {
			pb.String(m, 1, "key", maxName, &e.Key)
			pb.String(m, 2, "value", maxValue, &e.Value)
		})
		pb.Pointer(m, 3, "hits_addend", &d.hits, wrappedMessage)
	})
	pb.Number(m, 3, "hits_addend", math.MaxUint32, &q.hits)
}

func headerMessage(m *pb.Message, h *Header) {
	pb.String(m, 1, "key", maxName, &h.Name)
	pb.String(m, 2, "value", maxValue, &h.Value)
	pb.Bytes(m, 3, "raw_value", maxValue, &h.raw)
	if m.Ended() && h.Value == "" {
		h.Value = string(h.raw)
	}
}

func answerMessage(m *pb.Message, r *Response) {
	pb.Number(m, 1, "overall_code", math.MaxUint32, &r.code)
	pb.Messages(m, 2, "statuses", maxDescriptors, &r.Statuses, func(m *pb.Message, s *Status) {
		pb.Number(m, 1, "code", math.MaxUint32, &s.code)
		pb.Struct(m, 2, "current_limit", &s.limit, func(m *pb.Message, l *limit) {
			pb.Number(m, 1, "requests_per_unit", math.MaxUint32, &l.requests)
			pb.Number(m, 2, "unit", math.MaxUint32, &l.unit)
			pb.Pointer(m, 4, "unit_multiplier", &l.multiplier, wrappedMessage)
		})
		pb.Number(m, 3, "limit_remaining", math.MaxUint32, &s.Left)
		pb.Struct(m, 4, "duration_until_reset", &s.reset, func(m *pb.Message, d *duration) {
			pb.Number(m, 1, "seconds", maxSeconds, &d.seconds)
			pb.Number(m, 2, "nanos", uint64(time.Second)-1, &d.nanos)
		})
		if m.Ended() {
			s.Code, s.Requests = known(s.code), s.limit.requests
			if s.limit.unit < uint32(len(units)) {
				s.Per = units[s.limit.unit]
			}
			if m := s.limit.multiplier; m != nil && m.value > 0 {
				s.Per *= time.Duration(min(m.value, maxSeconds/max(uint64(s.Per/time.Second), 1)))
			}
			s.Reset = time.Duration(s.reset.seconds)*time.Second + time.Duration(s.reset.nanos)
		}
	})
	pb.Messages(m, 3, "response_headers_to_add", maxFields, &r.Response, headerMessage)
	pb.Messages(m, 4, "request_headers_to_add", maxFields, &r.Request, headerMessage)
	pb.Bytes(m, 5, "raw_body", maxBody, &r.Body)
	if m.Ended() {
		r.Code = known(r.code)
	}
}

// known is Unknown for codes that aren't.
func known(code uint32) Code {
	if Code(code) > OverLimit {
		return Unknown
	}
	return Code(code)
}

// Append appends the message.
func (r *Request) Append(b []byte) []byte {
	q := question{domain: r.Domain, hits: r.Hits}
	for _, d := range r.Descriptors {
		to := descriptor{entries: d.Entries}
		if d.Hits > 0 {
			to.hits = &wrapped{d.Hits}
		}
		q.descriptors = append(q.descriptors, to)
	}
	return pb.Append(b, &q, questionMessage)
}

// ParseAnswer reads a RateLimitResponse. It fails with the path of the field that is
// broken or over its bound.
func ParseAnswer(b []byte) (*Response, error) {
	if len(b) > MaxAnswer {
		return nil, pb.Errorf("an answer of %d bytes is too big, want at most %d", len(b), MaxAnswer)
	}
	return pb.Decode(b, answerMessage)
}
