package h1

import "bytes"

// line is one field line as offsets from the start of the head.
type line struct {
	name, nameEnd, value, valueEnd uint32
	id                             NameID
}

// scanner is where a head parser stopped, and the field lines it has so far.
// It holds offsets, not slices: the buffer may move between two calls.
type scanner struct {
	line    int // where the line being read begins
	seen    int // up to where its end was looked for
	empty   int // empty lines before the start line
	started bool
	lines   []line
}

// next finds the line being read: buf[start:end], without its CR LF. end is -1
// when it isn't whole yet.
func (s *scanner) next(buf []byte) (start, end int, f fault) {
	i := bytes.IndexByte(buf[s.seen:], '\n')
	if i < 0 {
		f = s.begun(buf)
		s.seen = len(buf)
		return 0, -1, f
	}
	start, end = s.line, s.seen+i-1
	if end < start || buf[end] != '\r' {
		return 0, 0, faultLineEnd
	}
	s.line = end + 2
	s.seen = s.line
	return start, end, fine
}

// begun looks at the new bytes of a line whose end isn't there yet: what no line
// may hold needn't wait for that. A CR is good for nothing but the LF behind it.
func (s *scanner) begun(buf []byte) fault {
	for i := max(s.seen-1, s.line); i < len(buf); i++ {
		switch c := buf[i]; {
		case classes[c]&classText != 0, c == '\r' && i+1 == len(buf):
		default:
			return faultControl
		}
	}
	return fine
}

// maxNameLook bounds how much of a field line is looked at for its name each time
// that more of it comes.
const maxNameLook = 64

// fieldBegun does the same for what makes a field line's beginning.
func (s *scanner) fieldBegun(buf []byte, response bool) fault {
	b := buf[s.line:]
	b = b[:min(len(b), maxNameLook)]
	i := 0
	for i < len(b) && classes[b[i]]&classToken != 0 {
		i++
	}
	switch {
	case i == len(b) || b[i] == ':' || i == 0 && b[0] == '\r':
		return fine
	case b[i] != ' ' && b[i] != '\t':
		return faultFieldName
	case i == 0:
		return faultFold
	case response:
		return fine
	}
	return faultFieldSpace
}

// field reads buf[start:end] as a field line. In a response white space before
// the colon is taken away (RFC 9112, 5.1), in a request it is refused.
func (s *scanner) field(buf []byte, start, end int, response bool) fault {
	b := buf[start:end]
	i := 0
	for i < len(b) && classes[b[i]]&classToken != 0 {
		i++
	}
	if i == 0 && (b[0] == ' ' || b[0] == '\t') {
		return faultFold
	}
	if i == 0 || i == len(b) {
		return faultFieldName
	}
	colon := i
	if b[colon] == ' ' || b[colon] == '\t' {
		for colon < len(b) && (b[colon] == ' ' || b[colon] == '\t') {
			colon++
		}
		if colon == len(b) || b[colon] != ':' {
			return faultFieldName
		}
		if !response {
			return faultFieldSpace
		}
	}
	if b[colon] != ':' {
		return faultFieldName
	}
	v, w := colon+1, len(b)
	for v < w && (b[v] == ' ' || b[v] == '\t') {
		v++
	}
	for v < w && (b[w-1] == ' ' || b[w-1] == '\t') {
		w--
	}
	if !isText(b[v:w]) {
		return faultFieldValue
	}
	s.lines = append(s.lines, line{
		name: uint32(start), nameEnd: uint32(start + i),
		value: uint32(start + v), valueEnd: uint32(start + w),
		id: nameID(b[:i]),
	})
	return fine
}

// fields reads field lines until the empty one. done says that it came.
func (s *scanner) fields(buf []byte, maxBytes, maxFields int, response bool) (done bool, f fault) {
	for {
		start, end, f := s.next(buf)
		if f != fine {
			return false, f
		}
		if end < 0 {
			if len(buf) >= maxBytes {
				return false, faultHeadLarge
			}
			return false, s.fieldBegun(buf, response)
		}
		if s.line > maxBytes {
			return false, faultHeadLarge
		}
		if start == end {
			return true, fine
		}
		if len(s.lines) >= maxFields {
			return false, faultFields
		}
		if f := s.field(buf, start, end, response); f != fine {
			return false, f
		}
	}
}

// materialise makes Fields of the lines, in the memory of fields.
func (s *scanner) materialise(fields []Field, buf []byte) []Field {
	if cap(fields) < len(s.lines) {
		fields = make([]Field, len(s.lines), max(2*len(s.lines), 16))
	}
	fields = fields[:len(s.lines)]
	for i := range s.lines {
		l, f := &s.lines[i], &fields[i]
		f.Name = buf[l.name:l.nameEnd:l.nameEnd]
		f.Value = buf[l.value:l.valueEnd:l.valueEnd]
		f.ID, f.Drop, f.Never = l.id, false, false
	}
	return fields
}

