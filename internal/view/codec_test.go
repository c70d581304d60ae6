package view

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"
)

// message compiles api/proto/view.proto and returns a message of it.
func message(t testing.TB, name protoreflect.FullName) protoreflect.MessageDescriptor {
	t.Helper()
	c := protocompile.Compiler{Resolver: &protocompile.SourceResolver{ImportPaths: []string{"../../api/proto"}}}
	files, err := c.Compile(context.Background(), "view.proto")
	if err != nil {
		t.Fatal(err)
	}
	d, err := files.AsResolver().FindDescriptorByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return d.(protoreflect.MessageDescriptor)
}

// TestRoundTrip sends views through google.golang.org/protobuf and the
// description in api/proto both ways.
func TestRoundTrip(t *testing.T) {
	d := message(t, "tulle.view.v1.View")
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		b := Encode(v)
		if string(Encode(v)) != string(b) {
			t.Fatal("encodes differently the second time")
		}
		m := dynamicpb.NewMessage(d)
		if err := proto.Unmarshal(b, m); err != nil {
			t.Fatalf("protobuf can't read it: %v", err)
		}
		if unknown := unknownFields(m); unknown != "" {
			t.Fatalf("view.proto doesn't have a field of %s", unknown)
		}
		again, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{b, again} {
			got, err := Decode(b)
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			if diff := cmp.Diff(v, got, comparable); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// unknownFields names a message that has fields the description lacks.
func unknownFields(m protoreflect.Message) (name string) {
	if len(m.GetUnknown()) > 0 {
		return string(m.Descriptor().FullName())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil {
			return true
		}
		if !f.IsList() {
			name = unknownFields(v.Message())
			return name == ""
		}
		for i := range v.List().Len() {
			if name = unknownFields(v.List().Get(i).Message()); name != "" {
				return false
			}
		}
		return true
	})
	return name
}

// TestEveryField: each field of the description is written by Encode. It fails
// when view.proto gets a field that this package doesn't know.
func TestEveryField(t *testing.T) {
	v := full()
	m := dynamicpb.NewMessage(message(t, "tulle.view.v1.View"))
	if err := proto.Unmarshal(Encode(v), m); err != nil {
		t.Fatal(err)
	}
	seen := map[protoreflect.FullName]bool{}
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			if !m.Has(f) {
				t.Errorf("%s is not written", f.FullName())
				continue
			}
			seen[f.FullName()] = true
			if f.Message() == nil {
				continue
			}
			if f.IsList() {
				walk(m.Get(f).List().Get(0).Message())
			} else {
				walk(m.Get(f).Message())
			}
		}
	}
	walk(m)
	if len(seen) < 190 {
		t.Errorf("only %d fields were looked at", len(seen))
	}
}

