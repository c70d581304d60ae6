package pb

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Message is a message that is written, or one that is read.
//
// What it has is said by a function that names its fields, each with its number
// and name as in the .proto file, its bounds, and where its value is:
//
//	func userMessage(m *pb.Message, u *User) {
//		pb.String(m, 1, "name", maxName, &u.Name)
//		pb.Messages(m, 2, "keys", maxKeys, &u.Keys, keyMessage)
//	}
//
// It writes and it reads, so that the two can't disagree. To write, it is called
// once, and must not change the value. To read, it is called until all fields on
// the wire have been taken: once, when they come in the order in which it names
// them. Numbers go from 1 to 63. What is zero isn't written; what has an unknown
// number is skipped.
type Message struct {
	out []byte // what has been written

	reading bool
	rest    []byte           // after the next field's tag
	next    protowire.Number // 0 at the end
	kind    protowire.Type   // the next field's
	got     field            // what was taken last
	took    bool             // since fields was called
	seen    uint64           // the fields of which there may be one, a bit each
	err     error            // the first; then nothing is taken any more
}

// Append appends v's fields to b.
func Append[T any](b []byte, v *T, fields func(*Message, *T)) []byte {
	m := Message{out: b}
	fields(&m, v)
	return m.out
}

// Decode reads a message. It fails with the path of the field that is broken or
// over its bound; what it returns shares no memory with b.
func Decode[T any](b []byte, fields func(*Message, *T)) (*T, error) {
	m, v := Message{reading: true}, new(T)
	m.read(b, func() { fields(&m, v) })
	if m.err != nil {
		return nil, m.err
	}
	return v, nil
}

// Reading reports whether the message is read: a value that isn't kept as it is
// written must be put together then.
func (m *Message) Reading() bool { return m.reading }

// Ended reports, after the last field was named, whether all have been read: the
// time to look at the whole.
func (m *Message) Ended() bool { return m.reading && m.next == 0 && m.err == nil }

// Fail refuses the message, when err isn't nil. In says which field is at fault.
func (m *Message) Fail(err error) {
	if m.err == nil && err != nil {
		m.err, m.next = err, 0
	}
}

// read lets fields take what is in b.
func (m *Message) read(b []byte, fields func()) {
	next, kind, rest, seen := m.next, m.kind, m.rest, m.seen
	m.rest, m.seen = b, 0
	m.advance()
	for m.err == nil {
		m.took = false
		fields()
		if m.next == 0 {
			break
		}
		if !m.took {
			m.take() // nobody knows it
		}
	}
	m.next, m.kind, m.rest, m.seen, m.took = next, kind, rest, seen, true
}

// advance goes on to the next field.
func (m *Message) advance() {
	m.next = 0
	if len(m.rest) == 0 {
		return
	}
	number, kind, n := protowire.ConsumeTag(m.rest)
	if n < 0 {
		m.Fail(Errorf("broken field tag"))
		return
	}
	m.next, m.kind, m.rest = number, kind, m.rest[n:]
}

// take takes the next field.
func (m *Message) take() {
	n := m.got.read(m.kind, m.rest)
	switch {
	case n == noKind:
		m.Fail(Errorf("field %d has wire type %d, groups aren't used", m.next, m.kind))
	case n < 0:
		m.Fail(Errorf("field %d is cut off or broken", m.next))
	default:
		m.rest, m.took = m.rest[n:], true
		m.advance()
	}
}

// one takes a field of which there may be one, when it is next.
func (m *Message) one(number protowire.Number, name string) bool {
	if m.next != number {
		return false
	}
	if bit := uint64(1) << number; m.seen&bit == 0 {
		m.seen |= bit
		m.take()
		return m.err == nil
	}
	m.in(name, Errorf("is there twice"))
	return false
}

// another takes a list's field, when it is next, after n elements of at most
// count.
func (m *Message) another(number protowire.Number, name string, n, count int) bool {
	if m.next != number {
		return false
	}
	if n >= count {
		m.Fail(InElement(name, n, Errorf("more than %d elements", count)))
		return false
	}
	m.take()
	return m.err == nil
}

// in fails with what is wrong with a field, if anything is.
func (m *Message) in(name string, err error) { m.Fail(In(name, err)) }

// inner reads the message in the field, whose place is added to what goes wrong:
// element i of a list, or with i < 0 the field itself.
func (m *Message) inner(name string, i int, fields func()) {
	b, err := m.got.message()
	if err == nil {
		m.read(b, fields)
		err, m.err = m.err, nil
	}
	if i >= 0 {
		m.Fail(InElement(name, i, err))
	} else {
		m.Fail(In(name, err))
	}
}

