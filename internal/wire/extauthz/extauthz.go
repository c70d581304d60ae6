package extauthz

import (
	"math"
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"tulle.dev/tulle/internal/wire/pb"
)

// Method is the path of the call.
const Method = "/envoy.service.auth.v3.Authorization/Check"

// Bounds of an answer, and of what is asked.
const (
	maxFields = 256
	maxName   = 256
	maxValue  = 16 << 10
	maxBody   = 64 << 10
	maxText   = 128 << 10
	maxStatus = 999
	// MaxAnswer bounds a CheckResponse, in bytes.
	MaxAnswer = 256 << 10
)

// CheckRequest asks about a request.
type CheckRequest struct {
	Source, Destination Peer
	Time                time.Time
	HTTP                HTTPRequest
}

// Peer is one side of a connection.
type Peer struct {
	// Address is zero when it isn't known.
	Address netip.AddrPort
	Service string
	// Principal is the SPIFFE id that was proven; empty without.
	Principal string
}

// HTTPRequest is the request's head.
type HTTPRequest struct {
	ID, Method string
	// Headers have names in lower case, each once.
	Headers []Header
	// Path is with the query.
	Path, Host, Scheme string
	// Size is the content's, -1 when it isn't known.
	Size int64
	// Protocol is "HTTP/1.1" or "HTTP/2".
	Protocol string
}

// Header is a field.
type Header struct{ Name, Value string }

// CheckResponse is the answer.
type CheckResponse struct {
	// Code is of google.rpc.Status: 0 allows.
	Code uint64
	// Denied is how the client is answered, and OK what is changed in a request
	// that is allowed. Error says that whoever was asked couldn't tell.
	Denied, Error *Denied
	OK            *OK

	result result
}

// Denied is an answer to the client.
type Denied struct {
	// Status is of HTTP; 0 when none is said.
	Status uint32
	Fields []Change
	Body   string

	status status
}

// OK is what is changed in a request that is allowed, and in its response.
type OK struct {
	Fields   []Change
	Remove   []string
	Response []Change
}

// Action is what is done with a field.
type Action uint8

// The actions, as HeaderValueOption.HeaderAppendAction numbers them.
const (
	Add Action = iota
	AddIfAbsent
	Set
	SetIfPresent
)

// Change is what is done with one field.
type Change struct {
	Header
	Action Action

	append *wrapped // the older way to say Add or Set
	action uint32
	header headerValue
}

type (
	wrapped     struct{ value bool }
	headerValue struct {
		key, value string
		raw        []byte
	}
	timestamp struct{ seconds, nanos uint64 }
	address   struct{ socket socketAddress }
	// socketAddress is of envoy.config.core.v3.
	socketAddress struct {
		address string
		port    uint32
	}
	peer struct {
		address            *address
		service, principal string
	}
	request struct {
		time timestamp
		http httpRequest
	}
	httpRequest struct {
		HTTPRequest
		size uint64
	}
	attributes struct {
		source, destination peer
		request             request
	}
	question struct{ attributes attributes }
	status   struct{ code uint32 } // envoy.type.v3.HttpStatus
	result   struct{ code uint64 } // google.rpc.Status
)

var headerMessage = pb.Describe(
	pb.String(1, "key", maxName, func(h *Header) *string { return &h.Name }),
	pb.String(2, "value", maxText, func(h *Header) *string { return &h.Value }),
)

var peerMessage = pb.Describe(
	pb.Pointer(1, "address", pb.Describe(
		pb.Struct(1, "socket_address", pb.Describe(
			pb.String(2, "address", maxName, func(a *socketAddress) *string { return &a.address }),
			pb.Number(3, "port_value", math.MaxUint16, func(a *socketAddress) *uint32 { return &a.port }),
		), func(a *address) *socketAddress { return &a.socket }),
	), func(p *peer) **address { return &p.address }),
	pb.String(2, "service", maxName, func(p *peer) *string { return &p.service }),
	pb.String(4, "principal", maxValue, func(p *peer) *string { return &p.principal }),
)

var questionMessage = pb.Describe(
	pb.Struct(1, "attributes", pb.Describe(
		pb.Struct(1, "source", peerMessage, func(a *attributes) *peer { return &a.source }),
		pb.Struct(2, "destination", peerMessage, func(a *attributes) *peer { return &a.destination }),
		pb.Struct(4, "request", pb.Describe(
			pb.Struct(1, "time", pb.Describe(
				pb.Number(1, "seconds", math.MaxUint64, func(t *timestamp) *uint64 { return &t.seconds }),
				pb.Number(2, "nanos", math.MaxUint64, func(t *timestamp) *uint64 { return &t.nanos }),
			), func(r *request) *timestamp { return &r.time }),
			pb.Struct(2, "http", pb.Describe(
				pb.String(1, "id", maxValue, func(h *httpRequest) *string { return &h.ID }),
				pb.String(2, "method", maxValue, func(h *httpRequest) *string { return &h.Method }),
				pb.Messages(3, "headers", maxFields, headerMessage, func(h *httpRequest) *[]Header { return &h.Headers }),
				pb.String(4, "path", maxText, func(h *httpRequest) *string { return &h.Path }),
				pb.String(5, "host", maxValue, func(h *httpRequest) *string { return &h.Host }),
				pb.String(6, "scheme", maxName, func(h *httpRequest) *string { return &h.Scheme }),
				pb.Number(9, "size", math.MaxUint64, func(h *httpRequest) *uint64 { return &h.size }),
				pb.String(10, "protocol", maxName, func(h *httpRequest) *string { return &h.Protocol }),
			), func(r *request) *httpRequest { return &r.http }),
		), func(a *attributes) *request { return &a.request }),
	), func(q *question) *attributes { return &q.attributes }),
)

