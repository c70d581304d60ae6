package rpc

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"tulle.dev/tulle/internal/wire/h2"
)

// Code is a gRPC status code.
type Code uint32

// The status codes.
const (
	OK                 Code = 0
	Canceled           Code = 1
	Unknown            Code = 2
	InvalidArgument    Code = 3
	DeadlineExceeded   Code = 4
	NotFound           Code = 5
	AlreadyExists      Code = 6
	PermissionDenied   Code = 7
	ResourceExhausted  Code = 8
	FailedPrecondition Code = 9
	Aborted            Code = 10
	OutOfRange         Code = 11
	Unimplemented      Code = 12
	Internal           Code = 13
	Unavailable        Code = 14
	DataLoss           Code = 15
	Unauthenticated    Code = 16
)

var codeNames = [...]string{
	"OK", "canceled", "unknown", "invalid argument", "deadline exceeded", "not found", "already exists",
	"permission denied", "resource exhausted", "failed precondition", "aborted", "out of range",
	"unimplemented", "internal", "unavailable", "data loss", "unauthenticated",
}

func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "code " + strconv.Itoa(int(c))
}

// StatusError is how a call ended when not well.
type StatusError struct {
	Code    Code
	Message string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%v: %s", e.Code, e.Message) }

// head is what matters of a response's head or trailers.
type head struct {
	status      string
	contentType string
	grpcStatus  string
	grpcMessage string
}

func (h *head) add(name, value []byte) {
	switch string(name) {
	case ":status":
		h.status = string(value)
	case "content-type":
		h.contentType = string(value)
	case "grpc-status":
		h.grpcStatus = string(value)
	case "grpc-message":
		h.grpcMessage = unescape(string(value))
	}
}

// error is the call's end that trailers tell: io.EOF for OK.
func (h *head) error() error {
	n, err := strconv.ParseUint(h.grpcStatus, 10, 32)
	switch {
	case err != nil:
		return &StatusError{Code: Unknown, Message: fmt.Sprintf("the call ended with status %.16q", h.grpcStatus)}
	case Code(n) == OK:
		return io.EOF
	}
	return &StatusError{Code: Code(n), Message: h.grpcMessage}
}

// unescape decodes a grpc-message's percent encoding; what is not valid stays.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(n))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// statusOfHTTP is gRPC's mapping of an HTTP status without a gRPC one.
func statusOfHTTP(status string) Code {
	switch status {
	case "400":
		return Internal
	case "401":
		return Unauthenticated
	case "403":
		return PermissionDenied
	case "404":
		return Unimplemented
	case "429", "502", "503", "504":
		return Unavailable
	}
	return Unknown
}

// statusOfReset is gRPC's mapping of HTTP/2 error codes.
func statusOfReset(c h2.Code) Code {
	switch c {
	case h2.RefusedStream:
		return Unavailable
	case h2.Cancel:
		return Canceled
	case h2.EnhanceYourCalm:
		return ResourceExhausted
	case h2.InadequateSecurity:
		return PermissionDenied
	}
	return Internal
}
