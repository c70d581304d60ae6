package h1

// Error says why a message is refused. All Errors are constants of this
// package: comparing pointers is fine, and none allocates.
type Error struct {
	// Status is what a client is answered: 4xx or 5xx for its own request, 502
	// for a response from upstream.
	Status int
	// Reason is a metric label from a fixed set: see Reasons.
	Reason string
	// Text is one sentence for people; it quotes nothing of the message.
	Text string
}

// Error returns the sentence.
func (e *Error) Error() string { return e.Text }

// fault is an index into the table of what can be wrong with a message.
type fault uint8

const (
	fine fault = iota
	faultEmptyLines
	faultLineEnd
	faultControl
	faultRequestLine
	faultMethodLong
	faultTarget
	faultTargetLong
	faultTargetForm
	faultVersion
	faultMajor
	faultStatusLine
	faultHeadLarge
	faultFields
	faultFieldName
	faultFieldSpace
	faultFieldValue
	faultFold
	faultHostMissing
	faultHostTwice
	faultHost
	faultLength
	faultLengthTwice
	faultLengthLarge
	faultLengthAndCoding
	faultCoding
	faultCodingUnknown
	faultCodingOld
	faultConnection
	faultNominated
	faultMaxForwards
	faultContent
	faultUpgrade
	faultChunkSize
	faultChunkExtension
	faultChunkEnd
	faultChunkExcess
	faultTrailer
	faultTrailerLarge
	faultCut
	faultCount
)

// faults says of each fault what a client is answered for its request, the
// metric label and the sentence.
var faults = [faultCount]Error{
	faultEmptyLines:      {400, "request_line", "too many empty lines stand before the request line"},
	faultLineEnd:         {400, "line_end", "a line of the head doesn't end with CR LF"},
	faultControl:         {400, "line_end", "a line of the head has a control character, or a CR without LF"},
	faultRequestLine:     {400, "request_line", "the request line isn't METHOD SP TARGET SP HTTP/1.1"},
	faultMethodLong:      {501, "method_too_long", "the method is longer than any that is implemented"},
	faultTarget:          {400, "target", "the request target has a byte or a part that a URI doesn't allow"},
	faultTargetLong:      {414, "target_too_long", "the request target is longer than the limit"},
	faultTargetForm:      {400, "target_form", "the request target has a form its method doesn't allow"},
	faultVersion:         {400, "version", "the protocol version isn't HTTP/DIGIT.DIGIT"},
	faultMajor:           {505, "version", "only HTTP/1.0 and HTTP/1.1 are spoken here"},
	faultStatusLine:      {502, "status_line", "the status line isn't HTTP/1.1 SP STATUS SP REASON with a status of 100 to 599"},
	faultHeadLarge:       {431, "head_too_large", "the head is larger than the limit"},
	faultFields:          {431, "too_many_fields", "the head has more field lines than the limit"},
	faultFieldName:       {400, "field_name", "a field line has no colon or its name isn't a token"},
	faultFieldSpace:      {400, "field_name", "white space stands between a field's name and the colon"},
	faultFieldValue:      {400, "field_value", "a field's value has a control character"},
	faultFold:            {400, "line_folding", "a line of the head begins with white space (obsolete line folding)"},
	faultHostMissing:     {400, "host", "an HTTP/1.1 request must have a Host field"},
	faultHostTwice:       {400, "host", "more than one Host field"},
	faultHost:            {400, "host", "the Host field isn't a host with an optional port"},
	faultLength:          {400, "content_length", "Content-Length isn't a decimal number"},
	faultLengthTwice:     {400, "content_length", "more than one Content-Length"},
	faultLengthLarge:     {413, "content_length", "Content-Length is larger than any body that can be handled"},
	faultLengthAndCoding: {400, "length_and_coding", "both Transfer-Encoding and Content-Length"},
	faultCoding:          {400, "transfer_encoding", "Transfer-Encoding doesn't end with a single chunked coding"},
	faultCodingUnknown:   {501, "transfer_coding_unknown", "no transfer coding but chunked is implemented"},
	faultCodingOld:       {400, "transfer_encoding", "an HTTP/1.0 message can't have Transfer-Encoding"},
	faultConnection:      {400, "connection", "the Connection field isn't a list of tokens within the limit"},
	faultNominated:       {400, "connection", "the Connection field names a field that isn't of one connection"},
	faultMaxForwards:     {400, "max_forwards", "Max-Forwards isn't one decimal number"},
	faultContent:         {400, "content", "this method can't have content"},
	faultUpgrade:         {502, "upgrade", "the server switched to a protocol nobody asked for"},
	faultChunkSize:       {400, "chunk", "a chunk size isn't a hexadecimal number of at most 15 digits"},
	faultChunkExtension:  {400, "chunk", "a chunk extension doesn't follow the grammar or is too long"},
	faultChunkEnd:        {400, "chunk", "a chunk or its size line doesn't end with CR LF"},
	faultChunkExcess:     {400, "chunk", "the chunks carry far more framing than data"},
	faultTrailer:         {400, "trailer", "the trailer section doesn't follow the grammar"},
	faultTrailerLarge:    {431, "trailer", "the trailer section is larger than the limit"},
	faultCut:             {400, "cut", "the connection was closed before the message ended"},
}

// gateway holds the same faults as found in a response: a bad gateway.
var gateway = func() (g [faultCount]Error) {
	g = faults
	for i := range g {
		g[i].Status = 502
	}
	return g
}()

// request returns the error of a fault found in a request, nil if it is fine.
func (f fault) request() *Error {
	if f == fine {
		return nil
	}
	return &faults[f]
}

// response returns the error of a fault found in a response, nil if it is fine.
func (f fault) response() *Error {
	if f == fine {
		return nil
	}
	return &gateway[f]
}

// Reasons returns every Error.Reason there is, for those who count them.
func Reasons() []string {
	var reasons []string
	seen := map[string]bool{"": true}
	for i := range faults {
		if r := faults[i].Reason; !seen[r] {
			seen[r] = true
			reasons = append(reasons, r)
		}
	}
	return reasons
}
