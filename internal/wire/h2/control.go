package h2

import "encoding/binary"

// ParsePriority checks a PRIORITY frame, whose content has no effect. A
// wrong size and a dependency on itself are stream errors.
func ParsePriority(f Frame) error {
	if err := f.onStream(); err != nil {
		return err
	}
	if len(f.Payload) != dependencyLen {
		return StreamError{f.Stream, FrameSizeError, "PRIORITY not 5 bytes"}
	}
	if parseDependency(f.Payload).Stream == f.Stream {
		return StreamError{f.Stream, ProtocolError, selfDependency}
	}
	return nil
}

// ParseRSTStream reads a RST_STREAM frame.
func ParseRSTStream(f Frame) (Code, error) {
	if err := f.onStream(); err != nil {
		return 0, err
	}
	if len(f.Payload) != 4 {
		return 0, ConnectionError{FrameSizeError, "RST_STREAM not 4 bytes"}
	}
	return Code(binary.BigEndian.Uint32(f.Payload)), nil
}

// AppendRSTStream appends a RST_STREAM frame.
func AppendRSTStream(dst []byte, stream uint32, code Code) []byte {
	dst = AppendHeader(dst, Header{4, RSTStream, 0, stream})
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

// ParsePing reads a PING frame: its 8 opaque bytes, and whether it answers one.
func ParsePing(f Frame) (data [8]byte, ack bool, err error) {
	if err := f.onConnection(); err != nil {
		return data, false, err
	}
	if len(f.Payload) != len(data) {
		return data, false, ConnectionError{FrameSizeError, "PING not 8 bytes"}
	}
	copy(data[:], f.Payload)
	return data, f.Flags.Has(FlagAck), nil
}

// AppendPing appends a PING frame or, with ack, the answer to one.
func AppendPing(dst []byte, ack bool, data [8]byte) []byte {
	var flags Flags
	if ack {
		flags = FlagAck
	}
	return append(AppendHeader(dst, Header{8, Ping, flags, 0}), data[:]...)
}

// GoAwayFrame is what a GOAWAY frame says.
type GoAwayFrame struct {
	LastStream uint32 // streams above it were not and will not be processed
	Code       Code
	Debug      []byte // the peer's own words: not to be trusted, nor logged unquoted
}

// ParseGoAway reads a GOAWAY frame.
func ParseGoAway(f Frame) (g GoAwayFrame, err error) {
	if err := f.onConnection(); err != nil {
		return g, err
	}
	if len(f.Payload) < 8 {
		return g, ConnectionError{FrameSizeError, "GOAWAY shorter than 8 bytes"}
	}
	g.LastStream = binary.BigEndian.Uint32(f.Payload) & MaxStream
	g.Code = Code(binary.BigEndian.Uint32(f.Payload[4:]))
	g.Debug = f.Payload[8:]
	return g, nil
}

// AppendGoAway appends a GOAWAY frame.
func AppendGoAway(dst []byte, lastStream uint32, code Code, debug string) []byte {
	dst = AppendHeader(dst, Header{uint32(8 + len(debug)), GoAway, 0, 0})
	dst = binary.BigEndian.AppendUint32(dst, lastStream)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, debug...)
}

// ParseWindowUpdate reads a WINDOW_UPDATE frame. An increment of 0 is an
// error of the stream or, on stream 0, of the connection.
func ParseWindowUpdate(f Frame) (increment uint32, err error) {
	if len(f.Payload) != 4 {
		return 0, ConnectionError{FrameSizeError, "WINDOW_UPDATE not 4 bytes"}
	}
	increment = binary.BigEndian.Uint32(f.Payload) & MaxWindow
	if increment == 0 {
		if f.Stream == 0 {
			return 0, ConnectionError{ProtocolError, "WINDOW_UPDATE of 0"}
		}
		return 0, StreamError{f.Stream, ProtocolError, "WINDOW_UPDATE of 0"}
	}
	return increment, nil
}

// AppendWindowUpdate appends a WINDOW_UPDATE frame; increment is 1 to MaxWindow.
func AppendWindowUpdate(dst []byte, stream, increment uint32) []byte {
	dst = AppendHeader(dst, Header{4, WindowUpdate, 0, stream})
	return binary.BigEndian.AppendUint32(dst, increment)
}
