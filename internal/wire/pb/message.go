package pb

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Message describes a protobuf message as the fields of a Go struct: the same
// list encodes and decodes, so that the two can't disagree. It is immutable and
// safe for concurrent use.
//
// P is the pointer to the struct: for all pointers the compiler makes the code
// once, where it would make it again for each struct.
type Message[P any] struct {
	parts    []Part[P]
	make     func() P
	at       [64]int8 // the place of a field number in parts, plus 1
	repeated Set
	check    func(P) error
}

// Part is one field of a Message.
type Part[P any] struct {
	number   protowire.Number
	name     string
	repeated bool
	read     func(Field, P) error
	write    func(b []byte, v P) []byte
}

// Describe makes a Message of its fields, in the order in which they are written.
// Two fields of one number, or a number over 63, are a programming error.
func Describe[T any, P interface{ *T }](parts ...Part[P]) *Message[P] {
	return describe(func() P { return new(T) }, parts)
}

func describe[P any](make func() P, parts []Part[P]) *Message[P] {
	m := &Message[P]{parts: parts, make: make}
	for i, p := range parts {
		if p.number < 1 || int(p.number) >= len(m.at) || m.at[p.number] != 0 {
			panic("pb: field " + p.name + " has a number that is taken or out of range")
		}
		m.at[p.number] = int8(i + 1)
		if p.repeated {
			m.repeated |= 1 << p.number
		}
	}
	return m
}

// Check adds a test of the whole message after its fields have been read.
func (m *Message[P]) Check(check func(P) error) *Message[P] {
	m.check = check
	return m
}

// Append appends v's fields to b.
func (m *Message[P]) Append(b []byte, v P) []byte {
	for i := range m.parts {
		b = m.parts[i].write(b, v)
	}
	return b
}

// Read reads a message into v, which is zero before. It fails with the path of
// the field that is broken or over its bound.
func (m *Message[P]) Read(b []byte, v P) error {
	err := Fields(b, m.repeated, func(f Field) error {
		if f.Number >= protowire.Number(len(m.at)) || m.at[f.Number] == 0 {
			return nil // a newer program's
		}
		p := &m.parts[m.at[f.Number]-1]
		if err := p.read(f, v); err != nil {
			return In(p.name, err)
		}
		return nil
	})
	if err == nil && m.check != nil {
		err = m.check(v)
	}
	return err
}

// Decode reads a message of its own.
func (m *Message[P]) Decode(b []byte) (P, error) {
	v := m.make()
	if err := m.Read(b, v); err != nil {
		var none P
		return none, err
	}
	return v, nil
}

// The following make a Part: a number and a name as in the .proto file, bounds,
// and where the value is. What is zero isn't written.

// Custom makes a Part that reads and writes itself.
func Custom[P any](number protowire.Number, name string, repeated bool, read func(Field, P) error, write func(b []byte, v P) []byte) Part[P] {
	return Part[P]{number, name, repeated, read, write}
}

// Number is an unsigned number of at most max.
func Number[P any, N ~uint8 | ~uint16 | ~uint32 | ~uint64](number protowire.Number, name string, max N, at func(P) *N) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error { return readNumber(f, max, at(v)) },
		func(b []byte, v P) []byte { return AppendUint(b, number, uint64(*at(v))) }}
}

func readNumber[N ~uint8 | ~uint16 | ~uint32 | ~uint64](f Field, max N, v *N) error {
	var n uint64
	if err := f.Uint64(&n); err != nil {
		return err
	}
	if n > uint64(max) {
		return Errorf("%d is more than %d", n, max)
	}
	*v = N(n)
	return nil
}

// Port is a port number.
func Port[P any](number protowire.Number, name string, at func(P) *uint16) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error { return f.Port(at(v)) },
		func(b []byte, v P) []byte { return AppendUint(b, number, uint64(*at(v))) }}
}

// Fixed is a fixed64.
func Fixed[P any](number protowire.Number, name string, at func(P) *uint64) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error { return f.Fixed64(at(v)) },
		func(b []byte, v P) []byte { return AppendFixed64(b, number, *at(v)) }}
}

// Enum is an enum whose values are 0 to last.
func Enum[P any, E ~uint8](number protowire.Number, name string, last E, at func(P) *E) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error {
			var n uint8
			if err := f.Enum(uint8(last), &n); err != nil {
				return err
			}
			*at(v) = E(n)
			return nil
		},
		func(b []byte, v P) []byte { return AppendUint(b, number, uint64(*at(v))) }}
}