func TestDecodeErrors(t *testing.T) {
	field := func(n protowire.Number, body ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), body)
	}
	varint := func(n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
	}
	join := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	listener := func(body ...byte) []byte { return field(2, join(field(7), field(7), field(7, body...))...) }
	many := field(3)
	for range maxDomains + 1 {
		many = append(many, field(2)...)
	}
	for name, test := range map[string]struct {
		b    []byte
		want string
	}{
		"cut tag":               {[]byte{0x80}, "broken field tag"},
		"cut field":             {[]byte{0x12, 5, 1}, "field 2 is cut off"},
		"group":                 {[]byte{0x13, 0x14}, "groups aren't used"},
		"field number 0":        {[]byte{0x02, 0}, "broken field tag"},
		"twice":                 {join(field(2), field(2)), "proxy: is there twice"},
		"version as varint":     {varint(1, 5), "version: want a fixed64"},
		"proxy as number":       {varint(2, 5), "proxy: want a message"},
		"listener's address":    {listener(field(3, []byte("127.0.0.1")...)...), `proxy.listeners[2].address: "127.0.0.1" is not IP:PORT`},
		"listener's kind":       {listener(varint(2, 7)...), "proxy.listeners[2].kind: value 7 isn't known, want at most 6"},
		"listener's name":       {listener(field(1, 0xff)...), "proxy.listeners[2].name: \"\\xff\" isn't UTF-8"},
		"long name":             {listener(field(1, make([]byte, maxName+1)...)...), "proxy.listeners[2].name: 1025 bytes are too long, want at most 1024"},
		"bool":                  {listener(varint(7, 2)...), "plaintext: 2 is not a bool"},
		"uint32":                {field(2, field(8, varint(7, 1<<32)...)...), "proxy.settings.max_head: 4294967296 is more than 4294967295"},
		"duration":              {field(2, field(8, varint(1, 1<<63)...)...), "proxy.settings.connect_timeout_ms: 9223372036854775808 ms is too long"},
		"too many":              {field(3, many[2:]...), "bundle.domains[256]: more than 256 elements"},
		"destination twice":     {join(field(4, field(1, []byte("a.b:1")...)...), field(4, field(1, []byte("a.b:1")...)...)), `destinations[1]: "a.b:1" is there twice`},
		"destination, no key":   {field(4), "destinations[0]: has no key"},
		"address of 5 bytes":    {field(4, field(3, 1, 2, 3, 4, 5)...), "destinations[0].addresses[0]: an address has 4 or 16 bytes, not 5"},
		"endpoint without port": {field(5, field(2, field(1, 1, 2, 3, 4)...)...), "endpoints[0].list[0].address: an endpoint needs an address and a port"},
		"port":                  {field(6, varint(4, 65536)...), "hosts[0].ports: 65536 is more than 65535"},
		"packed port":           {field(6, field(4, 0x80)...), "hosts[0].ports: broken varint"},
		"policy's number":       {field(4, field(7, field(4, varint(1, 11)...)...)...), "destinations[0].policy.retry.attempts: 11 is more than 10"},
		"fault":                 {field(4, field(7, join(field(6), field(6, varint(6, 17)...))...)...), "destinations[0].policy.faults[1].grpc: value 17 isn't known"},
		"fault's end":           {field(4, field(7, field(6, varint(9, 1<<63)...)...)...), "destinations[0].policy.faults[0].until_ms: 9223372036854775808 ms is too late"},
		"endpoints' policy":     {field(5, field(3, field(1, varint(1, 6)...)...)...), "endpoints[0].policy.balance.algorithm: value 6"},
		"mirror":                {field(4, field(4, field(1, field(2, field(6, field(6, varint(2, 1000001)...)...)...)...)...)...), "destinations[0].routes.hosts[0].rules[0].filters.mirrors[0].share: 1000001 is more than 1000000"},
		"inbound limit":         {listener(field(14, field(1, field(6, varint(1, 6)...)...)...)...), "proxy.listeners[2].inbound.limits[0].by[0].kind: value 6"},
		"rule":                  {field(4, field(4, field(1, field(2, field(2, varint(1, 9)...)...)...)...)...), "destinations[0].routes.hosts[0].rules[0].matches[0].path_kind: value 9"},
	} {
		_, err := Decode(test.b)
		if got := fmt.Sprint(err); !strings.Contains(got, test.want) {
			t.Errorf("%s: %s, want %q", name, got, test.want)
		}
	}
	// What a newer program adds is skipped.
	if v, err := Decode(join(field(60, 1, 2, 3), varint(100, 7), field(2, join(field(1, 'n'), varint(50, 1))...))); err != nil || v.Proxy.Name != "n" {
		t.Errorf("unknown fields: %+v, %v", v, err)
	}
}

func TestDurationsRoundUp(t *testing.T) {
	v := &View{Proxy: Proxy{Settings: Settings{HeadTimeout: time.Nanosecond, IdleTimeout: -time.Second, PoolIdle: 1500 * time.Microsecond}}}
	got, err := Decode(Encode(v))
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{HeadTimeout: time.Millisecond, PoolIdle: 2 * time.Millisecond}
	if got.Proxy.Settings != want {
		t.Errorf("got %+v, want %+v: a positive time never becomes none", got.Proxy.Settings, want)
	}
}

// sample is a view with something of everything.
func sample(tb testing.TB) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	v := &View{Version: 3, Proxy: Proxy{Name: "web", Namespace: "default", Role: Sidecar,
		Listeners: []Listener{{Name: "l", Kind: Edge, Address: netip.MustParseAddrPort("[::1]:80")}}},
		Bundle:    Bundle{Version: 1, Domains: []TrustDomain{{Name: "d", Roots: [][]byte{{1}}}}},
		Endpoints: map[string]*Endpoints{}, Hosts: map[string]*Host{"a": {Name: "a", Ports: []uint16{1, 2}}},
		Versions: map[string]uint64{"proxy": r.Uint64()}}
	v.Endpoints["a.b:1"] = &Endpoints{Key: "a.b:1", List: []Endpoint{{Address: netip.MustParseAddrPort("10.0.0.1:1")}}}
	return Encode(v)
}

// FuzzDecode: what is read encodes to something that reads the same, and no
// input makes the decoder take much more memory than its own size.
func FuzzDecode(f *testing.F) {
	f.Add(sample(f))
	f.Add(Encode(full()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(Encode(v))
		if err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
		if diff := cmp.Diff(v, again, comparable); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add(encodeState(&View{Version: 1}))
	f.Add(sample(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeState(b)
		if err == nil && v == nil || err != nil && err.Error() == "" {
			t.Errorf("%v, %v", v, err)
		}
	})
}