// write writes a message field; with the length 0 only when it is there.
func (m *Message) write(number protowire.Number, there bool, fields func()) {
	start := len(m.out)
	m.out = protowire.AppendTag(m.out, number, protowire.BytesType)
	// Most messages are short: leave one byte for the length, and move the
	// content when it needs more.
	m.out = append(m.out, 0)
	content := len(m.out)
	fields()
	n := len(m.out) - content
	if n == 0 && !there {
		m.out = m.out[:start]
		return
	}
	extra := protowire.SizeVarint(uint64(n)) - 1
	for range extra {
		m.out = append(m.out, 0)
	}
	copy(m.out[content+extra:], m.out[content:content+n])
	protowire.AppendVarint(m.out[content-1:content-1], uint64(n))
}

// Number is an unsigned number of at most max.
func Number[N ~uint8 | ~uint16 | ~uint32 | ~uint64](m *Message, number protowire.Number, name string, max N, v *N) {
	n := uint64(*v)
	uint64Field(m, number, name, uint64(max), &n)
	if m.reading {
		*v = N(n)
	}
}

func uint64Field(m *Message, number protowire.Number, name string, max uint64, v *uint64) {
	if !m.reading {
		m.out = appendUint(m.out, number, *v)
	} else if m.one(number, name) {
		m.in(name, m.got.uint64(max, v))
	}
}

// Port is a port number.
func Port(m *Message, number protowire.Number, name string, v *uint16) {
	if !m.reading {
		m.out = appendUint(m.out, number, uint64(*v))
	} else if m.one(number, name) {
		m.in(name, m.got.port(v))
	}
}

// Fixed is a fixed64.
func Fixed(m *Message, number protowire.Number, name string, v *uint64) {
	if !m.reading {
		m.out = appendFixed64(m.out, number, *v)
	} else if m.one(number, name) {
		m.in(name, m.got.fixed64(v))
	}
}

// Enum is an enum whose values are 0 to last.
func Enum[E ~uint8](m *Message, number protowire.Number, name string, last E, v *E) {
	if !m.reading {
		m.out = appendUint(m.out, number, uint64(*v))
	} else if m.one(number, name) {
		var n uint8
		m.in(name, m.got.enum(uint8(last), &n))
		*v = E(n)
	}
}

// Bool is a bool.
func Bool(m *Message, number protowire.Number, name string, v *bool) {
	if !m.reading {
		m.out = appendBool(m.out, number, *v)
	} else if m.one(number, name) {
		m.in(name, m.got.bool(v))
	}
}

// Empty is a message without fields, which is there or not.
func Empty(m *Message, number protowire.Number, name string, there *bool) {
	switch {
	case m.reading:
		if m.one(number, name) {
			m.inner(name, -1, func() {})
			*there = true
		}
	case *there:
		m.write(number, true, func() {})
	}
}

// String is a string of at most max bytes.
func String(m *Message, number protowire.Number, name string, max int, v *string) {
	if !m.reading {
		m.out = appendString(m.out, number, *v)
	} else if m.one(number, name) {
		m.in(name, m.got.string(max, v))
	}
}

// Bytes is bytes, at most max of them.
func Bytes(m *Message, number protowire.Number, name string, max int, v *[]byte) {
	if !m.reading {
		m.out = appendBytes(m.out, number, *v)
	} else if m.one(number, name) {
		m.in(name, m.got.copy(max, v))
	}
}

// Milliseconds is a duration, rounded up: no positive one becomes none.
func Milliseconds(m *Message, number protowire.Number, name string, v *time.Duration) {
	if !m.reading {
		m.out = appendMilliseconds(m.out, number, *v)
	} else if m.one(number, name) {
		m.in(name, m.got.milliseconds(v))
	}
}

// Time is a moment, in milliseconds since 1970, or the zero time. One before
// 1970 is as good as its first millisecond.
func Time(m *Message, number protowire.Number, name string, v *time.Time) {
	if !m.reading {
		m.out = appendTime(m.out, number, *v)
	} else if m.one(number, name) {
		m.in(name, m.got.time(v))
	}
}

// AddrPort is "IP:PORT".
func AddrPort(m *Message, number protowire.Number, name string, v *netip.AddrPort) {
	if !m.reading {
		m.out = appendAddrPort(m.out, number, *v)
	} else if m.one(number, name) {
		m.in(name, m.got.addrPort(v))
	}
}

// Addr is an address of 4 or 16 bytes.
func Addr(m *Message, number protowire.Number, name string, v *netip.Addr) {
	if !m.reading {
		m.out = appendAddr(m.out, number, *v)
	} else if m.one(number, name) {
		m.in(name, m.got.addr(v))
	}
}

// Strings is a list of at most count strings of at most max bytes each.
func Strings(m *Message, number protowire.Number, name string, count, max int, list *[]string) {
	if !m.reading {
		for _, s := range *list {
			m.out = appendElement(m.out, number, s)
		}
	}
	for i := len(*list); m.another(number, name, i, count); i++ {
		*list = append(*list, "")
		m.Fail(InElement(name, i, m.got.string(max, &(*list)[i])))
	}
}

