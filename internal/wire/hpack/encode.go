package hpack

import (
	"encoding/binary"
	"math/bits"
)

// Encoder writes field blocks for one direction of a connection. It belongs to
// the connection's event loop. The zero value is ready.
//
// A field enters the dynamic table the second time it is seen: values that
// never come again (paths, dates, request ids) don't push out those that do.
type Encoder struct {
	// Huffman makes strings shorter for a link where bytes matter more than
	// processor time; between the proxies of a data centre they don't.
	Huffman bool

	table  table
	slots  *[slotCount]slot // nil until the first literal field
	limit  int              // SETTINGS_HEADER_TABLE_SIZE of the peer, at most MaxTableSize
	lowest int              // smallest limit since the last block
	resize bool             // the next block begins by telling the new size
	ready  bool
}

// slot remembers one field by its hash, so that it is found without a search:
// a cache of recent fields. Two fields that meet in it cost only compression.
type slot struct {
	hash  uint32
	seq   uint32 // of the table's entry, if live
	added bool
	hit   bool // found since another field last wanted the slot
}

const slotCount = 64

// Held is the memory the encoder holds, in bytes.
func (e *Encoder) Held() int {
	n := cap(e.table.data) + 8*len(e.table.entries)
	if e.slots != nil {
		n += slotCount * 12
	}
	return n
}

func (e *Encoder) init() {
	if !e.ready {
		e.table.max, e.limit, e.lowest, e.ready = MaxTableSize, MaxTableSize, MaxTableSize, true
	}
}

// SetLimit takes the peer's SETTINGS_HEADER_TABLE_SIZE. The next block tells
// the peer about the change (RFC 7541, 4.2).
func (e *Encoder) SetLimit(n uint32) {
	e.init()
	limit := int(min(n, MaxTableSize))
	if limit == e.limit {
		return
	}
	e.limit, e.resize = limit, true
	e.lowest = min(e.lowest, limit)
}

// Begin appends what a block must begin with; call it before the first field
// of every block.
func (e *Encoder) Begin(dst []byte) []byte {
	e.init()
	if !e.resize {
		return dst
	}
	if e.lowest < e.limit {
		dst = appendInteger(dst, 0x20, 5, uint32(e.lowest))
		e.table.setMax(e.lowest)
	}
	dst = appendInteger(dst, 0x20, 5, uint32(e.limit))
	e.table.setMax(e.limit)
	e.lowest, e.resize = e.limit, false
	return dst
}

// AppendIndexed appends the static table's entry i.
func (e *Encoder) AppendIndexed(dst []byte, i uint8) []byte { return append(dst, 0x80|i) }

// AppendStatus appends the pseudo-header field ":status".
func (e *Encoder) AppendStatus(dst []byte, status int) []byte {
	for i := uint8(IndexStatus200); i < IndexStatus200+7; i++ {
		if v := static[i].value; status == int(v[0]-'0')*100+int(v[1]-'0')*10+int(v[2]-'0') {
			return append(dst, 0x80|i)
		}
	}
	v := [3]byte{byte('0' + status/100%10), byte('0' + status/10%10), byte('0' + status%10)}
	return e.literal(dst, 0, 4, IndexStatus200, nil, v[:])
}

// AppendStatic appends a field with the name of the static table's entry i.
func (e *Encoder) AppendStatic(dst []byte, i uint8, value []byte) []byte {
	return e.append(dst, i, static[i].name, value, false)
}

// Append appends a field; its name is in lower case. never says that no hop
// may index it; Authorization and short cookies, which could be guessed one
// by one from the size of what is sent, are treated so in any case
// (RFC 7541, 7.1.3).
func (e *Encoder) Append(dst, name, value []byte, never bool) []byte {
	return e.append(dst, staticIndex(name), name, value, never)
}

// shortCookie is the length below which a cookie is never indexed.
const shortCookie = 20

func (e *Encoder) append(dst []byte, i uint8, name, value []byte, never bool) []byte {
	switch i {
	case indexAuthorization, indexProxyAuthorization:
		never = true
	case IndexCookie:
		never = never || len(value) < shortCookie
	}
	if never {
		return e.literal(dst, 0x10, 4, i, name, value)
	}
	if i != 0 && len(static[i].value) > 0 {
		if j := staticValue(i, value); j != 0 {
			return append(dst, 0x80|j)
		}
	}
	if len(name)+len(value)+entryOverhead > e.table.max/2 {
		return e.literal(dst, 0, 4, i, name, value)
	}
	if e.slots == nil {
		e.slots = new([slotCount]slot)
	}
	h := fieldHash(name, value)
	at := (h >> 16) % slotCount
	s := &e.slots[at]
	if s.hash != h {
		if o := &e.slots[at^1]; o.hash == h || e.live(s) && !e.live(o) {
			s = o
		}
	}
	if s.hash != h {
		if e.live(s) && s.hit {
			s.hit = false // a second chance, before a field that may never come again
		} else {
			*s = slot{hash: h}
		}
		return e.literal(dst, 0, 4, i, name, value)
	}
	if e.live(s) {
		n, v := e.table.get(s.seq)
		if string(n) != string(name) || string(v) != string(value) {
			return e.literal(dst, 0, 4, i, name, value)
		}
		s.hit = true
		return appendInteger(dst, 0x80, 7, StaticLen+e.table.next-s.seq)
	}
	dst = e.literal(dst, 0x40, 6, i, name, value)
	s.seq = e.table.next
	s.added = e.table.add(name, value)
	return dst
}

// live says that the slot's entry is still in the table.
func (e *Encoder) live(s *slot) bool { return s.added && s.seq-e.table.first < uint32(e.table.len()) }

// literal appends a literal field: pattern and prefix are those of RFC 7541,
// 6.2, i the index of the name or 0.
func (e *Encoder) literal(dst []byte, pattern byte, prefix uint8, i uint8, name, value []byte) []byte {
	dst = appendInteger(dst, pattern, prefix, uint32(i))
	if i == 0 {
		dst = e.string(dst, name)
	}
	return e.string(dst, value)
}

// string appends a string literal.
func (e *Encoder) string(dst, s []byte) []byte {
	if e.Huffman {
		if n := encodedLen(s); n < len(s) {
			return appendEncoded(appendInteger(dst, 0x80, 7, uint32(n)), s)
		}
	}
	return append(appendInteger(dst, 0, 7, uint32(len(s))), s...)
}

// appendInteger appends an integer with a prefix of that many bits, below the
// pattern's (RFC 7541, 5.1).
func appendInteger(dst []byte, pattern byte, prefix uint8, v uint32) []byte {
	mask := uint32(1)<<prefix - 1
	if v < mask {
		return append(dst, pattern|byte(v))
	}
	dst = append(dst, pattern|byte(mask))
	for v -= mask; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}

// fieldHash is the same in every process, so that a simulation's bytes are.
// Whoever makes fields collide only loses compression.
func fieldHash(name, value []byte) uint32 {
	h := stringHash(uint64(len(name)), name)
	h = stringHash(h, value)
	return uint32(h>>32) | 1 // never that of an empty slot
}

func stringHash(h uint64, s []byte) uint64 {
	const k0, k1 = 0x9e3779b97f4a7c15, 0xd6e8feb86659fd93
	for ; len(s) >= 8; s = s[8:] {
		h = mix(h^k0, binary.LittleEndian.Uint64(s)^k1)
	}
	var last uint64
	for i, c := range s {
		last |= uint64(c) << (8 * i)
	}
	return mix(h^k1^uint64(len(s)), last^k0)
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
