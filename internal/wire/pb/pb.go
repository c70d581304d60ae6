package pb

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Error says which field of a message was wrong, and how.
type Error struct {
	// Path is the field, "proxy.listeners[2].address"; empty for the message itself.
	Path string
	// Reason says what was wrong and what would be right.
	Reason string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Reason
	}
	return e.Path + ": " + e.Reason
}

// Errorf returns an *Error without a path; In adds it on the way up.
func Errorf(format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...)}
}

// In prefixes the path of err with a field's name. A nil err stays nil.
func In(field string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := err.(*Error)
	if !ok {
		e = &Error{Reason: err.Error()}
	}
	switch {
	case e.Path == "":
		return &Error{Path: field, Reason: e.Reason}
	case strings.HasPrefix(e.Path, "["):
		return &Error{Path: field + e.Path, Reason: e.Reason}
	}
	return &Error{Path: field + "." + e.Path, Reason: e.Reason}
}

// InElement is In for element i of a repeated field.
func InElement(field string, i int, err error) error {
	if err == nil {
		return nil
	}
	return In(field+"["+strconv.Itoa(i)+"]", err)
}

// Set is a set of field numbers from 1 to 63.
type Set uint64

// Field is one field of a message. Its accessors fail when the field has
// another type on the wire.
type Field struct {
	Number protowire.Number
	kind   protowire.Type
	number uint64
	bytes  []byte
}

// Fields calls f for each field of message b in order. A field that isn't in
// repeated may appear once. It stops at the first error; f wraps its errors
// with In.
func Fields(b []byte, repeated Set, f func(Field) error) error {
	var seen Set
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return Errorf("broken field tag")
		}
		b = b[n:]
		field := Field{Number: number, kind: kind}
		switch kind {
		case protowire.VarintType:
			field.number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			field.number, n = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			field.number = uint64(v)
		case protowire.BytesType:
			field.bytes, n = protowire.ConsumeBytes(b)
		default:
			return Errorf("field %d has wire type %d, groups aren't used", number, kind)
		}
		if n < 0 {
			return Errorf("field %d is cut off or broken", number)
		}
		b = b[n:]
		if number < 64 && repeated&(1<<number) == 0 {
			if seen&(1<<number) != 0 {
				return Errorf("field %d is there twice", number)
			}
			seen |= 1 << number
		}
		if err := f(field); err != nil {
			return err
		}
	}
	return nil
}

// Uint64 reads a uint64 field into v.
func (f Field) Uint64(v *uint64) error {
	if f.kind != protowire.VarintType {
		return Errorf("want a varint")
	}
	*v = f.number
	return nil
}

// Fixed64 reads a fixed64 field into v.
func (f Field) Fixed64(v *uint64) error {
	if f.kind != protowire.Fixed64Type {
		return Errorf("want a fixed64")
	}
	*v = f.number
	return nil
}

// Port reads a uint32 field that holds a port number into v.
func (f Field) Port(v *uint16) error {
	if f.kind != protowire.VarintType {
		return Errorf("want a varint")
	}
	if f.number > math.MaxUint16 {
		return Errorf("%d is not a port, want 0 to 65535", f.number)
	}
	*v = uint16(f.number)
	return nil
}

// Bool reads a bool field into v.
func (f Field) Bool(v *bool) error {
	if f.kind != protowire.VarintType {
		return Errorf("want a varint")
	}
	if f.number > 1 {
		return Errorf("%d is not a bool, want 0 or 1", f.number)
	}
	*v = f.number == 1
	return nil
}

// Enum reads an enum field whose values are 0 to last.
func (f Field) Enum(last uint8, v *uint8) error {
	if f.kind != protowire.VarintType {
		return Errorf("want a varint")
	}
	if f.number > uint64(last) {
		return Errorf("value %d isn't known, want at most %d; is the other program newer?", f.number, last)
	}
	*v = uint8(f.number)
	return nil
}

// maxMilliseconds is the longest duration a time.Duration holds.
const maxMilliseconds = math.MaxInt64 / uint64(time.Millisecond)

// Milliseconds reads a uint64 field of milliseconds into v.
func (f Field) Milliseconds(v *time.Duration) error {
	if f.kind != protowire.VarintType {
		return Errorf("want a varint")
	}
	if f.number > maxMilliseconds {
		return Errorf("%d ms is too long, want at most %d", f.number, maxMilliseconds)
	}
	*v = time.Duration(f.number) * time.Millisecond
	return nil
}

// String reads a string field of at most max bytes into v.
func (f Field) String(max int, v *string) error {
	if f.kind != protowire.BytesType {
		return Errorf("want a string")
	}
	if len(f.bytes) > max {
		return Errorf("%d bytes are too long, want at most %d", len(f.bytes), max)
	}
	if !utf8.Valid(f.bytes) {
		return Errorf("%.40q isn't UTF-8", f.bytes)
	}
	*v = string(f.bytes)
	return nil
}

// Bytes reads a bytes field of at most max bytes into v, copied; an empty one
// is nil.
func (f Field) Bytes(max int, v *[]byte) error {
	if f.kind != protowire.BytesType {
		return Errorf("want bytes")
	}
	if len(f.bytes) > max {
		return Errorf("%d bytes are too long, want at most %d", len(f.bytes), max)
	}
	*v = append([]byte(nil), f.bytes...)
	return nil
}

// Message returns the bytes of a message field; they alias the input.
func (f Field) Message() ([]byte, error) {
	if f.kind != protowire.BytesType {
		return nil, Errorf("want a message")
	}
	return f.bytes, nil
}

// Varints calls f for each element of a repeated varint field, packed or not.
func (f Field) Varints(each func(Field) error) error {
	if f.kind == protowire.VarintType {
		return each(f)
	}
	if f.kind != protowire.BytesType {
		return Errorf("want varints")
	}
	for b := f.bytes; len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return Errorf("broken varint")
		}
		b = b[n:]
		if err := each(Field{Number: f.Number, kind: protowire.VarintType, number: v}); err != nil {
			return err
		}
	}
	return nil
}

// AddrPort reads a string field "IP:PORT" into v; an empty string is the zero
// value.
func (f Field) AddrPort(v *netip.AddrPort) error {
	var s string
	if err := f.String(maxAddrPort, &s); err != nil {
		return err
	}
	if s == "" {
		*v = netip.AddrPort{}
		return nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return Errorf("%q is not IP:PORT", s)
	}
	*v = a
	return nil
}

// maxAddrPort bounds "[IPv6%zone]:port".
const maxAddrPort = 128

// Addr reads a bytes field of 4 or 16 bytes into v.
func (f Field) Addr(v *netip.Addr) error {
	if f.kind != protowire.BytesType {
		return Errorf("want bytes")
	}
	a, ok := netip.AddrFromSlice(f.bytes)
	if !ok {
		return Errorf("an address has 4 or 16 bytes, not %d", len(f.bytes))
	}
	*v = a
	return nil
}

// grow appends x to list unless that makes it longer than max.
func grow[T any](list *[]T, max int, x T) error {
	if len(*list) >= max {
		return Errorf("more than %d elements", max)
	}
	*list = append(*list, x)
	return nil
}
