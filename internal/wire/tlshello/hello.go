package tlshello

// Verdict is what the bytes seen so far are.
type Verdict uint8

// The verdicts. Only More can change with more bytes.
const (
	// More: a ClientHello has begun and isn't whole.
	More Verdict = iota
	// NotTLS: the bytes don't begin a TLS connection.
	NotTLS
	// Malformed: they begin one, but the ClientHello breaks its grammar or a
	// bound of this package.
	Malformed
	// Done: the ClientHello is whole.
	Done
)

const (
	// MaxBytes bounds the bytes of a connection that hold its ClientHello, so
	// the buffer a caller needs.
	MaxBytes = 16 << 10
	// MaxName bounds a server name (a DNS name is 253 bytes at most).
	MaxName = 255
	// MaxProtocols bounds how many ALPN protocols are kept.
	MaxProtocols = 8
	// MinBytes is how many bytes suffice to tell TLS from another protocol.
	MinBytes = recordHeader + 1

	recordHeader    = 5
	handshakeHeader = 4
	typeHandshake   = 22
	typeClientHello = 1
	maxRecord       = 1 << 14
	extServerName   = 0
	extALPN         = 16
)

// Hello is what a ClientHello asks for. It holds copies, so the buffer may be
// reused. The zero value is ready; it belongs to one goroutine.
type Hello struct {
	name    [MaxName]byte
	nameLen uint8
	alpn    [MaxProtocols * 32]byte
	alpnEnd [MaxProtocols]uint16
	alpnN   uint8

	// Where Parse stopped: offsets into the bytes of the connection.
	checked int // the records before this offset are whole and of handshake type
	body    int // bytes of handshake message in them
}

// Reset makes h ready for another connection.
func (h *Hello) Reset() { *h = Hello{} }

// ServerName is the name asked for (SNI), as sent; empty when there is none.
func (h *Hello) ServerName() []byte { return h.name[:h.nameLen] }

// Protocols is how many of the ALPN protocols offered are kept.
func (h *Hello) Protocols() int { return int(h.alpnN) }

// Protocol returns one of them, in the client's order.
func (h *Hello) Protocol(i int) []byte {
	start := uint16(0)
	if i > 0 {
		start = h.alpnEnd[i-1]
	}
	return h.alpn[start:h.alpnEnd[i]]
}

// Offers says that the client offers a protocol.
func (h *Hello) Offers(protocol string) bool {
	for i := range h.Protocols() {
		if string(h.Protocol(i)) == protocol {
			return true
		}
	}
	return false
}

// Parse reads a connection's first bytes, from its very first each time.
func (h *Hello) Parse(b []byte) Verdict {
	v := h.parse(b)
	if v == More && len(b) >= MaxBytes {
		return Malformed
	}
	return v
}

func (h *Hello) parse(b []byte) Verdict {
	// The first record says whether this is TLS at all. Legacy record versions
	// are 3.1 to 3.4 (RFC 8446, 5.1: 0x0301 or 0x0303).
	for i, c := range b[:min(len(b), MinBytes)] {
		switch i {
		case 0:
			if c != typeHandshake {
				return NotTLS
			}
		case 1:
			if c != 3 {
				return NotTLS
			}
		case 2:
			if c > 4 {
				return NotTLS
			}
		case 3:
			if c > maxRecord>>8 {
				return NotTLS
			}
		case 4:
			if int(b[3])<<8|int(c) > maxRecord {
				return NotTLS
			}
		case 5:
			if empty := b[3] == 0 && b[4] == 0; !empty && c != typeClientHello {
				return NotTLS
			}
		}
	}
	// Walk the records that are whole. The message's length is in the first four
	// bytes of their contents, wherever those lie.
	for {
		if h.checked > MaxBytes {
			return Malformed
		}
		if need, ok := h.length(b); ok {
			switch {
			case need > MaxBytes:
				return Malformed
			case h.body >= need:
				return h.read(reader{b: b, end: need})
			}
		}
		if len(b)-h.checked < recordHeader {
			return More
		}
		head := b[h.checked:]
		n := int(head[3])<<8 | int(head[4])
		if head[0] != typeHandshake || head[1] != 3 || n == 0 || n > maxRecord {
			return Malformed
		}
		if len(head) < recordHeader+n {
			// The part of a record that came may hold the length already: too
			// long a message needn't be waited for.
			if h.checked == 0 && len(head) >= recordHeader+handshakeHeader && size(head[recordHeader:]) > MaxBytes {
				return Malformed
			}
			return More
		}
		h.checked += recordHeader + n
		h.body += n
	}
}

