package pb

import (
	"errors"
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

// values has one of each kind that is one field.
type values struct {
	number   uint64
	fixed    uint64
	port     uint16
	flag     bool
	there    bool
	kind     uint8
	text     string
	blob     []byte
	duration time.Duration
	moment   time.Time
	at       netip.AddrPort
	addr     netip.Addr
	texts    []string
	blobs    [][]byte
	addrs    []netip.Addr
}

func valuesMessage(m *Message, v *values) {
	Number(m, 1, "number", math.MaxUint64, &v.number)
	Fixed(m, 2, "fixed", &v.fixed)
	Port(m, 3, "port", &v.port)
	Bool(m, 4, "flag", &v.flag)
	Empty(m, 5, "there", &v.there)
	Enum(m, 6, "kind", 3, &v.kind)
	String(m, 7, "text", 200, &v.text)
	Bytes(m, 8, "blob", 1, &v.blob)
	Milliseconds(m, 9, "duration", &v.duration)
	Time(m, 10, "moment", &v.moment)
	AddrPort(m, 11, "at", &v.at)
	Addr(m, 12, "addr", &v.addr)
	Strings(m, 13, "texts", 2, 200, &v.texts)
	Blobs(m, 14, "blobs", 2, 1, &v.blobs)
	Addrs(m, 63, "addrs", 2, &v.addrs)
}

// TestValues: what is written is read; a zero value is left out.
func TestValues(t *testing.T) {
	if b := Append(nil, &values{duration: -1}, valuesMessage); len(b) != 0 {
		t.Errorf("zero values are written: %x", b)
	}
	long := string(make([]byte, 200)) // its length takes two bytes
	addr := netip.MustParseAddr("::ffff:10.0.0.1")
	want := values{
		number: math.MaxUint64, fixed: 7, port: 65535, flag: true, there: true, kind: 3, text: long, blob: []byte{1},
		duration: (math.MaxInt64 / time.Millisecond) * time.Millisecond, moment: time.UnixMilli(1 << 40).UTC(),
		at: netip.MustParseAddrPort("[fe80::1%eth0]:1"), addr: addr, texts: []string{"", long}, blobs: [][]byte{{1}, {2}},
		addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), addr},
	}
	b := Append([]byte("x"), &want, valuesMessage)
	got, err := Decode(b[1:], valuesMessage)
	if err != nil || b[0] != 'x' || !reflect.DeepEqual(*got, want) {
		t.Errorf("%v, %+v", err, got)
	}
	// Each value is refused on a field of another type, and with its name.
	names := []string{"number", "fixed", "port", "flag", "there", "kind", "text", "blob", "duration", "moment", "at", "addr", "texts[0]", "blobs[0]"}
	for i, name := range names {
		b := protowire.AppendTag(nil, protowire.Number(i+1), protowire.Fixed32Type)
		if _, err := Decode(append(b, 0, 0, 0, 0), valuesMessage); err == nil || !strings.HasPrefix(err.Error(), name+": want ") {
			t.Errorf("%s of another type: %v", name, err)
		}
	}
	// Nothing but a list may be there twice, or many times what nobody knows.
	twice := protowire.AppendVarint(protowire.AppendTag(nil, 4, protowire.VarintType), 1)
	if _, err := Decode(append(twice, twice...), valuesMessage); err == nil || err.Error() != "flag: is there twice" {
		t.Errorf("a flag twice: %v", err)
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 20, protowire.VarintType), 1)
	if _, err := Decode(append(unknown, unknown...), valuesMessage); err != nil {
		t.Errorf("an unknown field twice: %v", err)
	}
}

// FuzzDecode: broken bytes are an error, never a panic, and what is read reads the
// same again.
func FuzzDecode(f *testing.F) {
	f.Add(Append(nil, &thing{number: 5, list: []inner{{"a"}}, small: []uint16{1}}, thingMessage))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Decode(b, thingMessage)
		if err != nil {
			return
		}
		again, err := Decode(Append(nil, v, thingMessage), thingMessage)
		if err != nil || !reflect.DeepEqual(v, again) {
			t.Errorf("%+v, then %+v, %v", v, again, err)
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

func innerMessage(m *Message, i *inner) { String(m, 1, "name", 5, &i.name) }

func thingMessage(m *Message, t *thing) {
	Number(m, 1, "number", 10, &t.number)
	Time(m, 2, "until", &t.until)
	Struct(m, 3, "inner", &t.inner, innerMessage)
	Pointer(m, 4, "maybe", &t.maybe, innerMessage)
	Messages(m, 5, "list", 2, &t.list, innerMessage)
	Numbers(m, 6, "small", 2, 9, &t.small)
	Map(m, 7, "keyed", 2, &t.keyed, func(i *inner) string { return i.name }, innerMessage)
	Versions(m, 8, "counts", 2, 5, &t.counts)
}

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
		b := Append(nil, &test.thing, thingMessage)
		got, err := Decode(b, thingMessage)
		if err != nil || !reflect.DeepEqual(*got, test.thing) || len(b) != test.bytes {
			t.Errorf("%s: %d bytes, %+v, %v", name, len(b), got, err)
		}
	}
	old := thing{until: time.Unix(-5, 0)}
	if got, err := Decode(Append(nil, &old, thingMessage), thingMessage); err != nil || got.until.UnixMilli() != 1 {
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
		_, err := Decode(Append(nil, &bad, thingMessage), thingMessage)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	keyless := protowire.AppendBytes(protowire.AppendTag(nil, 8, protowire.BytesType), nil)
	if _, err := Decode(append(Append(nil, &thing{counts: map[string]uint64{"a": 1}}, thingMessage), keyless...), thingMessage); err == nil || err.Error() != "counts[1]: has no key" {
		t.Errorf("no key: %v", err)
	}
	// In another order, and with what nobody knows between, it is the same.
	var mixed []byte
	for _, part := range []thing{{counts: map[string]uint64{"x": 7}}, {list: []inner{{"a"}}}, {number: 3}, {list: []inner{{"b"}}}, {small: []uint16{1}}, {small: []uint16{2}}} {
		mixed = append(protowire.AppendVarint(protowire.AppendTag(mixed, 50, protowire.VarintType), 1), Append(nil, &part, thingMessage)...)
	}
	whole := thing{number: 3, list: []inner{{"a"}, {"b"}}, small: []uint16{1, 2}, counts: map[string]uint64{"x": 7}}
	if got, err := Decode(mixed, thingMessage); err != nil || !reflect.DeepEqual(*got, whole) {
		t.Errorf("in another order: %+v, %v", got, err)
	}
	// The whole is looked at once, when all has been read.
	looks := 0
	_, err := Decode(Append(nil, &inner{"a"}, innerMessage), func(m *Message, i *inner) {
		if innerMessage(m, i); m.Ended() {
			looks++
			m.Fail(In("name", Errorf("%q is never right", i.name)))
		}
	})
	if err == nil || err.Error() != `name: "a" is never right` || looks != 1 {
		t.Errorf("looked %d times: %v", looks, err)
	}
}
