package pb

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The Append functions add one field to b, nothing when v is the zero value
// (proto3's implicit presence).

// AppendUint appends a varint field: uint32, uint64 or an enum.
func AppendUint(b []byte, number protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, number, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

// AppendFixed64 appends a fixed64 field.
func AppendFixed64(b []byte, number protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, number, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, v)
}

// AppendBool appends a bool field.
func AppendBool(b []byte, number protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return AppendUint(b, number, 1)
}

// AppendMilliseconds appends a duration as milliseconds, rounded up, so that
// no positive duration becomes "none". A negative one is left out.
func AppendMilliseconds(b []byte, number protowire.Number, v time.Duration) []byte {
	if v <= 0 {
		return b
	}
	ms := uint64(v / time.Millisecond)
	if v%time.Millisecond != 0 {
		ms++
	}
	return AppendUint(b, number, min(ms, maxMilliseconds))
}

// AppendString appends a string field.
func AppendString(b []byte, number protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return AppendElement(b, number, v)
}

// AppendBytes appends a bytes field.
func AppendBytes(b []byte, number protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return AppendElement(b, number, v)
}

// AppendElement appends one element of a repeated string or bytes field, even
// when it is empty.
func AppendElement[T string | []byte](b []byte, number protowire.Number, v T) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(v)))
	return append(b, v...)
}

// AppendAddrPort appends "IP:PORT".
func AppendAddrPort(b []byte, number protowire.Number, v netip.AddrPort) []byte {
	if !v.IsValid() {
		return b
	}
	return AppendElement(b, number, v.String())
}

// AppendAddr appends an address as 4 or 16 bytes, even when it is one of a
// repeated field; an invalid one is left out.
func AppendAddr(b []byte, number protowire.Number, v netip.Addr) []byte {
	switch {
	case v.Is4():
		a := v.As4()
		return AppendElement(b, number, a[:])
	case v.Is6():
		a := v.As16()
		return AppendElement(b, number, a[:])
	}
	return b
}

// AppendMessage appends a message field whose bytes body appends.
func AppendMessage(b []byte, number protowire.Number, body func([]byte) []byte) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	// Most messages are short: leave one byte for the length, and move the
	// body when it needs more.
	start := len(b)
	b = append(b, 0)
	b = body(b)
	n := len(b) - start - 1
	if n < 0x80 {
		b[start] = byte(n)
		return b
	}
	extra := protowire.SizeVarint(uint64(n)) - 1
	for range extra {
		b = append(b, 0)
	}
	copy(b[start+1+extra:], b[start+1:start+1+n])
	protowire.AppendVarint(b[start:start], uint64(n))
	return b
}
