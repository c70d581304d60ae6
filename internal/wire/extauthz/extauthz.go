package extauthz

import (
	"math"
	"net/netip"
	"time"

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
}

// Denied is an answer to the client.
type Denied struct {
	// Status is of HTTP; 0 when none is said.
	Status uint32
	Fields []Change
	Body   string
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

	// older says that there is the older way to say Add or Set, and add which.
	older, add bool
}

// checkMessage is only written.
func checkMessage(m *pb.Message, r *CheckRequest) {
	pb.Struct(m, 1, "attributes", r, func(m *pb.Message, r *CheckRequest) {
		pb.Struct(m, 1, "source", &r.Source, peerMessage)
		pb.Struct(m, 2, "destination", &r.Destination, peerMessage)
		pb.Struct(m, 4, "request", r, func(m *pb.Message, r *CheckRequest) {
			pb.Struct(m, 1, "time", &r.Time, timeMessage)
			pb.Struct(m, 2, "http", &r.HTTP, httpMessage)
		})
	})
}

func peerMessage(m *pb.Message, p *Peer) {
	if p.Address.IsValid() {
		pb.Struct(m, 1, "address", &p.Address, addressMessage)
	}
	pb.String(m, 2, "service", maxName, &p.Service)
	pb.String(m, 4, "principal", maxValue, &p.Principal)
}

// addressMessage is of envoy.config.core.v3.
func addressMessage(m *pb.Message, a *netip.AddrPort) {
	pb.Struct(m, 1, "socket_address", a, func(m *pb.Message, a *netip.AddrPort) {
		address, port := a.Addr().String(), a.Port()
		pb.String(m, 2, "address", maxName, &address)
		pb.Port(m, 3, "port_value", &port)
	})
}

// timeMessage is a google.protobuf.Timestamp.
func timeMessage(m *pb.Message, t *time.Time) {
	if !t.IsZero() {
		seconds, nanos := uint64(t.Unix()), uint64(t.Nanosecond())
		pb.Number(m, 1, "seconds", math.MaxUint64, &seconds)
		pb.Number(m, 2, "nanos", math.MaxUint64, &nanos)
	}
}

func httpMessage(m *pb.Message, h *HTTPRequest) {
	pb.String(m, 1, "id", maxValue, &h.ID)
	pb.String(m, 2, "method", maxValue, &h.Method)
	pb.Messages(m, 3, "headers", maxFields, &h.Headers, headerMessage)
	pb.String(m, 4, "path", maxText, &h.Path)
	pb.String(m, 5, "host", maxValue, &h.Host)
	pb.String(m, 6, "scheme", maxName, &h.Scheme)
	size := uint64(h.Size)
	pb.Number(m, 9, "size", math.MaxUint64, &size)
	pb.String(m, 10, "protocol", maxName, &h.Protocol)
}

func headerMessage(m *pb.Message, h *Header) {
	pb.String(m, 1, "key", maxName, &h.Name)
	pb.String(m, 2, "value", maxText, &h.Value)
}

func changeMessage(m *pb.Message, c *Change) {
	pb.Struct(m, 1, "header", &c.Header, func(m *pb.Message, h *Header) {
		pb.String(m, 1, "key", maxName, &h.Name)
		pb.String(m, 2, "value", maxValue, &h.Value)
		var raw []byte // instead of value
		if pb.Bytes(m, 3, "raw_value", maxValue, &raw); raw != nil && h.Value == "" {
			h.Value = string(raw)
		}
	})
	pb.Struct(m, 2, "append", c, func(m *pb.Message, c *Change) {
		c.older = true
		pb.Bool(m, 1, "value", &c.add)
	})
	pb.Enum(m, 3, "append_action", SetIfPresent, &c.Action)
	if m.Ended() && c.older {
		c.Action = Set
		if c.add {
			c.Action = Add
		}
	}
}

func deniedMessage(m *pb.Message, d *Denied) {
	pb.Struct(m, 1, "status", d, func(m *pb.Message, d *Denied) { // envoy.type.v3.HttpStatus
		pb.Number(m, 1, "code", maxStatus, &d.Status)
	})
	pb.Messages(m, 2, "headers", maxFields, &d.Fields, changeMessage)
	pb.String(m, 3, "body", maxBody, &d.Body)
}

// answerMessage is only read.
func answerMessage(m *pb.Message, a *CheckResponse) {
	pb.Struct(m, 1, "status", a, func(m *pb.Message, a *CheckResponse) { // google.rpc.Status
		pb.Number(m, 1, "code", math.MaxUint64, &a.Code)
	})
	pb.Pointer(m, 2, "denied_response", &a.Denied, deniedMessage)
	pb.Pointer(m, 3, "ok_response", &a.OK, func(m *pb.Message, o *OK) {
		pb.Messages(m, 2, "headers", maxFields, &o.Fields, changeMessage)
		pb.Strings(m, 5, "headers_to_remove", maxFields, maxName, &o.Remove)
		pb.Messages(m, 6, "response_headers_to_add", maxFields, &o.Response, changeMessage)
	})
	pb.Pointer(m, 5, "error_response", &a.Error, deniedMessage)
}

// Append appends the message.
func (r *CheckRequest) Append(b []byte) []byte { return pb.Append(b, r, checkMessage) }

// ParseAnswer reads a CheckResponse. It fails with the path of the field that is
// broken or over its bound.
func ParseAnswer(b []byte) (*CheckResponse, error) {
	if len(b) > MaxAnswer {
		return nil, pb.Errorf("an answer of %d bytes is too big, want at most %d", len(b), MaxAnswer)
	}
	return pb.Decode(b, answerMessage)
}
