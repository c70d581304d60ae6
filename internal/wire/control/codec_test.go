package control

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"tulle.dev/tulle/internal/view"
)

func descriptor(t testing.TB, name string) protoreflect.MessageDescriptor {
	t.Helper()
	c := protocompile.Compiler{Resolver: &protocompile.SourceResolver{ImportPaths: []string{"../../../api/proto"}}}
	files, err := c.Compile(context.Background(), "control.proto")
	if err != nil {
		t.Fatal(err)
	}
	d, err := files.AsResolver().FindDescriptorByName(protoreflect.FullName("tulle.control.v1." + name))
	if err != nil {
		t.Fatal(err)
	}
	return d.(protoreflect.MessageDescriptor)
}

var (
	at     = netip.MustParseAddrPort("[fd00::1]:4143")
	bundle = view.Bundle{Version: 2, Domains: []view.TrustDomain{{Name: "mesh.local", Roots: [][]byte{{1, 2}}}}}

	certifyRequest  = &CertifyRequest{CSR: []byte{1}, JoinToken: "t", ExpiredChain: [][]byte{{2}, {3}}, RecoverySignature: []byte{4}, KubernetesToken: "a.b.c"}
	certifyResponse = &CertifyResponse{Chain: [][]byte{{1}, {2}}, Bundle: bundle, Identity: "spiffe://a/ns/b/sa/c"}
	proxyMessages   = []*ProxyMessage{
		{Hello: &Hello{Name: "web", Namespace: "default", Version: "1", Role: view.Gateway, UID: "u", Admin: "1.2.3.4:5", Zone: "z",
			Registrations: []Registration{{Service: "cart.default", Port: 8080, App: at, Mesh: at, Protocol: view.TCP}},
			Held:          []Held{{Key: "proxy", Version: 1 << 63}}, Mode: "netns", PID: 42, Shares: true}},
		{Subscribe: &Subscribe{Add: []string{"host/a", "host/b"}, Remove: []string{"host/c"}}},
		{Ack: &Ack{Nonce: 7, Error: "proxy: no"}},
		{Status: &Status{Ready: true, Draining: true, Detail: "d"}},
		{Status: &Status{}},
		{Greets: &Greets{Ports: []string{"db.default:3306", "mail.default:25"}}},
		{Greets: &Greets{}},
		{Demand: &Demand{Limits: []LimitDemand{{Limit: "ratelimitpolicy/default/a#0", Part: 1_500_000, Keyed: true, Held: 250_000}, {Limit: "b"}}}},
		{Demand: &Demand{}},
	}
	controlMessages = []*ControlMessage{
		{Update: &Update{Nonce: 1, Version: 2, Resources: []Resource{
			{Key: "host/none", Version: 3, Absent: true},
			{Key: "proxy", Version: 4, Proxy: &view.Proxy{Name: "web", Role: view.Sidecar}},
			{Key: "bundle", Bundle: &bundle},
			{Key: "destination/a.b:1", Destination: &view.Destination{Key: "a.b:1"}},
			{Key: "endpoints/a.b:1", Endpoints: &view.Endpoints{Key: "a.b:1", List: []view.Endpoint{{Address: at}}}},
			{Key: "host/a", Host: &view.Host{Name: "a", Ports: []uint16{80, 443}}},
		}}},
		{Drained: true},
		{Refused: &Refused{Reason: "no"}},
		{Shares: &Shares{}},
		{Shares: &Shares{Limits: []Share{{Limit: "ratelimitpolicy/default/a#0", Part: 250_000}, {Limit: "b"}}}},
	}
)

// through sends bytes through google.golang.org/protobuf and control.proto.
func through(t testing.TB, name string, b []byte) []byte {
	t.Helper()
	m := dynamicpb.NewMessage(descriptor(t, name))
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatalf("%s: protobuf can't read it: %v", name, err)
	}
	checkKnown(t, m)
	again, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// checkKnown fails when a message has fields that the description lacks.
func checkKnown(t testing.TB, m protoreflect.Message) {
	t.Helper()
	if len(m.GetUnknown()) > 0 {
		t.Errorf("%s has fields that the description lacks", m.Descriptor().FullName())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				checkKnown(t, v.List().Get(i).Message())
			}
		default:
			checkKnown(t, v.Message())
		}
		return true
	})
}

