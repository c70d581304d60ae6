package hpack

// MaxTableSize is the largest dynamic table this package keeps, in the bytes
// of RFC 7541, 4.1 (each entry costs 32 beyond its name and value). It is also
// what both ends of a connection begin with.
const MaxTableSize = 4096

// entryOverhead is what an entry costs beyond its strings.
const entryOverhead = 32

// table is a dynamic table (RFC 7541, 2.3.2). Its entries lie one behind
// another in data, oldest first, so that neither adding nor dropping one
// allocates once data has grown to twice the table's size.
type table struct {
	data    []byte
	base    uint32  // what entry.at counts from: the offset of data[0]
	entries []entry // a ring; its length is a power of two
	first   uint32  // sequence number of the oldest entry; it lies at entries[first%len]
	next    uint32  // sequence number of the next entry
	size    int     // RFC 7541, 4.1
	max     int
}

type entry struct {
	at          uint32 // offset of the name in all data ever written; wraps around
	name, value uint16 // lengths
}

// len is the number of entries.
func (t *table) len() int { return int(t.next - t.first) }

// get returns the strings of the entry with that sequence number, which lies
// in [first, next). They are valid until the next add.
func (t *table) get(seq uint32) (name, value []byte) {
	e := &t.entries[seq&uint32(len(t.entries)-1)]
	d := t.data[e.at-t.base:]
	n := int(e.name)
	return d[:n:n], d[n : n+int(e.value) : n+int(e.value)]
}

// setMax changes the table's size and drops what no longer fits.
func (t *table) setMax(n int) {
	t.max = n
	t.evict(0)
}

// evict drops the oldest entries until need more bytes fit.
func (t *table) evict(need int) {
	for t.size+need > t.max && t.first != t.next {
		e := &t.entries[t.first&uint32(len(t.entries)-1)]
		t.size -= int(e.name) + int(e.value) + entryOverhead
		t.first++
	}
	if t.first == t.next {
		t.base += uint32(len(t.data))
		t.data = t.data[:0]
	}
}

// add inserts an entry; one larger than the table empties it (RFC 7541, 4.4).
// The strings must not lie in t.data. It reports whether the entry is there.
func (t *table) add(name, value []byte) bool {
	need := len(name) + len(value) + entryOverhead
	t.evict(need)
	if need > t.max {
		return false
	}
	if t.len() == len(t.entries) {
		t.growEntries()
	}
	if len(t.data)+len(name)+len(value) > cap(t.data) {
		t.makeRoom(len(name) + len(value))
	}
	t.entries[t.next&uint32(len(t.entries)-1)] = entry{t.base + uint32(len(t.data)), uint16(len(name)), uint16(len(value))}
	t.data = append(append(t.data, name...), value...)
	t.next++
	t.size += need
	return true
}

// growEntries doubles the ring.
func (t *table) growEntries() {
	old := t.entries
	t.entries = make([]entry, max(8, 2*len(old)))
	for seq := t.first; seq != t.next; seq++ {
		t.entries[seq&uint32(len(t.entries)-1)] = old[seq&uint32(len(old)-1)]
	}
}

// makeRoom moves the live bytes to the front of data, in a larger buffer if
// they fill more than half of it.
func (t *table) makeRoom(need int) {
	dead := uint32(len(t.data))
	if t.first != t.next {
		dead = t.entries[t.first&uint32(len(t.entries)-1)].at - t.base
	}
	live := t.data[dead:]
	if 2*(len(live)+need) <= cap(t.data) {
		t.data = t.data[:copy(t.data, live)]
	} else {
		t.data = append(make([]byte, 0, max(256, 2*(len(live)+need))), live...)
	}
	t.base += dead
}
