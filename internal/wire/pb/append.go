package pb

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The append functions add one field to b, nothing when v is the zero value
// (proto3's implicit presence).

// appendUint appends a varint field: uint32, uint64 or an enum.
func appendUint(b []byte, number protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, number, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

// appendFixed64 appends a fixed64 field.
func appendFixed64(b []byte, number protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, number, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, v)
}

// appendBool appends a bool field.
func appendBool(b []byte, number protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return appendUint(b, number, 1)
}

// appendMilliseconds appends a duration as milliseconds, rounded up, so that
// no positive duration becomes "none". A negative one is left out.
func appendMilliseconds(b []byte, number protowire.Number, v time.Duration) []byte {
	if v <= 0 {
		return b
	}
	ms := uint64(v / time.Millisecond)
	if v%time.Millisecond != 0 {
		ms++
	}
	return appendUint(b, number, min(ms, maxMilliseconds))
}

// appendTime appends a moment as milliseconds since 1970; the zero time is left
// out, one before 1970 is its first millisecond.
func appendTime(b []byte, number protowire.Number, v time.Time) []byte {
	if v.IsZero() {
		return b
	}
	return appendUint(b, number, min(uint64(max(v.UnixMilli(), 1)), maxMilliseconds))
}

// appendString appends a string field.
func appendString(b []byte, number protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return appendElement(b, number, v)
}

// appendBytes appends a bytes field.
func appendBytes(b []byte, number protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return appendElement(b, number, v)
}

// appendElement appends one element of a repeated string or bytes field, even
// when it is empty.
func appendElement[T string | []byte](b []byte, number protowire.Number, v T) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(v)))
	return append(b, v...)
}

// appendAddrPort appends "IP:PORT".
func appendAddrPort(b []byte, number protowire.Number, v netip.AddrPort) []byte {
	if !v.IsValid() {
		return b
	}
	return appendElement(b, number, v.String())
}

// appendAddr appends an address as 4 or 16 bytes, even when it is one of a
// repeated field; an invalid one is left out.
func appendAddr(b []byte, number protowire.Number, v netip.Addr) []byte {
	switch {
	case v.Is4():
		a := v.As4()
		return appendElement(b, number, a[:])
	case v.Is6():
		a := v.As16()
		return appendElement(b, number, a[:])
	}
	return b
}