// Bool is a bool.
func Bool[P any](number protowire.Number, name string, at func(P) *bool) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error { return f.Bool(at(v)) },
		func(b []byte, v P) []byte { return AppendBool(b, number, *at(v)) }}
}

// String is a string of at most max bytes.
func String[P any](number protowire.Number, name string, max int, at func(P) *string) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error { return f.String(max, at(v)) },
		func(b []byte, v P) []byte { return AppendString(b, number, *at(v)) }}
}

// Bytes is bytes, at most max of them.
func Bytes[P any](number protowire.Number, name string, max int, at func(P) *[]byte) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error { return f.Bytes(max, at(v)) },
		func(b []byte, v P) []byte { return AppendBytes(b, number, *at(v)) }}
}

// Milliseconds is a duration.
func Milliseconds[P any](number protowire.Number, name string, at func(P) *time.Duration) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error { return f.Milliseconds(at(v)) },
		func(b []byte, v P) []byte { return AppendMilliseconds(b, number, *at(v)) }}
}

// Time is a moment, in milliseconds since 1970, or the zero time. One before
// 1970 is as good as its first millisecond.
func Time[P any](number protowire.Number, name string, at func(P) *time.Time) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error {
			var ms uint64
			if err := f.Uint64(&ms); err != nil {
				return err
			}
			if ms > maxMilliseconds {
				return Errorf("%d ms is too late, want at most %d", ms, maxMilliseconds)
			}
			if ms != 0 {
				*at(v) = time.UnixMilli(int64(ms)).UTC()
			}
			return nil
		},
		func(b []byte, v P) []byte {
			if at(v).IsZero() {
				return b
			}
			return AppendUint(b, number, min(uint64(max(at(v).UnixMilli(), 1)), maxMilliseconds))
		}}
}

// AddrPort is "IP:PORT".
func AddrPort[P any](number protowire.Number, name string, at func(P) *netip.AddrPort) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error { return f.AddrPort(at(v)) },
		func(b []byte, v P) []byte { return AppendAddrPort(b, number, *at(v)) }}
}

// repeated makes a Part of a list with at most count elements.
func repeated[P, E any](number protowire.Number, name string, count int, at func(P) *[]E, read func(Field, *E) error, write func([]byte, *E) []byte) Part[P] {
	return Part[P]{number, name, true,
		func(f Field, v P) error {
			list := at(v)
			i := len(*list)
			if i >= count {
				return InElement("", i, Errorf("more than %d elements", count))
			}
			var zero E
			*list = append(*list, zero)
			return InElement("", i, read(f, &(*list)[i]))
		},
		func(b []byte, v P) []byte {
			list := *at(v)
			for i := range list {
				b = write(b, &list[i])
			}
			return b
		}}
}

// Strings is a list of at most count strings of at most max bytes each.
func Strings[P any](number protowire.Number, name string, count, max int, at func(P) *[]string) Part[P] {
	return repeated(number, name, count, at,
		func(f Field, s *string) error { return f.String(max, s) },
		func(b []byte, s *string) []byte { return AppendElement(b, number, *s) })
}

// Blobs is a list of at most count byte strings of at most max bytes each.
func Blobs[P any](number protowire.Number, name string, count, max int, at func(P) *[][]byte) Part[P] {
	return repeated(number, name, count, at,
		func(f Field, s *[]byte) error { return f.Bytes(max, s) },
		func(b []byte, s *[]byte) []byte { return AppendElement(b, number, *s) })
}

// Addrs is a list of at most count addresses of 4 or 16 bytes.
func Addrs[P any](number protowire.Number, name string, count int, at func(P) *[]netip.Addr) Part[P] {
	return repeated(number, name, count, at, Field.Addr,
		func(b []byte, a *netip.Addr) []byte { return AppendAddr(b, number, *a) })
}

