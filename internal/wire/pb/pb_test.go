package pb

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
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

// thing has a field of each kind that needs care.
type thing struct {
	number uint8
	until  time.Time
	inner  inner
	maybe  *inner
	list   []inner
	small  []uint16
	keyed  map[string]*inner
	counts map[string]uint64
}

type inner struct{ name string }

var innerMessage = Describe(String(1, "name", 5, func(i *inner) *string { return &i.name }))

var thingMessage = Describe(
	Number(1, "number", 10, func(t *thing) *uint8 { return &t.number }),
	Time(2, "until", func(t *thing) *time.Time { return &t.until }),
	Struct(3, "inner", innerMessage, func(t *thing) *inner { return &t.inner }),
	Pointer(4, "maybe", innerMessage, func(t *thing) **inner { return &t.maybe }),
	Messages(5, "list", 2, innerMessage, func(t *thing) *[]inner { return &t.list }),
	Numbers(6, "small", 2, 9, func(t *thing) *[]uint16 { return &t.small }),
	Map(7, "keyed", 2, innerMessage, func(i *inner) string { return i.name }, func(t *thing) *map[string]*inner { return &t.keyed }),
	Versions(8, "counts", 2, 5, func(t *thing) *map[string]uint64 { return &t.counts }),
)

func TestMessage(t *testing.T) {
	for name, test := range map[string]struct {
		thing thing
		bytes int // of its encoding
	}{
		"nothing":              {thing{}, 0},
		"an empty message":     {thing{maybe: &inner{}}, 2}, // is there all the same
		"elements":             {thing{list: []inner{{}, {}}, small: []uint16{0, 9}}, 2 + 2 + 4},
		"maps":                 {thing{keyed: map[string]*inner{"b": {"b"}, "a": {"a"}}, counts: map[string]uint64{"x": 7}}, 2*5 + 7},
		"a moment before 1970": {thing{until: time.UnixMilli(1).UTC()}, 2},
		"all":                  {thing{number: 10, until: time.UnixMilli(1 << 40).UTC(), inner: inner{"a"}, maybe: &inner{"b"}}, 2 + 7 + 5 + 5},
	} {
		b := thingMessage.Append(nil, &test.thing)
		got, err := thingMessage.Decode(b)
		if err != nil || !reflect.DeepEqual(*got, test.thing) || len(b) != test.bytes {
			t.Errorf("%s: %d bytes, %+v, %v", name, len(b), got, err)
		}
	}
	old := thing{until: time.Unix(-5, 0)}
	if got, err := thingMessage.Decode(thingMessage.Append(nil, &old)); err != nil || got.until.UnixMilli() != 1 {
		t.Errorf("a moment before 1970: %v, %v", got, err)
	}
	for want, bad := range map[string]thing{
		"number: 11 is more than 10":                   {number: 11},
		"inner.name: 6 bytes are too long":             {inner: inner{"toolong"[:6]}},
		"maybe.name: 6 bytes are too long":             {maybe: &inner{"toolong"[:6]}},
		"list[1].name: 6 bytes are too long":           {list: []inner{{}, {"toolong"[:6]}}},
		"list[2]: more than 2 elements":                {list: make([]inner, 3)},
		"small: more than 2 elements":                  {small: make([]uint16, 3)},
		"small: 10 is more than 9":                     {small: []uint16{10}},
		"keyed[0]: has no key":                         {keyed: map[string]*inner{"": {}}},
		`keyed[1]: "a" is there twice`:                 {keyed: map[string]*inner{"1": {"a"}, "2": {"a"}}},
		"counts[2]: more than 2 elements":              {counts: map[string]uint64{"a": 1, "b": 2, "c": 3}},
		"counts[0].key: 6 bytes are too long, want at": {counts: map[string]uint64{"toolong"[:6]: 1}},
	} {
		_, err := thingMessage.Decode(thingMessage.Append(nil, &bad))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	checked := Describe(String(1, "name", 5, func(i *inner) *string { return &i.name })).Check(func(i *inner) error { return Errorf("is never right") })
	if _, err := checked.Decode(nil); err == nil || err.Error() != "is never right" {
		t.Errorf("the check: %v", err)
	}
	for name, numbers := range map[string][]protowire.Number{"twice": {1, 1}, "none": {0}, "too high": {64}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a field number %s is taken", name)
				}
			}()
			var parts []Part[*inner]
			for _, n := range numbers {
				parts = append(parts, String(n, "name", 5, func(i *inner) *string { return &i.name }))
			}
			Describe(parts...)
		}()
	}
}
