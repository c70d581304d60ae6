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

	"tulle.dev/tulle/internal/route"
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

// drawView makes any view whose values the codec keeps as they are.
func drawView(t *rapid.T) *View {
	text := rapid.StringMatching(`[a-zä./*-]{0,12}`)
	key := rapid.StringMatching(`[a-z]{1,8}\.[a-z]{1,8}:[1-9][0-9]{0,3}`)
	number := rapid.Uint32()
	big := rapid.Uint64()
	ms := rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "ms")) * time.Millisecond
	})
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "v4") {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip")))
		}
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip")))
	})
	addrPort := rapid.Custom(func(t *rapid.T) netip.AddrPort {
		if rapid.IntRange(0, 3).Draw(t, "none") == 0 {
			return netip.AddrPort{}
		}
		return netip.AddrPortFrom(addr.Draw(t, "addr"), rapid.Uint16().Draw(t, "port"))
	})
	blob := rapid.Custom(func(t *rapid.T) []byte {
		b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes")
		if len(b) == 0 {
			return nil
		}
		return b
	})
	spec := rapid.Custom(func(t *rapid.T) (s route.Spec) {
		for range rapid.IntRange(0, 3).Draw(t, "hosts") {
			h := route.Host{}
			for range rapid.IntRange(0, 2).Draw(t, "hostnames") {
				h.Hostnames = append(h.Hostnames, text.Draw(t, "hostname"))
			}
			for range rapid.IntRange(0, 3).Draw(t, "rules") {
				r := route.Rule{Name: text.Draw(t, "rule"), Timeout: ms.Draw(t, "timeout")}
				for range rapid.IntRange(0, 2).Draw(t, "matches") {
					m := route.Match{Method: text.Draw(t, "method"), Path: route.Path{
						Kind: route.PathKind(rapid.IntRange(0, 2).Draw(t, "kind")), Value: text.Draw(t, "path")}}
					for range rapid.IntRange(0, 2).Draw(t, "headers") {
						m.Headers = append(m.Headers, route.Field{Name: text.Draw(t, "name"), Value: text.Draw(t, "value")})
					}
					r.Matches = append(r.Matches, m)
				}
				for range rapid.IntRange(0, 2).Draw(t, "backends") {
					r.Backends = append(r.Backends, route.Backend{Destination: text.Draw(t, "destination"), Weight: number.Draw(t, "weight")})
				}
				h.Rules = append(h.Rules, r)
			}
			s.Hosts = append(s.Hosts, h)
		}
		return s
	})
	addrs := func() (list []netip.Addr) {
		for range rapid.IntRange(0, 3).Draw(t, "addresses") {
			list = append(list, addr.Draw(t, "address"))
		}
		return list
	}

	v := &View{Version: big.Draw(t, "version")}
	v.Proxy = Proxy{
		Name: text.Draw(t, "name"), Namespace: text.Draw(t, "namespace"), Role: Role(rapid.IntRange(0, 2).Draw(t, "role")),
		Identity: text.Draw(t, "identity"), TrustDomain: text.Draw(t, "domain"), ClusterDomain: text.Draw(t, "cluster"),
		IdentityDir: text.Draw(t, "dir"),
	}
	if rapid.Bool().Draw(t, "settings") {
		v.Proxy.Settings = Settings{
			ConnectTimeout: ms.Draw(t, "connect"), HeadTimeout: ms.Draw(t, "head"), IdleTimeout: ms.Draw(t, "idle"),
			PoolIdle: ms.Draw(t, "pool"), StreamIdle: ms.Draw(t, "stream"), DrainTimeout: ms.Draw(t, "drain"),
			MaxHead: number.Draw(t, "max head"), MaxFields: number.Draw(t, "max fields"), MaxConnections: number.Draw(t, "max connections"),
			PeerProtocol: PeerProtocol(rapid.IntRange(0, int(PeerHTTP2)).Draw(t, "peer protocol")),
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "listeners") {
		v.Proxy.Listeners = append(v.Proxy.Listeners, Listener{
			Name: text.Draw(t, "listener"), Kind: ListenerKind(rapid.IntRange(0, int(Names)).Draw(t, "kind")),
			Address: addrPort.Draw(t, "address"), Protocol: Protocol(rapid.IntRange(0, int(HTTP2)).Draw(t, "protocol")),
			Destination: text.Draw(t, "to"), App: addrPort.Draw(t, "app"), Plaintext: rapid.Bool().Draw(t, "plaintext"),
			Routes: spec.Draw(t, "routes"), Certificate: blob.Draw(t, "certificate"), Key: blob.Draw(t, "key"),
			AcceptProxy: rapid.Bool().Draw(t, "accept PROXY"), SendProxy: ProxyVersion(rapid.IntRange(0, int(ProxyV2)).Draw(t, "send PROXY")),
		})
	}
	v.Bundle.Version = big.Draw(t, "bundle")
	for range rapid.IntRange(0, 2).Draw(t, "domains") {
		d := TrustDomain{Name: text.Draw(t, "trust domain")}
		for range rapid.IntRange(0, 2).Draw(t, "roots") {
			d.Roots = append(d.Roots, blob.Draw(t, "root"))
		}
		v.Bundle.Domains = append(v.Bundle.Domains, d)
	}
	for range rapid.IntRange(0, 3).Draw(t, "destinations") {
		d := &Destination{Key: key.Draw(t, "key"), Protocol: Protocol(rapid.IntRange(0, int(HTTP2)).Draw(t, "protocol")), Addresses: addrs(), Routes: spec.Draw(t, "routes"), ServerFirst: rapid.Bool().Draw(t, "server first")}
		if v.Destinations == nil {
			v.Destinations = map[string]*Destination{}
		}
		v.Destinations[d.Key] = d
	}
	for range rapid.IntRange(0, 3).Draw(t, "sets") {
		e := &Endpoints{Key: key.Draw(t, "key")}
		for range rapid.IntRange(0, 3).Draw(t, "endpoints") {
			e.List = append(e.List, Endpoint{
				Address:  netip.AddrPortFrom(addr.Draw(t, "address"), rapid.Uint16Range(1, 65535).Draw(t, "port")),
				Identity: text.Draw(t, "identity"), Workload: text.Draw(t, "workload"), Zone: text.Draw(t, "zone"),
				Weight: number.Draw(t, "weight"), Suspect: rapid.Bool().Draw(t, "suspect"),
			})
		}
		if v.Endpoints == nil {
			v.Endpoints = map[string]*Endpoints{}
		}
		v.Endpoints[e.Key] = e
	}
	for range rapid.IntRange(0, 3).Draw(t, "hosts") {
		h := &Host{Name: key.Draw(t, "name"), Service: text.Draw(t, "service"), Addresses: addrs()}
		for range rapid.IntRange(0, 3).Draw(t, "ports") {
			h.Ports = append(h.Ports, rapid.Uint16().Draw(t, "port"))
		}
		if v.Hosts == nil {
			v.Hosts = map[string]*Host{}
		}
		v.Hosts[h.Name] = h
	}
	for range rapid.IntRange(0, 3).Draw(t, "versions") {
		if v.Versions == nil {
			v.Versions = map[string]uint64{}
		}
		v.Versions[key.Draw(t, "key")] = big.Draw(t, "version")
	}
	return v
}

