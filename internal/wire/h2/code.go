package h2

import "strconv"

// Code is an error code (RFC 9113, section 7), carried by RST_STREAM and
// GOAWAY. Unknown codes are legal and mean InternalError.
type Code uint32

// The error codes of RFC 9113, section 7.
const (
	NoError            Code = 0x0
	ProtocolError      Code = 0x1
	InternalError      Code = 0x2
	FlowControlError   Code = 0x3
	SettingsTimeout    Code = 0x4
	StreamClosed       Code = 0x5
	FrameSizeError     Code = 0x6
	RefusedStream      Code = 0x7
	Cancel             Code = 0x8
	CompressionError   Code = 0x9
	ConnectError       Code = 0xa
	EnhanceYourCalm    Code = 0xb
	InadequateSecurity Code = 0xc
	HTTP11Required     Code = 0xd
)

var codeNames = [...]string{
	NoError:            "NO_ERROR",
	ProtocolError:      "PROTOCOL_ERROR",
	InternalError:      "INTERNAL_ERROR",
	FlowControlError:   "FLOW_CONTROL_ERROR",
	SettingsTimeout:    "SETTINGS_TIMEOUT",
	StreamClosed:       "STREAM_CLOSED",
	FrameSizeError:     "FRAME_SIZE_ERROR",
	RefusedStream:      "REFUSED_STREAM",
	Cancel:             "CANCEL",
	CompressionError:   "COMPRESSION_ERROR",
	ConnectError:       "CONNECT_ERROR",
	EnhanceYourCalm:    "ENHANCE_YOUR_CALM",
	InadequateSecurity: "INADEQUATE_SECURITY",
	HTTP11Required:     "HTTP_1_1_REQUIRED",
}

// String is the code's name in RFC 9113, or its number in hexadecimal.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "0x" + strconv.FormatUint(uint64(c), 16)
}

// ConnectionError ends the connection: a GOAWAY with this code, then close
// (RFC 9113, section 5.4.1).
type ConnectionError struct {
	Code   Code
	Reason string // what was wrong, for the GOAWAY's debug data and the log; never holds the peer's bytes
}

func (e ConnectionError) Error() string {
	return "http2: connection error " + e.Code.String() + ": " + e.Reason
}

// StreamError ends one stream: a RST_STREAM with this code; the connection
// goes on (RFC 9113, section 5.4.2).
type StreamError struct {
	Stream uint32
	Code   Code
	Reason string
}

func (e StreamError) Error() string {
	return "http2: stream " + strconv.FormatUint(uint64(e.Stream), 10) + ": " + e.Code.String() + ": " + e.Reason
}
