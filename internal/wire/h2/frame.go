package h2

import (
	"encoding/binary"
	"strconv"
)

// Preface is what a client sends first (RFC 9113, section 3.4); a SETTINGS
// frame follows it.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Sizes every endpoint must know.
const (
	HeaderLen        = 9         // bytes of a frame's header
	MinMaxFrameSize  = 1 << 14   // smallest value of SETTINGS_MAX_FRAME_SIZE, and its initial one
	MaxMaxFrameSize  = 1<<24 - 1 // largest value of SETTINGS_MAX_FRAME_SIZE
	InitialWindow    = 1<<16 - 1 // flow-control window of a stream and of the connection before any frame
	MaxWindow        = 1<<31 - 1 // no window may ever be larger
	MaxStream        = 1<<31 - 1 // largest stream identifier
	DefaultTableSize = 4096      // SETTINGS_HEADER_TABLE_SIZE before any frame
)

// Type is a frame's type. Types not listed here are legal and ignored
// (RFC 9113, section 4.1).
type Type uint8

// The frame types of RFC 9113, section 6.
const (
	Data         Type = 0x0
	Headers      Type = 0x1
	Priority     Type = 0x2
	RSTStream    Type = 0x3
	Settings     Type = 0x4
	PushPromise  Type = 0x5
	Ping         Type = 0x6
	GoAway       Type = 0x7
	WindowUpdate Type = 0x8
	Continuation Type = 0x9
)

var typeNames = [...]string{
	Data:         "DATA",
	Headers:      "HEADERS",
	Priority:     "PRIORITY",
	RSTStream:    "RST_STREAM",
	Settings:     "SETTINGS",
	PushPromise:  "PUSH_PROMISE",
	Ping:         "PING",
	GoAway:       "GOAWAY",
	WindowUpdate: "WINDOW_UPDATE",
	Continuation: "CONTINUATION",
}

// String is the type's name in RFC 9113, or its number in hexadecimal.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "0x" + strconv.FormatUint(uint64(t), 16)
}

// Flags are a frame's flags; their meaning depends on the type, and a flag
// without meaning for the type is ignored.
type Flags uint8

// The flags of RFC 9113, section 6.
const (
	FlagAck        Flags = 0x1  // SETTINGS, PING
	FlagEndStream  Flags = 0x1  // DATA, HEADERS
	FlagEndHeaders Flags = 0x4  // HEADERS, PUSH_PROMISE, CONTINUATION
	FlagPadded     Flags = 0x8  // DATA, HEADERS, PUSH_PROMISE
	FlagPriority   Flags = 0x20 // HEADERS
)

// Has reports whether every flag of x is set.
func (f Flags) Has(x Flags) bool { return f&x == x }

// Header is the 9-byte header of a frame. The reserved bit is dropped.
type Header struct {
	Length uint32 // of the payload, bytes, up to MaxMaxFrameSize
	Type   Type
	Flags  Flags
	Stream uint32 // 0 is the connection
}

// ParseHeader reads a frame header; b holds at least HeaderLen bytes.
func ParseHeader(b []byte) Header {
	_ = b[HeaderLen-1]
	return Header{
		Length: uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]),
		Type:   Type(b[3]),
		Flags:  Flags(b[4]),
		Stream: binary.BigEndian.Uint32(b[5:]) & MaxStream,
	}
}

// AppendHeader appends a frame header.
func AppendHeader(dst []byte, h Header) []byte {
	return append(dst, byte(h.Length>>16), byte(h.Length>>8), byte(h.Length), byte(h.Type), byte(h.Flags),
		byte(h.Stream>>24), byte(h.Stream>>16), byte(h.Stream>>8), byte(h.Stream))
}

// PutHeader writes a frame header over b, which holds at least HeaderLen
// bytes: for frames whose length is known only after their payload.
func PutHeader(b []byte, h Header) {
	_ = b[HeaderLen-1]
	b[0], b[1], b[2], b[3], b[4] = byte(h.Length>>16), byte(h.Length>>8), byte(h.Length), byte(h.Type), byte(h.Flags)
	binary.BigEndian.PutUint32(b[5:], h.Stream)
}

// Frame is one whole frame in the caller's read buffer.
type Frame struct {
	Header
	Payload []byte // Header.Length bytes, still with padding
}

// Cut takes the first frame off b. n is its whole length; n == 0 with a nil
// error means b doesn't hold all of it yet. maxFrame is the
// SETTINGS_MAX_FRAME_SIZE this endpoint announced; a longer frame is a
// connection error, seen as soon as its header is there.
func Cut(b []byte, maxFrame uint32) (f Frame, n int, err error) {
	if len(b) < HeaderLen {
		return Frame{}, 0, nil
	}
	h := ParseHeader(b)
	if h.Length > maxFrame {
		return Frame{Header: h}, 0, ConnectionError{FrameSizeError, "frame longer than SETTINGS_MAX_FRAME_SIZE"}
	}
	n = HeaderLen + int(h.Length)
	if len(b) < n {
		return Frame{}, 0, nil
	}
	return Frame{h, b[HeaderLen:n:n]}, n, nil
}

// Check says what is wrong with a frame of which only the header is there, if it
// is an error of the connection: the Parse functions would say the same.
func (h Header) Check() error {
	size := false
	switch h.Type {
	case Data, Headers, Priority, Continuation:
		return h.onStream()
	case RSTStream:
		if err := h.onStream(); err != nil {
			return err
		}
		size = h.Length == 4
	case WindowUpdate:
		size = h.Length == 4
	case Settings, Ping, GoAway:
		if err := h.onConnection(); err != nil {
			return err
		}
		switch {
		case h.Type == Ping:
			size = h.Length == 8
		case h.Type == GoAway:
			size = h.Length >= 8
		default:
			size = h.Length%settingLen == 0 && (h.Length == 0 || !h.Flags.Has(FlagAck))
		}
	default:
		return nil
	}
	if !size {
		return ConnectionError{FrameSizeError, h.Type.String() + " of a wrong size"}
	}
	return nil
}

// onConnection and onStream check a frame's stream identifier.
func (h Header) onConnection() error {
	if h.Stream != 0 {
		return ConnectionError{ProtocolError, h.Type.String() + " on a stream"}
	}
	return nil
}

func (h Header) onStream() error {
	if h.Stream == 0 {
		return ConnectionError{ProtocolError, h.Type.String() + " on stream 0"}
	}
	return nil
}

// unpad cuts padding off a payload whose PADDED flag is set.
func (f *Frame) unpad() ([]byte, error) {
	p := f.Payload
	if !f.Flags.Has(FlagPadded) {
		return p, nil
	}
	if len(p) == 0 {
		return nil, ConnectionError{FrameSizeError, f.Type.String() + " too short for its pad length"}
	}
	pad := int(p[0])
	if pad >= len(p) {
		return nil, ConnectionError{ProtocolError, f.Type.String() + " with more padding than payload"}
	}
	return p[1 : len(p)-pad], nil
}