var comparable = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}

// TestRoundTrip sends views through google.golang.org/protobuf and the
// description in api/proto both ways.
func TestRoundTrip(t *testing.T) {
	d := message(t, "tulle.view.v1.View")
	rapid.Check(t, func(t *rapid.T) {
		v := drawView(t)
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
	addr := netip.MustParseAddr("10.0.0.1")
	at := netip.AddrPortFrom(addr, 1)
	second := time.Second
	spec := route.Spec{Hosts: []route.Host{{Hostnames: []string{"*"}, Rules: []route.Rule{{
		Name: "r", Timeout: second, Backends: []route.Backend{{Destination: "d", Weight: 1}},
		Matches: []route.Match{{Path: route.Path{Kind: route.PathExact, Value: "/"}, Method: "GET", Headers: []route.Field{{Name: "a", Value: "b"}}}}}}}}}
	v := &View{
		Version: 1,
		Proxy: Proxy{Name: "n", Namespace: "n", Role: Sidecar, Identity: "i", TrustDomain: "t", ClusterDomain: "c", IdentityDir: "d",
			Settings: Settings{second, second, second, second, second, second, 1, 1, 1, PeerHTTP2},
			Listeners: []Listener{{Name: "l", Kind: Edge, Address: at, Protocol: HTTP, Destination: "d", App: at, Plaintext: true, Routes: spec,
				Certificate: []byte("c"), Key: []byte("k"), AcceptProxy: true, SendProxy: ProxyV2}}},
		Bundle:       Bundle{1, []TrustDomain{{"t", [][]byte{{1}}}}},
		Destinations: map[string]*Destination{"k": {Key: "k", Protocol: TCP, Addresses: []netip.Addr{addr}, Routes: spec, ServerFirst: true}},
		Endpoints:    map[string]*Endpoints{"k": {Key: "k", List: []Endpoint{{Address: at, Identity: "i", Workload: "w", Zone: "z", Weight: 1, Suspect: true}}}},
		Hosts:        map[string]*Host{"h": {"h", "s", []netip.Addr{addr}, []uint16{1}}},
		Versions:     map[string]uint64{"k": 1},
	}
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
	if len(seen) < 60 {
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
		"twice":                 {join(field(2), field(2)), "field 2 is there twice"},
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
		"port":                  {field(6, varint(4, 65536)...), "hosts[0].ports: 65536 is not a port"},
		"packed port":           {field(6, field(4, 0x80)...), "hosts[0].ports: broken varint"},
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