var changeMessage = pb.Describe(
	pb.Struct(1, "header", pb.Describe(
		pb.String(1, "key", maxName, func(h *headerValue) *string { return &h.key }),
		pb.String(2, "value", maxValue, func(h *headerValue) *string { return &h.value }),
		pb.Bytes(3, "raw_value", maxValue, func(h *headerValue) *[]byte { return &h.raw }),
	), func(c *Change) *headerValue { return &c.header }),
	pb.Pointer(2, "append", pb.Describe(
		pb.Bool(1, "value", func(w *wrapped) *bool { return &w.value }),
	), func(c *Change) **wrapped { return &c.append }),
	pb.Number(3, "append_action", uint32(SetIfPresent), func(c *Change) *uint32 { return &c.action }),
).Check(func(c *Change) error {
	c.Name, c.Value = c.header.key, c.header.value
	if c.Value == "" {
		c.Value = string(c.header.raw)
	}
	c.Action = Action(c.action)
	switch {
	case c.append == nil:
	case c.append.value:
		c.Action = Add
	default:
		c.Action = Set
	}
	return nil
})

var changes = func(d *Denied) *[]Change { return &d.Fields }

var deniedMessage = pb.Describe(
	pb.Struct(1, "status", pb.Describe(
		pb.Number(1, "code", maxStatus, func(s *status) *uint32 { return &s.code }),
	), func(d *Denied) *status { return &d.status }),
	pb.Messages(2, "headers", maxFields, changeMessage, changes),
	pb.String(3, "body", maxBody, func(d *Denied) *string { return &d.Body }),
).Check(func(d *Denied) error {
	d.Status = d.status.code
	return nil
})

var answerMessage = pb.Describe(
	pb.Struct(1, "status", pb.Describe(
		pb.Number(1, "code", math.MaxUint64, func(r *result) *uint64 { return &r.code }),
		skipped[*result](3, "details"),
	), func(a *CheckResponse) *result { return &a.result }),
	pb.Pointer(2, "denied_response", deniedMessage, func(a *CheckResponse) **Denied { return &a.Denied }),
	pb.Pointer(3, "ok_response", pb.Describe(
		pb.Messages(2, "headers", maxFields, changeMessage, func(o *OK) *[]Change { return &o.Fields }),
		pb.Strings(5, "headers_to_remove", maxFields, maxName, func(o *OK) *[]string { return &o.Remove }),
		pb.Messages(6, "response_headers_to_add", maxFields, changeMessage, func(o *OK) *[]Change { return &o.Response }),
		skipped[*OK](7, "query_parameters_to_set"),
		skipped[*OK](8, "query_parameters_to_remove"),
	), func(a *CheckResponse) **OK { return &a.OK }),
	pb.Pointer(5, "error_response", deniedMessage, func(a *CheckResponse) **Denied { return &a.Error }),
).Check(func(a *CheckResponse) error {
	a.Code = a.result.code
	return nil
})

// skipped is a field that may be there several times and that nobody looks at.
func skipped[P any](number protowire.Number, name string) pb.Part[P] {
	return pb.Custom(number, name, true, func(pb.Field, P) error { return nil }, func(b []byte, _ P) []byte { return b })
}

// Append appends the message.
func (r *CheckRequest) Append(b []byte) []byte {
	q := question{attributes{r.Source.message(), r.Destination.message(), request{http: httpRequest{r.HTTP, uint64(r.HTTP.Size)}}}}
	if !r.Time.IsZero() {
		q.attributes.request.time = timestamp{uint64(r.Time.Unix()), uint64(r.Time.Nanosecond())}
	}
	return questionMessage.Append(b, &q)
}

func (p *Peer) message() peer {
	m := peer{service: p.Service, principal: p.Principal}
	if p.Address.IsValid() {
		m.address = &address{socketAddress{p.Address.Addr().String(), uint32(p.Address.Port())}}
	}
	return m
}

// ParseAnswer reads a CheckResponse. It fails with the path of the field that is
// broken or over its bound.
func ParseAnswer(b []byte) (*CheckResponse, error) {
	if len(b) > MaxAnswer {
		return nil, pb.Errorf("an answer of %d bytes is too big, want at most %d", len(b), MaxAnswer)
	}
	return answerMessage.Decode(b)
}