// length returns the message's length with its header, once four bytes of it
// lie in whole records.
func (h *Hello) length(b []byte) (int, bool) {
	if h.body < handshakeHeader {
		return 0, false
	}
	r := reader{b: b, end: handshakeHeader}
	r.take(1)
	n := r.number(3) + handshakeHeader
	return n, r.ok()
}

// size is the message's length when its header lies in one piece.
func size(b []byte) int { return int(b[1])<<16 | int(b[2])<<8 | int(b[3]) + handshakeHeader }

// read takes the message apart.
func (h *Hello) read(r reader) Verdict {
	if r.number(1) != typeClientHello {
		return Malformed
	}
	r.take(3)           // its length
	r.take(2 + 32)      // legacy_version, random
	r.take(r.number(1)) // legacy_session_id
	r.take(r.number(2)) // cipher_suites
	r.take(r.number(1)) // legacy_compression_methods
	if r.ok() && r.left() == 0 {
		return Done // a ClientHello without extensions (RFC 5246, 7.4.1.2)
	}
	all := r.number(2)
	if !r.ok() || all != r.left() {
		return Malformed
	}
	var names, protocols bool
	for r.ok() && r.left() > 0 {
		kind, n := r.number(2), r.number(2)
		if !r.ok() || n > r.left() {
			return Malformed
		}
		end := r.read + n
		switch kind {
		case extServerName:
			if names || !h.readName(&r, end) {
				return Malformed
			}
			names = true
		case extALPN:
			if protocols || !h.readALPN(&r, end) {
				return Malformed
			}
			protocols = true
		default:
			r.take(n)
		}
		if r.read != end {
			return Malformed
		}
	}
	if !r.ok() {
		return Malformed
	}
	return Done
}

// readName reads a ServerNameList: one host_name, and perhaps entries of types
// nobody has defined.
func (h *Hello) readName(r *reader, end int) bool {
	if n := r.number(2); n == 0 || n != end-r.read {
		return false
	}
	for r.ok() && r.read < end {
		kind, n := r.number(1), r.number(2)
		if !r.ok() || n > end-r.read {
			return false
		}
		if kind != 0 {
			r.take(n)
			continue
		}
		if h.nameLen > 0 || n == 0 || n > MaxName {
			return false
		}
		for i := range n {
			c := byte(r.number(1))
			if c <= ' ' || c >= 0x7f {
				return false
			}
			h.name[i] = c
		}
		h.nameLen = uint8(n)
	}
	return r.ok()
}

// readALPN reads a ProtocolNameList. Names beyond the room there is are passed
// over: nobody here speaks them.
func (h *Hello) readALPN(r *reader, end int) bool {
	if n := r.number(2); n < 2 || n != end-r.read {
		return false
	}
	used := uint16(0)
	for r.ok() && r.read < end {
		n := r.number(1)
		if !r.ok() || n == 0 || n > end-r.read {
			return false
		}
		if int(h.alpnN) == MaxProtocols || int(used)+n > len(h.alpn) {
			r.take(n)
			continue
		}
		for range n {
			h.alpn[used] = byte(r.number(1))
			used++
		}
		h.alpnEnd[h.alpnN] = used
		h.alpnN++
	}
	return r.ok()
}

// reader reads the contents of consecutive handshake records as if they were
// one. The records must be whole up to end.
type reader struct {
	b      []byte
	at     int // in b
	record int // bytes left in the record at is in
	read   int // bytes of content read
	end    int // bytes of content there are
	failed bool
}

func (r *reader) ok() bool  { return !r.failed }
func (r *reader) left() int { return r.end - r.read }

// take passes over n bytes.
func (r *reader) take(n int) {
	if r.failed || n > r.left() {
		r.failed = true
		return
	}
	r.read += n
	for n > 0 {
		r.enter()
		step := min(n, r.record)
		r.at += step
		r.record -= step
		n -= step
	}
}

// number reads n bytes as a number.
func (r *reader) number(n int) (v int) {
	if r.failed || n > r.left() {
		r.failed = true
		return 0
	}
	r.read += n
	for range n {
		r.enter()
		v = v<<8 | int(r.b[r.at])
		r.at++
		r.record--
	}
	return v
}

// enter goes to the next record when one is used up.
func (r *reader) enter() {
	if r.record == 0 {
		r.record = int(r.b[r.at+3])<<8 | int(r.b[r.at+4])
		r.at += recordHeader
	}
}
