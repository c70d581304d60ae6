package h1

// Body decodes the body of one message, whatever its framing. The zero value
// is a body that has ended.
type Body struct {
	// Trailers are the allowed trailer fields of a chunked body, once Next said
	// done: slices of the last input.
	Trailers []Field

	framing    Framing
	open       bool // not done
	response   bool
	named      []byte // fields that Connection named: they aren't for the next hop
	left       int64  // data that is still to come, of the body or the chunk
	chunk      chunkState
	digits     int // of the chunk size so far
	line       int // bytes of the chunk-size line so far
	excess     int64
	maxTrailer int
	maxFields  int
	scan       scanner
}

// InitRequest starts the body of a parsed request.
func (b *Body) InitRequest(r *Request, lim *Limits) {
	b.init(r.Framing, r.Length, false, r.named, lim)
}

// InitResponse starts the body of a parsed response.
func (b *Body) InitResponse(r *Response, lim *Limits) {
	b.init(r.Framing, r.Length, true, r.named, lim)
}

func (b *Body) init(f Framing, length int64, response bool, named []byte, lim *Limits) {
	if lim == nil {
		lim = &noLimits
	}
	trailers, lines := b.Trailers[:0], b.scan.lines[:0]
	*b = Body{
		Trailers: trailers, framing: f, response: response, named: named,
		maxTrailer: or(lim.MaxTrailer, DefaultMaxTrailer),
		maxFields:  or(lim.MaxFields, DefaultMaxFields),
	}
	b.scan.lines = lines
	switch f {
	case NoBody:
	case Length:
		b.left = length
		b.open = length > 0
	default:
		b.open = true
	}
}

// Next consumes n bytes of in and gives out data, a slice of those (empty where
// they are framing). done says that the body ended with them. n == 0 without
// done means that more bytes are needed; in must then start with the same bytes
// next time. A trailer section is taken at once: the buffer that in is must be
// able to hold Limits.MaxTrailer bytes. A Tunnel is taken as a body until close.
func (b *Body) Next(in []byte) (data []byte, n int, done bool, err *Error) {
	if !b.open {
		return nil, 0, true, nil
	}
	switch b.framing {
	case Length:
		n = int(min(int64(len(in)), b.left))
		b.left -= int64(n)
		b.open = b.left > 0
		return in[:n:n], n, !b.open, nil
	case Chunked:
		data, n, f := b.next(in)
		if f != fine {
			b.open = false
			if b.response {
				return nil, 0, false, f.response()
			}
			return nil, 0, false, f.request()
		}
		return data, n, !b.open, nil
	}
	return in, len(in), false, nil
}

// Done says that the body has ended.
func (b *Body) Done() bool { return !b.open }

// Left returns how many bytes a Length body still lacks, so that they can be
// spliced; -1 for any other framing.
func (b *Body) Left() int64 {
	if b.framing == Length {
		return b.left
	}
	if !b.open {
		return 0
	}
	return -1
}

// Skip tells a Length body that n bytes went around Next.
func (b *Body) Skip(n int64) {
	if b.framing == Length {
		b.left -= n
		b.open = b.left > 0
	}
}

// EOF tells the body that the peer closed. That ends a body until close and is
// nothing to one that is done; any other body was cut, which is the error.
func (b *Body) EOF() *Error {
	if b.open && (b.framing == UntilClose || b.framing == Tunnel) {
		b.open = false
	}
	switch {
	case !b.open:
		return nil
	case b.response:
		return faultCut.response()
	}
	return faultCut.request()
}
