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

// field is the value of a field. Its methods fail when it has another type on the
// wire.
type field struct {
	kind  protowire.Type
	value uint64
	bytes []byte
}

// noKind is what read returns for a wire type that isn't used.
const noKind = math.MinInt

// read reads the value at the beginning of b and returns how many bytes it has, or
// a negative number.
func (f *field) read(kind protowire.Type, b []byte) (n int) {
	f.kind, f.bytes = kind, nil
	switch kind {
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(b)
	case protowire.Fixed64Type:
		f.value, n = protowire.ConsumeFixed64(b)
	case protowire.Fixed32Type: // nobody's yet
		_, n = protowire.ConsumeFixed32(b)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	default:
		n = noKind
	}
	return n
}

// uint64 reads a uint32 or uint64 field of at most max into v.
func (f *field) uint64(max uint64, v *uint64) error {
	if f.kind != protowire.VarintType {
		return Errorf("want a varint")
	}
	if f.value > max {
		return Errorf("%d is more than %d", f.value, max)
	}
	*v = f.value
	return nil
}

// fixed64 reads a fixed64 field into v.
func (f *field) fixed64(v *uint64) error {
	if f.kind != protowire.Fixed64Type {
		return Errorf("want a fixed64")
	}
	*v = f.value
	return nil
}

// port reads a uint32 field that holds a port number into v.
func (f *field) port(v *uint16) error {
	if f.kind != protowire.VarintType {
		return Errorf("want a varint")
	}
	if f.value > math.MaxUint16 {
		return Errorf("%d is not a port, want 0 to 65535", f.value)
	}
	*v = uint16(f.value)
	return nil
}

// bool reads a bool field into v.
func (f *field) bool(v *bool) error {
	if f.kind != protowire.VarintType {
		return Errorf("want a varint")
	}
	if f.value > 1 {
		return Errorf("%d is not a bool, want 0 or 1", f.value)
	}
	*v = f.value == 1
	return nil
}

// enum reads an enum field whose values are 0 to last.
func (f *field) enum(last uint8, v *uint8) error {
	if f.kind != protowire.VarintType {
		return Errorf("want a varint")
	}
	if f.value > uint64(last) {
		return Errorf("value %d isn't known, want at most %d; is the other program newer?", f.value, last)
	}
	*v = uint8(f.value)
	return nil
}

// maxMilliseconds is the longest duration a time.Duration holds.
const maxMilliseconds = math.MaxInt64 / uint64(time.Millisecond)

// milliseconds reads a uint64 field of milliseconds into v.
func (f *field) milliseconds(v *time.Duration) error {
	if f.kind != protowire.VarintType {
		return Errorf("want a varint")
	}
	if f.value > maxMilliseconds {
		return Errorf("%d ms is too long, want at most %d", f.value, maxMilliseconds)
	}
	*v = time.Duration(f.value) * time.Millisecond
	return nil
}

// time reads a uint64 field of milliseconds since 1970 into v; 0 is no time.
func (f *field) time(v *time.Time) error {
	var ms uint64
	if err := f.uint64(math.MaxUint64, &ms); err != nil {
		return err
	}
	if ms > maxMilliseconds {
		return Errorf("%d ms is too late, want at most %d", ms, maxMilliseconds)
	}
	if ms != 0 {
		*v = time.UnixMilli(int64(ms)).UTC()
	}
	return nil
}

// string reads a string field of at most max bytes into v.
func (f *field) string(max int, v *string) error {
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

// copy reads a bytes field of at most max bytes into v, copied; an empty one
// is nil.
func (f *field) copy(max int, v *[]byte) error {
	if f.kind != protowire.BytesType {
		return Errorf("want bytes")
	}
	if len(f.bytes) > max {
		return Errorf("%d bytes are too long, want at most %d", len(f.bytes), max)
	}
	*v = append([]byte(nil), f.bytes...)
	return nil
}

// message returns the bytes of a message field; they alias the input.
func (f *field) message() ([]byte, error) {
	if f.kind != protowire.BytesType {
		return nil, Errorf("want a message")
	}
	return f.bytes, nil
}

// varints calls f for each element of a repeated varint field, packed or not.
func (f *field) varints(each func(uint64) error) error {
	if f.kind == protowire.VarintType {
		return each(f.value)
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
		if err := each(v); err != nil {
			return err
		}
	}
	return nil
}

// addrPort reads a string field "IP:PORT" into v; an empty string is the zero
// value.
func (f *field) addrPort(v *netip.AddrPort) error {
	var s string
	if err := f.string(maxAddrPort, &s); err != nil {
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

// addr reads a bytes field of 4 or 16 bytes into v.
func (f *field) addr(v *netip.Addr) error {
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
