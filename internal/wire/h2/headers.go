package h2

import "encoding/binary"

// Dependency is the stream dependency of a PRIORITY frame or a HEADERS frame
// with the PRIORITY flag. RFC 9113 deprecates the scheme; it is parsed
// because a stream that depends on itself is an error.
type Dependency struct {
	Stream    uint32
	Exclusive bool
	Weight    uint8 // the weight less one
}

const dependencyLen = 5

func parseDependency(p []byte) Dependency {
	v := binary.BigEndian.Uint32(p)
	return Dependency{v & MaxStream, v>>31 == 1, p[4]}
}

const selfDependency = "stream depends on itself"

// HeadersFrame is what a HEADERS frame says.
type HeadersFrame struct {
	Fragment   []byte // of the field block
	EndStream  bool
	EndHeaders bool // no CONTINUATION follows
	// SelfDependent is set when the frame's priority names its own stream: a
	// stream error of type ProtocolError, which the caller raises only after
	// the field block has been decoded, since the block changes the
	// connection's compression state whatever becomes of the stream.
	SelfDependent bool
}

// ParseHeaders reads a HEADERS frame. Every error is a connection error.
func ParseHeaders(f Frame) (h HeadersFrame, err error) {
	if err := f.onStream(); err != nil {
		return h, err
	}
	p, err := f.unpad()
	if err != nil {
		return h, err
	}
	if f.Flags.Has(FlagPriority) {
		if len(p) < dependencyLen {
			return h, ConnectionError{FrameSizeError, "HEADERS too short for its priority"}
		}
		h.SelfDependent = parseDependency(p).Stream == f.Stream
		p = p[dependencyLen:]
	}
	h.Fragment = p
	h.EndStream = f.Flags.Has(FlagEndStream)
	h.EndHeaders = f.Flags.Has(FlagEndHeaders)
	return h, nil
}

// ParseContinuation reads a CONTINUATION frame: a further fragment of the
// field block begun by the frame before it on the same stream.
func ParseContinuation(f Frame) (fragment []byte, endHeaders bool, err error) {
	if err := f.onStream(); err != nil {
		return nil, false, err
	}
	return f.Payload, f.Flags.Has(FlagEndHeaders), nil
}

// PushPromiseFrame is what a PUSH_PROMISE frame says.
type PushPromiseFrame struct {
	Promised   uint32
	Fragment   []byte
	EndHeaders bool
}

// ParsePushPromise reads a PUSH_PROMISE frame. An endpoint that has disabled
// push treats the frame itself as a connection error, and does not call this.
func ParsePushPromise(f Frame) (p PushPromiseFrame, err error) {
	if err := f.onStream(); err != nil {
		return p, err
	}
	b, err := f.unpad()
	if err != nil {
		return p, err
	}
	if len(b) < 4 {
		return p, ConnectionError{FrameSizeError, "PUSH_PROMISE shorter than 4 bytes"}
	}
	p.Promised = binary.BigEndian.Uint32(b) & MaxStream
	if p.Promised == 0 {
		return p, ConnectionError{ProtocolError, "PUSH_PROMISE of stream 0"}
	}
	p.Fragment = b[4:]
	p.EndHeaders = f.Flags.Has(FlagEndHeaders)
	return p, nil
}

// AppendHeaders appends a whole field block as one HEADERS frame and as many
// CONTINUATION frames as maxFrame, the peer's SETTINGS_MAX_FRAME_SIZE, asks
// for. See FinishHeaders for a way without copying.
func AppendHeaders(dst []byte, stream uint32, endStream bool, block []byte, maxFrame uint32) []byte {
	start := len(dst)
	dst = append(BeginHeaders(dst), block...)
	return FinishHeaders(dst, start, stream, endStream, maxFrame)
}

// BeginHeaders leaves room for the header of a HEADERS frame; the caller
// appends the field block behind it and calls FinishHeaders with the length
// that dst had before.
func BeginHeaders(dst []byte) []byte {
	var room [HeaderLen]byte
	return append(dst, room[:]...)
}

// FinishHeaders completes what BeginHeaders began: it fills in the header
// and, if the field block is longer than maxFrame, cuts it into CONTINUATION
// frames.
func FinishHeaders(dst []byte, start int, stream uint32, endStream bool, maxFrame uint32) []byte {
	var flags Flags
	if endStream {
		flags = FlagEndStream
	}
	n := len(dst) - start - HeaderLen
	if n <= int(maxFrame) {
		PutHeader(dst[start:], Header{uint32(n), Headers, flags | FlagEndHeaders, stream})
		return dst
	}
	more := (n - 1) / int(maxFrame) // CONTINUATION frames
	for range more {
		dst = BeginHeaders(dst)
	}
	// From the back, each fragment moves behind the headers that come before it.
	block := dst[start+HeaderLen:]
	for i := more; i > 0; i-- {
		from := i * int(maxFrame)
		to := min(from+int(maxFrame), n)
		at := from + (i-1)*HeaderLen // of the frame's header, in block
		copy(block[at+HeaderLen:], block[from:to])
		h := Header{uint32(to - from), Continuation, 0, stream}
		if i == more {
			h.Flags = FlagEndHeaders
		}
		PutHeader(block[at:], h)
	}
	PutHeader(dst[start:], Header{maxFrame, Headers, flags, stream})
	return dst
}