// Blobs is a list of at most count byte strings of at most max bytes each.
func Blobs(m *Message, number protowire.Number, name string, count, max int, list *[][]byte) {
	if !m.reading {
		for _, b := range *list {
			m.out = appendElement(m.out, number, b)
		}
	}
	for i := len(*list); m.another(number, name, i, count); i++ {
		*list = append(*list, nil)
		m.Fail(InElement(name, i, m.got.copy(max, &(*list)[i])))
	}
}

// Addrs is a list of at most count addresses of 4 or 16 bytes.
func Addrs(m *Message, number protowire.Number, name string, count int, list *[]netip.Addr) {
	if !m.reading {
		for _, a := range *list {
			m.out = appendAddr(m.out, number, a)
		}
	}
	for i := len(*list); m.another(number, name, i, count); i++ {
		*list = append(*list, netip.Addr{})
		m.Fail(InElement(name, i, m.got.addr(&(*list)[i])))
	}
}

// Numbers is a packed list of at most count numbers of at most max each.
func Numbers(m *Message, number protowire.Number, name string, count int, max uint16, list *[]uint16) {
	if !m.reading {
		m.write(number, false, func() {
			for _, n := range *list {
				m.out = protowire.AppendVarint(m.out, uint64(n))
			}
		})
	}
	for m.next == number { // packed: one or more occurrences
		m.take()
		m.in(name, m.got.varints(func(n uint64) error {
			if n > uint64(max) {
				return Errorf("%d is more than %d", n, max)
			}
			if len(*list) >= count {
				return Errorf("more than %d elements", count)
			}
			*list = append(*list, uint16(n))
			return nil
		}))
	}
}

// Struct is a message in a field that isn't a pointer; without any field set it
// isn't written.
func Struct[T any](m *Message, number protowire.Number, name string, v *T, fields func(*Message, *T)) {
	if !m.reading {
		m.write(number, false, func() { fields(m, v) })
	} else if m.one(number, name) {
		m.inner(name, -1, func() { fields(m, v) })
	}
}

// Pointer is a message that is there when the pointer isn't nil, also when none
// of its fields is set.
func Pointer[T any](m *Message, number protowire.Number, name string, v **T, fields func(*Message, *T)) {
	switch {
	case m.reading:
		if m.one(number, name) {
			*v = new(T)
			m.inner(name, -1, func() { fields(m, *v) })
		}
	case *v != nil:
		m.write(number, true, func() { fields(m, *v) })
	}
}

// Messages is a list of at most count messages.
func Messages[T any](m *Message, number protowire.Number, name string, count int, list *[]T, fields func(*Message, *T)) {
	if !m.reading {
		for i := range *list {
			m.write(number, true, func() { fields(m, &(*list)[i]) })
		}
	}
	for i := len(*list); m.another(number, name, i, count); i++ {
		var zero T
		*list = append(*list, zero)
		m.inner(name, i, func() { fields(m, &(*list)[i]) })
	}
}

// Map is a list of at most count messages that are kept by a key of their own,
// written in the keys' order. No key is empty or there twice.
func Map[T any](m *Message, number protowire.Number, name string, count int, by *map[string]*T, key func(*T) string, fields func(*Message, *T)) {
	if !m.reading {
		for _, k := range slices.Sorted(maps.Keys(*by)) {
			m.write(number, true, func() { fields(m, (*by)[k]) })
		}
	}
	for i := len(*by); m.another(number, name, i, count); i++ {
		v := new(T)
		m.inner(name, i, func() { fields(m, v) })
		put(m, name, by, key(v), v)
	}
}

// Versions is Map for a message of a string key, 1, of at most max bytes and a
// uint64, 2.
func Versions(m *Message, number protowire.Number, name string, count, max int, by *map[string]uint64) {
	var key string
	var version uint64
	fields := func() {
		String(m, 1, "key", max, &key)
		Number(m, 2, "version", math.MaxUint64, &version)
	}
	if !m.reading {
		for _, k := range slices.Sorted(maps.Keys(*by)) {
			key, version = k, (*by)[k]
			m.write(number, true, fields)
		}
	}
	for i := len(*by); m.another(number, name, i, count); i++ {
		key, version = "", 0
		m.inner(name, i, fields)
		put(m, name, by, key, version)
	}
}

// put adds v to a map that must not have its key yet.
func put[V any](m *Message, name string, by *map[string]V, key string, v V) {
	if m.err != nil {
		return
	}
	_, there := (*by)[key]
	switch {
	case key == "":
		m.err = InElement(name, len(*by), Errorf("has no key"))
	case there:
		m.err = InElement(name, len(*by), Errorf("%q is there twice", key))
	case *by == nil:
		*by = map[string]V{key: v}
	default:
		(*by)[key] = v
	}
}