// Numbers is a packed list of at most count numbers of at most max each.
func Numbers[P any, N ~uint8 | ~uint16 | ~uint32 | ~uint64](number protowire.Number, name string, count int, max N, at func(P) *[]N) Part[P] {
	return Part[P]{number, name, true, // packed: one or more occurrences
		func(f Field, v P) error {
			return f.Varints(func(f Field) error {
				var n N
				err := readNumber(f, max, &n)
				if err == nil {
					err = grow(at(v), count, n)
				}
				return err
			})
		},
		func(b []byte, v P) []byte {
			if len(*at(v)) == 0 {
				return b
			}
			return AppendMessage(b, number, func(b []byte) []byte {
				for _, n := range *at(v) {
					b = protowire.AppendVarint(b, uint64(n))
				}
				return b
			})
		}}
}

// Struct is a message in a field that isn't a pointer; without any field set it
// isn't written.
func Struct[P, M any](number protowire.Number, name string, m *Message[M], at func(P) M) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error { return m.readField(f, at(v)) },
		func(b []byte, v P) []byte {
			n := len(b)
			with := m.field(b, number, at(v))
			if len(with) == n+protowire.SizeTag(number)+1 { // a tag and the length 0
				return with[:n]
			}
			return with
		}}
}

// Pointer is a message that is there when the pointer isn't nil, also when none
// of its fields is set.
func Pointer[P any, M comparable](number protowire.Number, name string, m *Message[M], at func(P) *M) Part[P] {
	return Part[P]{number, name, false,
		func(f Field, v P) error {
			p := m.make()
			*at(v) = p
			return m.readField(f, p)
		},
		func(b []byte, v P) []byte {
			var none M
			if *at(v) == none {
				return b
			}
			return m.field(b, number, *at(v))
		}}
}

// Messages is a list of at most count messages.
func Messages[P, E any, M interface{ *E }](number protowire.Number, name string, count int, m *Message[M], at func(P) *[]E) Part[P] {
	return repeated(number, name, count, at,
		func(f Field, e *E) error { return m.readField(f, e) },
		func(b []byte, e *E) []byte { return m.field(b, number, e) })
}

func (m *Message[P]) readField(f Field, v P) error {
	b, err := f.Message()
	if err != nil {
		return err
	}
	return m.Read(b, v)
}

// field appends v as a message field.
func (m *Message[P]) field(b []byte, number protowire.Number, v P) []byte {
	return AppendMessage(b, number, func(b []byte) []byte { return m.Append(b, v) })
}

// Map is a list of at most count messages that are kept by a key of their own,
// written in the keys' order. No key is empty or there twice.
func Map[P, M any](number protowire.Number, name string, count int, m *Message[M], key func(M) string, at func(P) *map[string]M) Part[P] {
	return Part[P]{number, name, true,
		func(f Field, v P) error {
			x := m.make()
			i := len(*at(v))
			if err := m.readField(f, x); err != nil {
				return InElement("", i, err)
			}
			return InElement("", i, put(at(v), count, key(x), x))
		},
		func(b []byte, v P) []byte {
			for _, k := range slices.Sorted(maps.Keys(*at(v))) {
				b = m.field(b, number, (*at(v))[k])
			}
			return b
		}}
}

// Versions is Map for a message of a string key, 1, of at most max bytes and a
// uint64, 2.
func Versions[P any](number protowire.Number, name string, count, max int, at func(P) *map[string]uint64) Part[P] {
	type pair struct {
		key     string
		version uint64
	}
	m := Describe(
		String(1, "key", max, func(p *pair) *string { return &p.key }),
		Number(2, "version", math.MaxUint64, func(p *pair) *uint64 { return &p.version }))
	return Part[P]{number, name, true,
		func(f Field, v P) error {
			var p pair
			i := len(*at(v))
			if err := m.readField(f, &p); err != nil {
				return InElement("", i, err)
			}
			return InElement("", i, put(at(v), count, p.key, p.version))
		},
		func(b []byte, v P) []byte {
			for _, k := range slices.Sorted(maps.Keys(*at(v))) {
				b = m.field(b, number, &pair{k, (*at(v))[k]})
			}
			return b
		}}
}

// put adds x to a map that must not have its key yet.
func put[X any](m *map[string]X, count int, key string, x X) error {
	if key == "" {
		return Errorf("has no key")
	}
	if len(*m) >= count {
		return Errorf("more than %d elements", count)
	}
	if _, ok := (*m)[key]; ok {
		return Errorf("%q is there twice", key)
	}
	if *m == nil {
		*m = make(map[string]X)
	}
	(*m)[key] = x
	return nil
}
