package h1

// Limits bound what a head or a trailer section may cost. A zero value means
// the default beside it.
type Limits struct {
	MaxHead    int // bytes of a head, the start line included; DefaultMaxHead
	MaxFields  int // field lines of a head or trailer section; DefaultMaxFields
	MaxTarget  int // bytes of a request target; DefaultMaxTarget
	MaxTrailer int // bytes of a trailer section; DefaultMaxTrailer
}

// The defaults of Limits, and the bounds nobody needs to move.
const (
	DefaultMaxHead    = 64 << 10
	DefaultMaxFields  = 256
	DefaultMaxTarget  = 16 << 10
	DefaultMaxTrailer = 16 << 10

	// MaxMethod is the longest method that is read (RFC 9112, 3: 501 beyond).
	MaxMethod = 64
	// MaxEmptyLines is how many CRLFs are ignored before a request line
	// (RFC 9112, 2.2: at least one).
	MaxEmptyLines = 2
	// MaxLengthDigits bounds Content-Length: any value fits an int64.
	MaxLengthDigits = 18
	// MaxChunkDigits bounds a chunk size, zeros in front aside: any value fits an int64.
	MaxChunkDigits = 15
	// MaxChunkLine bounds one chunk-size line with its extensions, in bytes.
	MaxChunkLine = 1 << 10
	// MaxChunkExcess bounds what a chunked body may spend on lines and
	// extensions beyond what the data in it pays for, in bytes.
	MaxChunkExcess = 16 << 10
)

// Method is a method this package knows; any other token is MethodOther.
type Method uint8

// The methods of RFC 9110, 9.3 and RFC 5789.
const (
	MethodOther Method = iota
	GET
	HEAD
	POST
	PUT
	DELETE
	CONNECT
	OPTIONS
	TRACE
	PATCH
)

// Safe says that the method is defined as read-only (RFC 9110, 9.2.1).
func (m Method) Safe() bool { return m == GET || m == HEAD || m == OPTIONS || m == TRACE }

// Idempotent says that sending the request twice means what sending it once
// means (RFC 9110, 9.2.2).
func (m Method) Idempotent() bool { return m.Safe() || m == PUT || m == DELETE }

// Form is one of the four forms of a request target (RFC 9112, 3.2).
type Form uint8

// The forms.
const (
	OriginForm Form = iota + 1
	AbsoluteForm
	AuthorityForm
	AsteriskForm
)

// Framing says where a message's body ends (RFC 9112, 6.3).
type Framing uint8

// The framings.
const (
	// NoBody: the message ends with its head.
	NoBody Framing = iota
	// Length: exactly Length bytes follow.
	Length
	// Chunked: chunks follow, then perhaps trailers.
	Chunked
	// UntilClose: a response's body lasts until the server closes.
	UntilClose
	// Tunnel: what follows is no longer HTTP (2xx to CONNECT, 101).
	Tunnel
)

// Field is one field line: Name as received (case kept), Value without the
// whitespace around it, both slices of the buffer that was parsed.
type Field struct {
	Name, Value []byte
	// ID is set for names this package knows.
	ID NameID
	// Drop marks what isn't forwarded as it came: fields of this hop, fields
	// named by Connection, and framing and Host fields, which are written anew.
	Drop bool
	// Never says that no hop may put the field into a compression table
	// (RFC 7541, 7.1.3): of messages that came over HTTP/2.
	Never bool
}

// Request is a parsed request head. The zero value is ready; Reset makes it so
// again and keeps its memory. All slices point into the buffer last given to
// Parse or Rebase.
type Request struct {
	Method     Method
	MethodName []byte // as received; methods are case-sensitive
	Target     []byte // as received
	Form       Form
	// Scheme is "http" or "https" in lower case for absolute-form, else empty.
	Scheme string
	// Authority is host[:port] of the target, or of Host. Empty only for
	// HTTP/1.0 without Host.
	Authority []byte
	// Path is what origin-form says (path and query): begins with "/" for an
	// absolute-form without one, is "*" for OPTIONS of the server, empty for CONNECT.
	Path []byte
	// Minor is the minor version as received: 0, or one that means 1.
	Minor uint8
	// Two says that the request came over HTTP/2; Via says so then.
	Two    bool
	Fields []Field

	Framing Framing // NoBody, Length or Chunked (Tunnel for CONNECT)
	Length  int64   // bytes, for Length (0 is Length with Content-Length: 0)

	// KeepAlive says that the client's connection may carry another request
	// (RFC 9112, 9.3). For HTTP/1.0 this holds only where we aren't a proxy to
	// the client: Forward listeners must close when Minor is 0.
	KeepAlive bool
	// Upgrade is the offer of Upgrade (without h2c), empty when there is none
	// that may be passed on.
	Upgrade []byte
	// Expect100 says that the client waits for 100 (Continue) before the body.
	Expect100 bool
	// TETrailers says that the client takes trailer fields (TE: trailers).
	TETrailers bool
	// MaxForwards is the hop count left for TRACE and OPTIONS, or -1. At 0 the
	// request must be answered here (RFC 9110, 7.6.2); AppendRequest lowers it.
	MaxForwards int

	scan  scanner
	at    requestSpans
	named []byte // options.named, for the trailers
	// noPath: the absolute-form target has no path, Path lies in scratch.
	noPath  bool
	scratch []byte
	upgrade int // which field Upgrade is, plus one
}

// requestSpans is where the parts of a request line are.
type requestSpans struct{ method, target, authority, path span }

// Response is a parsed response head; see Request.
type Response struct {
	Status int    // 100..599
	Reason []byte // may be empty
	Minor  uint8
	Two    bool // it came over HTTP/2; Via says so then
	Fields []Field

	Framing Framing
	Length  int64 // for Length

	// KeepAlive says that the server's connection may carry another request
	// once the body was read. False for UntilClose and Tunnel.
	KeepAlive bool
	// Upgrade is what a 101 switched to, or what a 426 asks for.
	Upgrade []byte

	hasLength bool
	named     []byte // as Request.named
	scan      scanner
	reason    span
	upgrade   int // which field Upgrade is, or -1
}

// Interim says that another response to the same request follows (1xx but 101).
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// Asked is what a response parser must know of the request it answers.
type Asked struct {
	Method Method
	// Upgrade is the offer that was sent on; empty when none was: a 101 is
	// then an error.
	Upgrade []byte
}
