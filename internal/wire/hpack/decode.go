package hpack

// DecodeError says what is wrong with a field block. Every one of them is a
// connection error of type COMPRESSION_ERROR (RFC 9113, section 4.3).
type DecodeError string

func (e DecodeError) Error() string { return "hpack: " + string(e) }

const (
	errTruncated = DecodeError("field block ends within a field")
	errIndex     = DecodeError("index beyond the tables")
	errInteger   = DecodeError("integer above 2^31-1 or with too many bytes")
	errPadding   = DecodeError("Huffman string ends in invalid padding")
	errEOS       = DecodeError("Huffman string holds EOS")
	errLong      = DecodeError("string above 1 MiB")
	errLate      = DecodeError("table size update after the first field")
	errUpdates   = DecodeError("more than two table size updates")
	errTableSize = DecodeError("table size above the one allowed")
)

// MaxString is the longest name or value that is decoded, in bytes. A block is
// bounded by its receiver, to less as a rule.
const MaxString = 1 << 20

// keptScratch bounds the memory a Reader keeps from one block to the next.
const keptScratch = 64 << 10

// maxInteger bounds every integer of a block.
const maxInteger = 1<<31 - 1

// Field is one field of a block.
type Field struct {
	Name, Value []byte
	// Never says that no hop may put the field into a table (RFC 7541,
	// 6.2.3): an intermediary passes that on.
	Never bool
	// Static is the first index of the static table with that name, or 0 when
	// the table doesn't have the name or the decoder didn't need to look.
	Static uint8
}

// Decoder is the state of one direction of a connection: its dynamic table.
// It belongs to the connection's event loop. The zero value is ready, with a
// table of MaxTableSize bytes as the largest the peer may use.
type Decoder struct {
	table table
	ready bool
}

// Held is the memory the table holds, in bytes.
func (d *Decoder) Held() int { return cap(d.table.data) + 8*len(d.table.entries) }

// Reader takes the fields out of one block. One Reader serves all the
// connections of a loop: it keeps the memory that Huffman strings are decoded
// into.
type Reader struct {
	d       *Decoder
	rest    []byte
	scratch []byte
	updates uint8
	fields  bool
}

// Reset begins a block, which must be whole: all its fragments joined.
func (r *Reader) Reset(d *Decoder, block []byte) {
	if !d.ready {
		d.table.max, d.ready = MaxTableSize, true
	}
	if cap(r.scratch) > keptScratch {
		r.scratch = nil
	}
	r.d, r.rest, r.updates, r.fields = d, block, 0, false
}

// Next reads the next field into f. It returns false at the end of the block
// and at an error; the connection is then over. The field's slices are valid
// until the next call: they lie in the block, the static or dynamic table, or
// the reader's own memory, and must not be written to.
func (r *Reader) Next(f *Field) (bool, error) {
	for len(r.rest) > 0 {
		c := r.rest[0]
		switch {
		case c >= 0x80: // 6.1 indexed field
			i, err := r.integer(7)
			if err != nil {
				return false, err
			}
			r.fields, f.Never, f.Static = true, false, 0
			if i-1 < StaticLen {
				f.Name, f.Value = static[i].name, static[i].value
				f.Static = staticFirst[i]
				return true, nil
			}
			seq, err := r.d.sequence(i)
			if err != nil {
				return false, err
			}
			f.Name, f.Value = r.d.table.get(seq)
			return true, nil
		case c >= 0x40: // 6.2.1 literal with incremental indexing
			if err := r.literal(f, 6, true); err != nil {
				return false, err
			}
			f.Never = false
			r.d.table.add(f.Name, f.Value)
			return true, nil
		case c >= 0x20: // 6.3 table size update
			if err := r.resize(); err != nil {
				return false, err
			}
		default: // 6.2.2 without indexing, 6.2.3 never indexed
			if err := r.literal(f, 4, false); err != nil {
				return false, err
			}
			f.Never = c&0x10 != 0
			return true, nil
		}
	}
	return false, nil
}

// staticFirst maps an index to the first one with the same name.
var staticFirst = func() (t [StaticLen + 1]uint8) {
	for i := 1; i <= StaticLen; i++ {
		t[i] = staticIndex(static[i].name)
	}
	return t
}()

// sequence turns an index above the static table's into a sequence number.
func (d *Decoder) sequence(i uint32) (uint32, error) {
	k := i - StaticLen // 1 is the newest
	if i <= StaticLen || k > uint32(d.table.len()) {
		return 0, errIndex
	}
	return d.table.next - k, nil
}

// resize applies a table size update.
func (r *Reader) resize() error {
	if r.fields {
		return errLate
	}
	if r.updates++; r.updates > 2 {
		return errUpdates
	}
	n, err := r.integer(5)
	if err != nil {
		return err
	}
	if n > MaxTableSize {
		return errTableSize
	}
	r.d.table.setMax(int(n))
	return nil
}

// literal reads a literal field. When the field is going to be added to the
// table, its name may not lie there: adding moves the table's memory.
func (r *Reader) literal(f *Field, prefix uint8, adding bool) error {
	r.fields = true
	r.scratch = r.scratch[:0]
	i, err := r.integer(prefix)
	if err != nil {
		return err
	}
	f.Static = 0
	switch {
	case i == 0:
		if f.Name, err = r.string(); err != nil {
			return err
		}
	case i <= StaticLen:
		f.Name, f.Static = static[i].name, staticFirst[i]
	default:
		seq, err := r.d.sequence(i)
		if err != nil {
			return err
		}
		f.Name, _ = r.d.table.get(seq)
		if adding {
			r.scratch = append(r.scratch, f.Name...)
			f.Name = r.scratch
		}
	}
	f.Value, err = r.string()
	return err
}

// string reads a string literal (RFC 7541, 5.2).
func (r *Reader) string() ([]byte, error) {
	if len(r.rest) == 0 {
		return nil, errTruncated
	}
	huffman := r.rest[0]&0x80 != 0
	n, err := r.integer(7)
	if err != nil {
		return nil, err
	}
	if n > MaxString {
		return nil, errLong
	}
	if uint32(len(r.rest)) < n {
		return nil, errTruncated
	}
	s := r.rest[:n:n]
	r.rest = r.rest[n:]
	if !huffman {
		return s, nil
	}
	// Earlier strings of the field stay where they are, even if scratch grows
	// and moves.
	at := len(r.scratch)
	if r.scratch, err = appendDecoded(r.scratch, s); err != nil {
		return nil, err
	}
	if len(r.scratch)-at > MaxString {
		return nil, errLong
	}
	return r.scratch[at:len(r.scratch):len(r.scratch)], nil
}

// integer reads an integer with a prefix of that many bits (RFC 7541, 5.1).
func (r *Reader) integer(prefix uint8) (uint32, error) {
	mask := byte(1)<<prefix - 1
	n := uint32(r.rest[0] & mask)
	if n < uint32(mask) {
		r.rest = r.rest[1:]
		return n, nil
	}
	v := uint64(n)
	for i := 1; ; i++ {
		if i > 5 {
			return 0, errInteger
		}
		if i >= len(r.rest) {
			return 0, errTruncated
		}
		c := r.rest[i]
		v += uint64(c&0x7f) << (7 * (i - 1))
		if c < 0x80 {
			if v > maxInteger {
				return 0, errInteger
			}
			r.rest = r.rest[i+1:]
			return uint32(v), nil
		}
	}
}
