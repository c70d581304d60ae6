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

var wrappedMessage = pb.Describe(pb.Number(1, "value", math.MaxUint64, func(w *wrapped) *uint64 { return &w.value }))

var questionMessage = pb.Describe(
	pb.String(1, "domain", maxName, func(q *question) *string { return &q.domain }),
	pb.Messages(2, "descriptors", maxDescriptors, pb.Describe(
		pb.Messages(1, "entries", maxEntries, pb.Describe(
			pb.String(1, "key", maxName, func(e *Entry) *string { return &e.Key }),
			pb.String(2, "value", maxValue, func(e *Entry) *string { return &e.Value }),
		), func(d *descriptor) *[]Entry { return &d.entries }),
		pb.Pointer(3, "hits_addend", wrappedMessage, func(d *descriptor) **wrapped { return &d.hits }),
	), func(q *question) *[]descriptor { return &q.descriptors }),
	pb.Number(3, "hits_addend", math.MaxUint32, func(q *question) *uint32 { return &q.hits }),
)

var headerMessage = pb.Describe(
	pb.String(1, "key", maxName, func(h *Header) *string { return &h.Name }),
	pb.String(2, "value", maxValue, func(h *Header) *string { return &h.Value }),
	pb.Bytes(3, "raw_value", maxValue, func(h *Header) *[]byte { return &h.raw }),
).Check(func(h *Header) error {
	if h.Value == "" {
		h.Value = string(h.raw)
	}
	return nil
})

var answerMessage = pb.Describe(
	pb.Number(1, "overall_code", math.MaxUint32, func(r *Response) *uint32 { return &r.code }),
	pb.Messages(2, "statuses", maxDescriptors, pb.Describe(
		pb.Number(1, "code", math.MaxUint32, func(s *Status) *uint32 { return &s.code }),
		pb.Struct(2, "current_limit", pb.Describe(
			pb.Number(1, "requests_per_unit", math.MaxUint32, func(l *limit) *uint32 { return &l.requests }),
			pb.Number(2, "unit", math.MaxUint32, func(l *limit) *uint32 { return &l.unit }),
			pb.Pointer(4, "unit_multiplier", wrappedMessage, func(l *limit) **wrapped { return &l.multiplier }),
		), func(s *Status) *limit { return &s.limit }),
		pb.Number(3, "limit_remaining", math.MaxUint32, func(s *Status) *uint32 { return &s.Left }),
		pb.Struct(4, "duration_until_reset", pb.Describe(
			pb.Number(1, "seconds", maxSeconds, func(d *duration) *uint64 { return &d.seconds }),
			pb.Number(2, "nanos", uint64(time.Second)-1, func(d *duration) *uint64 { return &d.nanos }),
		), func(s *Status) *duration { return &s.reset }),
	).Check(func(s *Status) error {
		s.Code, s.Requests = known(s.code), s.limit.requests
		if s.limit.unit < uint32(len(units)) {
			s.Per = units[s.limit.unit]
		}
		if m := s.limit.multiplier; m != nil && m.value > 0 {
			s.Per *= time.Duration(min(m.value, maxSeconds/max(uint64(s.Per/time.Second), 1)))
		}
		s.Reset = time.Duration(s.reset.seconds)*time.Second + time.Duration(s.reset.nanos)
		return nil
	}), func(r *Response) *[]Status { return &r.Statuses }),
	pb.Messages(3, "response_headers_to_add", maxFields, headerMessage, func(r *Response) *[]Header { return &r.Response }),
	pb.Messages(4, "request_headers_to_add", maxFields, headerMessage, func(r *Response) *[]Header { return &r.Request }),
	pb.Bytes(5, "raw_body", maxBody, func(r *Response) *[]byte { return &r.Body }),
).Check(func(r *Response) error {
	r.Code = known(r.code)
	return nil
})

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
	return questionMessage.Append(b, &q)
}

// ParseAnswer reads a RateLimitResponse. It fails with the path of the field that is
// broken or over its bound.
func ParseAnswer(b []byte) (*Response, error) {
	if len(b) > MaxAnswer {
		return nil, pb.Errorf("an answer of %d bytes is too big, want at most %d", len(b), MaxAnswer)
	}
	return answerMessage.Decode(b)
}
