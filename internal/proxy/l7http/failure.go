package l7http

import (
	"errors"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/wire/h1"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// Failure is an answer that the proxy makes itself.
type Failure struct {
	Status int
	// Error is the Proxy-Status error type (RFC 9209, 2.3), and the reason in
	// the metrics.
	Error string
	// Text is one sentence for the person who gets the answer.
	Text string
	// Malformed says that it was the client's doing.
	Malformed bool
}

// Later is what a Router returns when it has to wait for an answer.
var Later = &Failure{}

// The failures. 4xx here are what the client did, 5xx what happened behind.
var (
	NoRoute = &Failure{404, "destination_not_found", "No route matches this request.", false}
	NoHost  = &Failure{502, "destination_not_found", "This name is not known.", false}
	// NoBackend is a rule whose backend doesn't exist (Gateway API: 500).
	NoBackend   = &Failure{500, "destination_not_found", "The route's backend does not exist.", false}
	NoEndpoints = &Failure{503, "destination_unavailable", "There is no endpoint that could answer.", false}
	Looped      = &Failure{508, "proxy_loop_detected", "The request came back to where it was sent from.", false}
	// Misdirected is a request on a connection that was made for another listener
	// of the port (RFC 9110, 15.5.20).
	Misdirected = &Failure{421, "http_request_denied", "This connection was made for another host name.", true}
	NotAProxy   = &Failure{501, "http_request_denied", "CONNECT is answered by a forward listener only.", true}

	refused        = &Failure{502, "connection_refused", "The endpoint refused the connection.", false}
	connectTimeout = &Failure{504, "connection_timeout", "The endpoint could not be connected to in time.", false}
	connectFailed  = &Failure{503, "destination_ip_unroutable", "The endpoint could not be connected to.", false}
	overLimit      = &Failure{503, dial.Reason(dial.ErrLimit), "As many requests or connections are under way as the destination's limits allow.", false}
	// another is an endpoint whose address has come to another workload.
	another         = &Failure{502, "tls_certificate_error", "Another workload answers at the endpoint's address.", false}
	tlsFailed       = &Failure{502, "tls_certificate_error", "TLS with the endpoint failed.", false}
	lost            = &Failure{502, "connection_terminated", "The endpoint closed the connection before it answered.", false}
	responseTimeout = &Failure{504, "http_response_timeout", "The endpoint did not answer in time.", false}
	tooLate         = &Failure{504, "http_response_timeout", "The caller's time was over before the request could be sent.", false}
	unwantedAnswer  = &Failure{503, "destination_unavailable", "No endpoint gave a good answer.", false}
	notSwitched     = &Failure{502, "http_protocol_error", "The endpoint didn't switch to the protocol that was asked for.", false}
	badResponse     = &Failure{502, "http_protocol_error", "The endpoint's answer is not valid HTTP.", false}
	requestTimeout  = &Failure{408, "http_request_error", "The request did not arrive in time.", true}
	// options answers OPTIONS that may go no further (RFC 9110, 7.6.2).
	options      = &Failure{Status: 200}
	tooLarge     = &Failure{431, "http_request_error", "The request's fields are too many or too long.", true}
	traceRefused = &Failure{405, "http_request_denied", "This proxy answers no TRACE itself.", true}
	misdirected  = &Failure{421, "http_request_denied", "A request for an https URI must come over TLS.", true}
	noHTTPS      = &Failure{501, "http_request_denied", "An https URI is reached by CONNECT and TLS through it.", true}
)

// reason is how the failure is counted.
func (f *Failure) reason() string {
	switch f {
	case tooLate:
		return "deadline_exceeded"
	case bodyTooSlow:
		return senderTooSlow
	case outlived:
		return PeerExpired
	case tokenEnded:
		return tokenReason
	case another:
		return dial.OtherWorkload
	}
	return f.Error
}

// vanished reports whether a connection broke because nothing was heard of the
// other end any more.
func vanished(err error) bool {
	var broken wire.ConnectionError
	return errors.Is(err, unix.ETIMEDOUT) || errors.As(err, &broken) && broken.Code == wire.NoError
}

// spoiled reports whether we ended a connection because the other end breaks a rule
// of HTTP/2.
func spoiled(err error) bool {
	var broken wire.ConnectionError
	return errors.As(err, &broken) && broken.Code != wire.NoError
}

// fromConnect says what a failed attempt to connect means to the client.
func fromConnect(err error) *Failure {
	if dial.Other(err) {
		return another
	}
	switch dial.Reason(err) {
	case connectTimeout.Error:
		return connectTimeout
	case Looped.Error:
		return Looped
	case tlsFailed.Error:
		return tlsFailed
	case overLimit.Error:
		return overLimit
	case refused.Error:
		return refused
	}
	return connectFailed
}

// fromParse is the answer to a request that makes no sense.
func fromParse(e *h1.Error) *Failure {
	return &Failure{e.Status, "http_request_error", e.Text, true}
}

// allowed is what Allow says.
const allowed = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"

// appendStatus appends a Proxy-Status (RFC 9209). detail says what policy it was,
// if it was one.
func appendStatus(dst []byte, f *Failure, detail string) []byte {
	dst = append(append(dst, "tulle; error="...), f.Error...)
	if detail == "" {
		return dst
	}
	dst = append(dst, `; details="`...)
	for i := range len(detail) {
		if c := detail[i]; c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// fromResponse is the answer when the endpoint's makes no sense (RFC 9209, 2.3).
func fromResponse(e *h1.Error) *Failure {
	f := &Failure{Status: badResponse.Status, Error: badResponse.Error, Text: e.Text}
	switch e.Reason {
	case "head_too_large", "too_many_fields":
		f.Error = "http_response_header_section_size"
	case "transfer_encoding", "transfer_coding_unknown":
		f.Error = "http_response_transfer_coding"
	}
	return f
}

// appendReply appends the whole answer to r. HEAD gets no body.
func appendReply(dst []byte, f *Failure, detail string, extra []h1.Field, r *h1.Request, date []byte, closes bool) []byte {
	dst = h1.AppendStatusLine(dst, f.Status)
	dst = append(dst, "Date: "...)
	dst = append(dst, date...)
	dst = append(dst, "\r\n"...)
	if f.Error != "" {
		dst = append(appendStatus(append(dst, "Proxy-Status: "...), f, detail), "\r\n"...)
	}
	for i := range extra {
		dst = h1.AppendField(dst, string(extra[i].Name), string(extra[i].Value))
	}
	if f.Status == 405 || f == options {
		dst = h1.AppendField(dst, "Allow", allowed)
	}
	switch {
	case closes:
		dst = h1.AppendField(dst, "Connection", "close")
	case r.Minor == 0:
		dst = h1.AppendField(dst, "Connection", "keep-alive")
	}
	if f.Status == 204 || f.Status == 304 {
		return append(dst, "\r\n"...) // and not even a length
	}
	if f.Text == "" {
		return append(dst, "Content-Length: 0\r\n\r\n"...)
	}
	if h1Get(extra, h1.ContentType) != nil { // somebody else's words
		dst = h1.AppendField(dst, "Content-Length", itoa(len(f.Text)))
		dst = append(dst, "\r\n"...)
		if r.Method != h1.HEAD {
			dst = append(dst, f.Text...)
		}
		return dst
	}
	dst = h1.AppendField(dst, "Content-Type", "text/plain; charset=utf-8")
	dst = h1.AppendField(dst, "Content-Length", itoa(len(f.Text)+1))
	dst = append(dst, "\r\n"...)
	if r.Method != h1.HEAD {
		dst = append(dst, f.Text...)
		dst = append(dst, '\n')
	}
	return dst
}
