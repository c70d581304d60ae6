package h1

// Reset makes r ready for the next head; memory is kept.
func (r *Request) Reset() { panic("todo") }

// Parse reads a request head at the start of buf. It returns the head's length
// when it is whole, 0 when more bytes are needed; buf must then start at the
// same byte next time, wherever it lies in memory. After an error the
// connection can carry nothing more: answer Status with Connection: close.
func (r *Request) Parse(buf []byte, lim *Limits) (n int, err *Error) { panic("todo") }

// Started says that bytes of a head (not just empty lines) have been seen.
func (r *Request) Started() bool { panic("todo") }

// Rebase points all slices of a parsed head at buf, which holds the same bytes
// as the buffer it was parsed in.
func (r *Request) Rebase(buf []byte) { panic("todo") }

// Get returns the first field with that id, or nil.
func (r *Request) Get(id NameID) *Field { panic("todo") }

// Lookup returns the first field of that name, given in lower case, or nil.
func (r *Request) Lookup(lower string) *Field { panic("todo") }

// Reset makes r ready for the next head; memory is kept.
func (r *Response) Reset() { panic("todo") }

// Parse reads a response head at the start of buf, as Request.Parse does. Every
// Error has status 502: the upstream connection is closed and the response
// discarded.
func (r *Response) Parse(buf []byte, asked Asked, lim *Limits) (n int, err *Error) { panic("todo") }

// Rebase is as Request.Rebase.
func (r *Response) Rebase(buf []byte) { panic("todo") }

// Get returns the first field with that id, or nil.
func (r *Response) Get(id NameID) *Field { panic("todo") }

// Lookup returns the first field of that name, given in lower case, or nil.
func (r *Response) Lookup(lower string) *Field { panic("todo") }

// Body decodes the body of one message, whatever its framing. The zero value
// is a body that ended.
type Body struct {
	// Trailers are the allowed trailer fields of a chunked body, once Next said
	// done: slices of the last input.
	Trailers []Field

	framing Framing
	done    bool
	left    int64
}

// Init starts a body. status is what its errors answer: 400 for a request's
// body, 502 for a response's.
func (b *Body) Init(f Framing, length int64, status int, lim *Limits) { panic("todo") }

// Next consumes n bytes of in and gives out data, a slice of those (empty for
// framing bytes). done says that the body ended with them. n == 0 without done
// means that more bytes are needed; in must then start with the same bytes. A
// trailer section is taken at once, so in must be able to hold MaxTrailer bytes.
func (b *Body) Next(in []byte) (data []byte, n int, done bool, err *Error) { panic("todo") }

// Done says that the body ended.
func (b *Body) Done() bool { return b.done }

// Left returns how many bytes of data a Length body still lacks, so that they
// can be spliced; Skip tells of bytes that went around Next. -1 otherwise.
func (b *Body) Left() int64 { panic("todo") }

// Skip tells a Length or UntilClose body that n bytes went around Next.
func (b *Body) Skip(n int64) { panic("todo") }

// EOF tells the body that the peer closed: fine for a body until close (which is
// then done) or one that is done, else an error: the body was cut.
func (b *Body) EOF() *Error { panic("todo") }

// RequestOptions say how a request is sent on.
type RequestOptions struct {
	// Via is our name in the Via field; empty writes none.
	Via string
	// Authority replaces the request's own in Host when not nil.
	Authority []byte
	// Absolute keeps absolute-form, for a next hop that is a proxy itself.
	Absolute bool
	// Upgrade passes Request.Upgrade on (with Connection: upgrade).
	Upgrade bool
	// Close writes Connection: close.
	Close bool
	// Set are fields written by us; received fields of those names (Set[i].Name,
	// any case) are dropped.
	Set []Field
}

// AppendRequest appends r's head to dst as it is sent to the next hop: Host
// first, fields of the hop left out, framing written anew (the body goes on
// with the framing it came with), Via last.
func AppendRequest(dst []byte, r *Request, o *RequestOptions) []byte { panic("todo") }

// ResponseOptions say how a response is sent on.
type ResponseOptions struct {
	Via string
	// Date is an IMF-fixdate (see AppendDate), written when the response has
	// none (RFC 9110, 6.6.1).
	Date []byte
	// ClientMinor is Request.Minor of the request answered.
	ClientMinor uint8
	// Method is the method of the request answered.
	Method Method
	// Close writes Connection: close. When the framing returned is UntilClose
	// it is written in any case.
	Close bool
	// Trailers says that the client takes trailers: Trailer fields are kept.
	Trailers bool
	Set      []Field
}

// AppendResponse appends r's head to dst as it is sent to the client, and
// returns the framing the body must be sent with: chunked where the client
// knows it and the length isn't known, until close otherwise.
func AppendResponse(dst []byte, r *Response, o *ResponseOptions) ([]byte, Framing) { panic("todo") }

// AppendChunkHeader appends the size line of a chunk of n > 0 bytes. The chunk's
// data and a CRLF (ChunkEnd) follow.
func AppendChunkHeader(dst []byte, n int) []byte { panic("todo") }

// ChunkEnd ends each chunk's data.
const ChunkEnd = "\r\n"

// AppendLastChunk appends the last chunk with those trailers.
func AppendLastChunk(dst []byte, trailers []Field) []byte { panic("todo") }

// AppendField appends one field line.
func AppendField(dst []byte, name, value string) []byte { panic("todo") }

// AppendStatusLine appends "HTTP/1.1 STATUS REASON" with the registered reason.
func AppendStatusLine(dst []byte, status int) []byte { panic("todo") }

// AppendDate appends the IMF-fixdate of a Unix time in seconds.
func AppendDate(dst []byte, unix int64) []byte { panic("todo") }

// SplitAuthority splits host[:port]; port is 0 when there is none. The brackets
// of an IPv6 address stay off.
func SplitAuthority(authority []byte) (host []byte, port uint16) { panic("todo") }

// EqualFold says that b is lower, ASCII case aside; lower must be in lower case.
func EqualFold(b []byte, lower string) bool { panic("todo") }

// scanner is where a head parser stopped.
type scanner struct{ pos int }