// rebase points the fields at another buffer with the same bytes.
func (s *scanner) rebase(fields []Field, buf []byte) {
	for i := range s.lines {
		l := &s.lines[i]
		fields[i].Name = buf[l.name:l.nameEnd:l.nameEnd]
		fields[i].Value = buf[l.value:l.valueEnd:l.valueEnd]
	}
}

// get returns the first field with that id, or nil.
func get(fields []Field, id NameID) *Field {
	for i := range fields {
		if fields[i].ID == id {
			return &fields[i]
		}
	}
	return nil
}

// sends says that a field with that id is forwarded.
func sends(fields []Field, id NameID) bool {
	for i := range fields {
		if fields[i].ID == id && !fields[i].Drop {
			return true
		}
	}
	return false
}

// lookup returns the first field of that name, or nil.
func lookup(fields []Field, lower string) *Field {
	for i := range fields {
		if EqualFold(fields[i].Name, lower) {
			return &fields[i]
		}
	}
	return nil
}

// maxOptions bounds the options of all Connection fields of a head: each is
// compared with every field name.
const maxOptions = 32

// options is what the Connection fields of a head say.
type options struct {
	close, keepAlive, upgrade bool
	// named are the other names, each with a comma behind it.
	named []byte
	count int
}

// read takes in one Connection field and marks the fields it names.
func (o *options) read(fields []Field, value []byte, response bool) fault {
	for {
		option, rest, ok := element(value)
		if !ok {
			return fine
		}
		value = rest
		if o.count++; o.count > maxOptions || !isToken(option) {
			return faultConnection
		}
		switch nameID(option) {
		case KeepAlive:
			o.keepAlive = true
			continue
		case Upgrade:
			o.upgrade = true
			continue
		case TE, TransferEncoding, Connection, ProxyConnection, HTTP2Settings, Trailer:
			continue // never forwarded as they came in any case
		case Host, ContentLength, Authorization, Cookie, Forwarded, XForwardedFor, Via, Expect, EarlyData:
			// These are for every recipient (RFC 9110, 7.6.1: a sender must not
			// name them; RFC 8470, 5.1). Taking them away would change what the
			// next hop sees.
			if !response {
				return faultNominated
			}
		}
		if EqualFold(option, "close") {
			o.close = true
			continue
		}
		o.named = append(append(o.named, option...), ',')
		for i := range fields {
			if equalFold(fields[i].Name, option) {
				fields[i].Drop = true
			}
		}
	}
}

// isNamed says that the names a message's Connection fields hold have one of them.
func isNamed(named, name []byte) bool {
	for len(named) > 0 {
		i := bytes.IndexByte(named, ',')
		if equalFold(named[:i], name) {
			return true
		}
		named = named[i+1:]
	}
	return false
}

// number reads a decimal number of at most MaxLengthDigits digits, leading
// zeros aside.
func number(b []byte) (n int64, f fault) {
	if len(b) == 0 {
		return 0, faultLength
	}
	for _, c := range b {
		if !isDigit(c) {
			return 0, faultLength
		}
	}
	for len(b) > 1 && b[0] == '0' {
		b = b[1:]
	}
	if len(b) > MaxLengthDigits {
		return 0, faultLengthLarge
	}
	for _, c := range b {
		n = n*10 + int64(c-'0')
	}
	return n, fine
}

// codings is what the Transfer-Encoding fields of a head say.
type codings struct {
	present, chunked, other, again, bad bool
}

// read takes in one Transfer-Encoding field.
func (t *codings) read(value []byte) {
	t.present = true
	for {
		coding, rest, ok := element(value)
		if !ok {
			return
		}
		value = rest
		switch {
		case EqualFold(coding, "chunked"):
			t.again = t.again || t.chunked
			t.chunked = true
		case t.chunked:
			t.bad = true // something after chunked
		default:
			name := coding
			for i, c := range coding {
				if c == ';' {
					name = trim(coding[:i])
					break
				}
			}
			// chunked has no parameters (RFC 9112, 7.1).
			if !isToken(name) || EqualFold(name, "chunked") {
				t.bad = true
			}
			t.other = true
		}
	}
}

// check says what is wrong with the codings of a message of that version.
func (t *codings) check(minor uint8) fault {
	switch {
	case minor == 0:
		return faultCodingOld
	case t.bad || t.again || !t.chunked:
		return faultCoding
	case t.other:
		return faultCodingUnknown
	}
	return fine
}
