package pb

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"
)

func TestErrorPath(t *testing.T) {
	err := Errorf("is %d", 5)
	err = In("address", err)
	err = InElement("listeners", 2, err)
	err = In("proxy", err)
	if got := err.Error(); got != "proxy.listeners[2].address: is 5" {
		t.Errorf("%s", got)
	}
	if got := In("a", InElement("", 3, errors.New("x"))).Error(); got != "a[3]: x" {
		t.Errorf("%s", got)
	}
	if In("a", nil) != nil || InElement("a", 1, nil) != nil {
		t.Error("no error became one")
	}
}

// read reads one field of b with f.
func read(b []byte, f func(Field) error) error {
	n := 0
	err := Fields(b, 0, func(field Field) error {
		n++
		return f(field)
	})
	if err == nil && n != 1 {
		return fmt.Errorf("%d fields", n)
	}
	return err
}

// TestFields: what Append writes the accessors read; a zero value is left out.
func TestFields(t *testing.T) {
	at, addr := netip.MustParseAddrPort("[fe80::1%eth0]:1"), netip.MustParseAddr("::ffff:10.0.0.1")
	long := string(make([]byte, 200)) // its length takes two bytes
	var (
		n64  uint64
		n32  uint32
		port uint16
		flag bool
		text string
		blob []byte
		d    time.Duration
		a    netip.AddrPort
		ip   netip.Addr
	)
	for name, test := range map[string]struct {
		b    []byte
		read func(Field) error
		ok   func() bool
	}{
		"uint64":   {AppendUint(nil, 1, math.MaxUint64), func(f Field) error { return f.Uint64(&n64) }, func() bool { return n64 == math.MaxUint64 }},
		"fixed64":  {AppendFixed64(nil, 1, 7), func(f Field) error { return f.Fixed64(&n64) }, func() bool { return n64 == 7 }},
		"uint32":   {AppendUint(nil, 1, math.MaxUint32), func(f Field) error { return f.Uint32(&n32) }, func() bool { return n32 == math.MaxUint32 }},
		"port":     {AppendUint(nil, 1, 65535), func(f Field) error { return f.Port(&port) }, func() bool { return port == 65535 }},
		"bool":     {AppendBool(nil, 1, true), func(f Field) error { return f.Bool(&flag) }, func() bool { return flag }},
		"string":   {AppendString(nil, 1, long), func(f Field) error { return f.String(200, &text) }, func() bool { return text == long }},
		"bytes":    {AppendBytes(nil, 1, []byte{1}), func(f Field) error { return f.Bytes(1, &blob) }, func() bool { return string(blob) == "\x01" }},
		"duration": {AppendMilliseconds(nil, 1, math.MaxInt64), func(f Field) error { return f.Milliseconds(&d) }, func() bool { return d > 290*365*24*time.Hour }},
		"address":  {AppendAddr(nil, 1, addr), func(f Field) error { return f.Addr(&ip) }, func() bool { return ip == addr }},
		"addrport": {AppendAddrPort(nil, 1, at), func(f Field) error { return f.AddrPort(&a) }, func() bool { return a == at }},
		"message": {AppendMessage(nil, 1, func(b []byte) []byte { return AppendString(b, 2, long) }), func(f Field) error {
			b, err := f.Message()
			if err != nil {
				return err
			}
			return read(b, func(f Field) error { return f.String(200, &text) })
		}, func() bool { return text == long }},
	} {
		text = ""
		if err := read(test.b, test.read); err != nil || !test.ok() {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"uint": AppendUint(nil, 1, 0), "bool": AppendBool(nil, 1, false), "string": AppendString(nil, 1, ""), "bytes": AppendBytes(nil, 1, nil),
		"duration": AppendMilliseconds(nil, 1, -1), "address": AppendAddr(nil, 1, netip.Addr{}), "addrport": AppendAddrPort(nil, 1, netip.AddrPort{}),
		"fixed64": AppendFixed64(nil, 1, 0),
	} {
		if len(b) != 0 {
			t.Errorf("a zero %s is written", name)
		}
	}
}

// FuzzFields: broken bytes are an error, never a panic.
func FuzzFields(f *testing.F) {
	f.Add(AppendString(AppendUint(nil, 1, 5), 2, "x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		err := Fields(b, ^Set(0), func(f Field) error {
			total += len(f.bytes)
			return f.Varints(func(Field) error { return nil })
		})
		if err == nil && total > len(b) {
			t.Errorf("%d bytes of fields in %d", total, len(b))
		}
	})
}
