package h1

// chunkState is where in the chunked coding the next byte stands (RFC 9112, 7.1).
type chunkState uint8

const (
	chunkSize     chunkState = iota // in the size's digits
	chunkSpace                      // white space after the size: an extension must follow
	chunkName                       // before an extension's name
	chunkNameMore                   // in it
	chunkEquals                     // white space after it
	chunkValue                      // before its value
	chunkToken                      // in a value that is a token
	chunkQuoted                     // in one that is a quoted string
	chunkEscape                     // after a backslash in that
	chunkAfter                      // after a value
	chunkLF                         // after the CR of a size line
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
)

// next decodes one step of the chunked coding: framing bytes up to the next
// data, or data.
func (b *Body) next(in []byte) (data []byte, n int, f fault) {
	for n < len(in) {
		c := in[n]
		switch b.chunk {
		case chunkData:
			if n > 0 {
				return nil, n, fine
			}
			n = int(min(int64(len(in)), b.left))
			if b.left -= int64(n); b.left == 0 {
				b.chunk = chunkDataCR
			}
			return in[:n:n], n, fine
		case chunkDataCR:
			if c != '\r' {
				return nil, 0, faultChunkEnd
			}
			b.chunk = chunkDataLF
			n++
		case chunkDataLF:
			if c != '\n' {
				return nil, 0, faultChunkEnd
			}
			b.chunk, b.digits, b.line = chunkSize, 0, 0
			n++
		case chunkTrailer:
			if n > 0 {
				return nil, n, fine // the trailer section begins an input
			}
			return b.trailer(in)
		default:
			if f := b.sizeLine(c); f != fine {
				return nil, 0, f
			}
			n++
		}
	}
	return nil, n, fine
}

// sizeLine takes in one byte of a chunk-size line. Extensions are checked and
// dropped, as a recipient must ignore those it doesn't know (RFC 9112, 7.1.1).
func (b *Body) sizeLine(c byte) fault {
	if b.line++; b.line > MaxChunkLine {
		return faultChunkExtension
	}
	space := c == ' ' || c == '\t'
	switch b.chunk {
	case chunkSize:
		if v := unhex(c); v < 16 {
			if b.left != 0 { // zeros in front mean nothing
				b.digits++
			}
			if b.digits >= MaxChunkDigits {
				return faultChunkSize
			}
			b.left = b.left<<4 | int64(v)
			return fine
		}
		if b.line == 1 {
			return faultChunkSize
		}
		return b.sizeEnd(c, space, faultChunkSize)
	case chunkSpace:
		if space {
			return fine
		}
		if c != ';' {
			return faultChunkSize
		}
		b.chunk = chunkName
	case chunkName:
		switch {
		case space:
		case classes[c]&classToken != 0:
			b.chunk = chunkNameMore
		default:
			return faultChunkExtension
		}
	case chunkNameMore:
		switch {
		case classes[c]&classToken != 0:
		case c == '=':
			b.chunk = chunkValue
		case space:
			b.chunk = chunkEquals
		default:
			return b.sizeEnd(c, false, faultChunkExtension)
		}
	case chunkEquals:
		switch {
		case space:
		case c == '=':
			b.chunk = chunkValue
		case c == ';':
			b.chunk = chunkName
		default:
			return faultChunkExtension
		}
	case chunkValue:
		switch {
		case space:
		case c == '"':
			b.chunk = chunkQuoted
		case classes[c]&classToken != 0:
			b.chunk = chunkToken
		default:
			return faultChunkExtension
		}
	case chunkToken:
		if classes[c]&classToken != 0 {
			return fine
		}
		return b.sizeEnd(c, space, faultChunkExtension)
	case chunkQuoted:
		switch {
		case c == '"':
			b.chunk = chunkAfter
		case c == '\\':
			b.chunk = chunkEscape
		case classes[c]&classText == 0:
			return faultChunkExtension
		}
	case chunkEscape:
		if classes[c]&classText == 0 {
			return faultChunkExtension
		}
		b.chunk = chunkQuoted
	case chunkAfter:
		return b.sizeEnd(c, space, faultChunkExtension)
	case chunkLF:
		if c != '\n' {
			return faultChunkEnd
		}
		return b.sizeDone()
	}
	return fine
}

// sizeEnd takes in a byte that may end the size or an extension.
func (b *Body) sizeEnd(c byte, space bool, otherwise fault) fault {
	switch {
	case c == '\r':
		b.chunk = chunkLF
	case c == ';':
		b.chunk = chunkName
	case space:
		b.chunk = chunkSpace
	case c == '\n':
		return faultChunkEnd
	default:
		return otherwise
	}
	return fine
}

// sizeDone settles a whole size line. Framing beyond 16 bytes a chunk must be
// paid for by data, or a sender could make us work for nothing.
func (b *Body) sizeDone() fault {
	b.excess = max(0, b.excess+int64(b.line)-16-2*min(b.left, MaxChunkExcess))
	if b.excess > MaxChunkExcess {
		return faultChunkExcess
	}
	b.chunk = chunkData
	if b.left == 0 {
		b.chunk = chunkTrailer
	}
	return fine
}

// trailer reads the trailer section, when it is whole.
func (b *Body) trailer(in []byte) (data []byte, n int, f fault) {
	done, f := b.scan.fields(in, b.maxTrailer, b.maxFields, b.response)
	switch {
	case f == faultHeadLarge || f == faultFields:
		return nil, 0, faultTrailerLarge
	case f != fine:
		return nil, 0, faultTrailer
	case !done:
		return nil, 0, fine
	}
	b.open = false
	b.Trailers = b.scan.materialise(b.Trailers, in)
	kept := b.Trailers[:0]
	for _, field := range b.Trailers {
		if mayTrail(field.ID) && !isNamed(b.named, field.Name) {
			kept = append(kept, field)
		}
	}
	b.Trailers = kept
	return nil, b.scan.line, fine
}

// mayTrail says that a field may stand in a trailer section: not one that
// frames, routes, authenticates, conditions or describes the message
// (RFC 9110, 6.5.1). All of those are names this package knows.
func mayTrail(id NameID) bool {
	switch id {
	case OtherName, Server, UserAgent, Via, Accept:
		return true
	}
	return false
}