func roundTrip[T any](t *testing.T, name string, m *T, encode func(*T) []byte, decode func([]byte) (*T, error)) {
	t.Helper()
	b := encode(m)
	for _, b := range [][]byte{b, through(t, name, b)} {
		got, err := decode(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(m, got, addrs); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

var addrs = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestRoundTrip(t *testing.T) {
	roundTrip(t, "CertifyRequest", certifyRequest, EncodeCertifyRequest, DecodeCertifyRequest)
	roundTrip(t, "CertifyResponse", certifyResponse, EncodeCertifyResponse, DecodeCertifyResponse)
	for _, m := range proxyMessages {
		roundTrip(t, "ProxyMessage", m, EncodeProxyMessage, DecodeProxyMessage)
	}
	for _, m := range controlMessages {
		roundTrip(t, "ControlMessage", m, EncodeControlMessage, DecodeControlMessage)
	}
}

// TestEveryField: what the description has is written. It fails when
// control.proto gets a field that this package doesn't know.
func TestEveryField(t *testing.T) {
	written := map[protoreflect.FullName]bool{}
	var all func(d protoreflect.MessageDescriptor, f func(protoreflect.FieldDescriptor))
	all = func(d protoreflect.MessageDescriptor, f func(protoreflect.FieldDescriptor)) {
		for i := range d.Fields().Len() {
			field := d.Fields().Get(i)
			f(field)
			if m := field.Message(); m != nil && m.Parent().FullName() == d.Parent().FullName() {
				all(m, f)
			}
		}
	}
	var note func(m protoreflect.Message)
	note = func(m protoreflect.Message) {
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			written[f.FullName()] = true
			switch {
			case f.Message() == nil:
			case f.IsList():
				for i := range v.List().Len() {
					note(v.List().Get(i).Message())
				}
			default:
				note(v.Message())
			}
			return true
		})
	}
	read := func(name string, b []byte) {
		m := dynamicpb.NewMessage(descriptor(t, name))
		if err := proto.Unmarshal(b, m); err != nil {
			t.Fatal(err)
		}
		note(m)
	}
	read("CertifyRequest", EncodeCertifyRequest(certifyRequest))
	read("CertifyResponse", EncodeCertifyResponse(certifyResponse))
	for _, m := range proxyMessages {
		read("ProxyMessage", EncodeProxyMessage(m))
	}
	for _, m := range controlMessages {
		read("ControlMessage", EncodeControlMessage(m))
	}
	for _, name := range []string{"CertifyRequest", "CertifyResponse", "ProxyMessage", "ControlMessage"} {
		all(descriptor(t, name), func(f protoreflect.FieldDescriptor) {
			if !written[f.FullName()] {
				t.Errorf("%s is never written", f.FullName())
			}
		})
	}
}

// TestEncodeUpdate: resources encoded beforehand make the same message.
func TestEncodeUpdate(t *testing.T) {
	u := controlMessages[0].Update
	var encoded [][]byte
	for i := range u.Resources {
		encoded = append(encoded, AppendResource(nil, &u.Resources[i]))
	}
	if got, want := EncodeUpdate(u.Nonce, u.Version, encoded), EncodeControlMessage(controlMessages[0]); string(got) != string(want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestDecodeErrors(t *testing.T) {
	field := func(n protowire.Number, body ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), body)
	}
	text := func(n protowire.Number, s string) []byte { return field(n, []byte(s)...) }
	join := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	resource := func(body ...byte) []byte { return field(1, field(3, body...)...) }
	for name, test := range map[string]struct {
		b    []byte
		want string
	}{
		"two set":          {join(field(2), field(3)), "2 messages are set"},
		"no key":           {resource(), "update.resources[0].key: is missing"},
		"no value":         {resource(text(1, "proxy")...), `update.resources[0]: "proxy" has 0 values, want one`},
		"two values":       {resource(join(text(1, "proxy"), field(4), field(5))...), `"proxy" has 2 values`},
		"absent and value": {resource(join(text(1, "proxy"), []byte{0x18, 1}, field(4))...), `"proxy" is absent and has a value`},
		"deep":             {resource(join(text(1, "p"), field(4, field(7, text(3, "x")...)...))...), `update.resources[0].proxy.listeners[0].address: "x" is not IP:PORT`},
	} {
		if _, err := DecodeControlMessage(test.b); !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	for name, test := range map[string]struct {
		b    []byte
		want string
	}{
		"registration's port": {field(1, field(8, 0x10, 0x80, 0x80, 0x04)...), "hello.registrations[0].port: 65536 is not a port"},
		"long key":            {field(2, text(1, strings.Repeat("x", maxKey+1))...), "subscribe.add[0]: 1201 bytes are too long"},
	} {
		if _, err := DecodeProxyMessage(test.b); !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	// What a newer program says is ignored.
	for _, b := range [][]byte{nil, field(99)} {
		if m, err := DecodeControlMessage(b); err != nil || *m != (ControlMessage{}) {
			t.Errorf("%x: %v %+v", b, err, m)
		}
		if m, err := DecodeProxyMessage(b); err != nil || *m != (ProxyMessage{}) {
			t.Errorf("%x: %v %+v", b, err, m)
		}
	}
	many := []byte{}
	for range MaxShares + 1 {
		many = append(many, field(1, text(1, "l")...)...)
	}
	if _, err := DecodeProxyMessage(field(6, many...)); !strings.Contains(fmt.Sprint(err), "demand.limits[1024]: more than 1024 elements") {
		t.Errorf("demand: %v", err)
	}
	chain := []byte{}
	for range maxChain + 1 {
		chain = append(chain, field(3, 1)...)
	}
	if _, err := DecodeCertifyRequest(chain); !strings.Contains(fmt.Sprint(err), "expired_chain[8]: more than 8 elements") {
		t.Errorf("chain: %v", err)
	}
	if _, err := DecodeCertifyRequest(make([]byte, MaxMessage+1)); !strings.Contains(fmt.Sprint(err), "too big") {
		t.Errorf("too big: %v", err)
	}
}

// fuzz holds a decoder to: no panic, and what is read reads the same again.
func fuzz[T any](f *testing.F, encode func(*T) []byte, decode func([]byte) (*T, error)) {
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(encode(m))
		if err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
		if diff := cmp.Diff(m, again, addrs, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzControlMessage(f *testing.F) {
	for _, m := range controlMessages {
		f.Add(EncodeControlMessage(m))
	}
	fuzz(f, EncodeControlMessage, DecodeControlMessage)
}

func FuzzProxyMessage(f *testing.F) {
	for _, m := range proxyMessages {
		f.Add(EncodeProxyMessage(m))
	}
	fuzz(f, EncodeProxyMessage, DecodeProxyMessage)
}

func FuzzCertifyRequest(f *testing.F) {
	f.Add(EncodeCertifyRequest(certifyRequest))
	fuzz(f, EncodeCertifyRequest, DecodeCertifyRequest)
}

func FuzzCertifyResponse(f *testing.F) {
	f.Add(EncodeCertifyResponse(certifyResponse))
	fuzz(f, EncodeCertifyResponse, DecodeCertifyResponse)
}
