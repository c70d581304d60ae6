package names

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// resolver is an upstream that knows one name, "example.com", 192.0.2.7, and
// says so over TCP only when a name begins with "big".
type resolver struct {
	addr netip.AddrPort
	udp  net.PacketConn
	tcp  net.Listener
}

func newResolver(t *testing.T) *resolver {
	t.Helper()
	udp, tcp, err := OpenSockets(netip.MustParseAddrPort("127.0.0.1:0"))
	for range freePortTries {
		if err == nil {
			break
		}
		udp, tcp, err = OpenSockets(netip.MustParseAddrPort("127.0.0.1:0"))
	}
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(udp.LocalAddr().String())
	r := &resolver{addr: addr, udp: udp, tcp: tcp}
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		b := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			// A forged answer first: right id and question, not from a query
			// of this socket's peer is caught by the kernel; a wrong id by us.
			forged := r.answer(b[:n], false)
			forged[0]++
			udp.WriteTo(forged, from)
			udp.WriteTo(r.answer(b[:n], false), from)
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			var length [2]byte
			io.ReadFull(c, length[:])
			b := make([]byte, binary.BigEndian.Uint16(length[:]))
			io.ReadFull(c, b)
			a := r.answer(b, true)
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
			c.Close()
		}
	}()
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		<-done
		<-done
	})
	return r
}

func (r *resolver) answer(b []byte, tcp bool) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		panic(err)
	}
	m.Response = true
	name := m.Questions[0].Name.String()
	big := strings.HasPrefix(name, "big")
	switch {
	case big && !tcp:
		m.Truncated = true
	case big || name == "example.com.":
		if m.Questions[0].Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}}}}
		}
	default:
		m.RCode = dnsmessage.RCodeNameError
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func host(name, service string, addrs ...string) (string, *view.Host) {
	h := &view.Host{Name: name, Service: service, Ports: []uint16{8080}}
	for _, a := range addrs {
		h.Addresses = append(h.Addresses, netip.MustParseAddr(a))
	}
	return name, h
}

// serve starts a server and returns its address.
func serve(t *testing.T, resolv string) (*Server, netip.AddrPort) {
	t.Helper()
	v := &view.View{
		Proxy: view.Proxy{Name: "web", Namespace: "default", Role: view.Sidecar, ClusterDomain: "cluster.local"},
		Hosts: map[string]*view.Host{},
	}
	for _, name := range []string{"cart", "cart.default", "cart.default.svc", "cart.default.svc.cluster.local"} {
		name, h := host(name, "cart.default", "240.240.0.5", "fd74:756c:6c65::5")
		v.Hosts[name] = h
	}
	name, h := host("four.default", "four.default", "240.240.0.6")
	v.Hosts[name] = h
	l, err := live.Static(v, "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(resolv), 0o600); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Live: l, Resolv: path, Meter: meter.New(1, "test")})
	t.Cleanup(s.Close)
	_, addr, err := s.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	return s, addr
}

func context10(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestGoResolver asks with Go's own resolver, as a program would.
func TestGoResolver(t *testing.T) {
	up := newResolver(t)
	_, addr := serve(t, "# comment\nsearch example\nnameserver "+up.addr.String()+"\n")
	for _, network := range []string{"udp", "tcp"} {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr.String())
		}}
		for name, want := range map[string][]string{
			"cart.":                              {"240.240.0.5", "fd74:756c:6c65::5"},
			"CART.default.":                      {"240.240.0.5", "fd74:756c:6c65::5"},
			"cart.default.svc.":                  {"240.240.0.5", "fd74:756c:6c65::5"},
			"cart.default.svc.cluster.local.":    {"240.240.0.5", "fd74:756c:6c65::5"},
			"four.default.":                      {"240.240.0.6"},
			"example.com.":                       {"192.0.2.7"},
			"nothing.default.svc.cluster.local.": nil,
			"cart.default.cluster.local.":        nil,
			"nothing.example.":                   nil,
			"cart.default.svc.example.com.":      nil, // what a search list makes
		} {
			got, err := r.LookupHost(context10(t), name)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s %s: %q, %v, want %q", network, name, got, err, want)
			}
			var dns *net.DNSError
			if want == nil && (!errors.As(err, &dns) || !dns.IsNotFound) {
				t.Errorf("%s %s: %v, want not found", network, name, err)
			}
		}
		// An answer too big for a datagram comes over TCP.
		big := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr.String())
		}}
		if got, err := big.LookupHost(context10(t), "big.example.com."); err != nil || !slices.Equal(got, []string{"192.0.2.7"}) {
			t.Errorf("big: %q, %v", got, err)
		}
		if got, err := r.LookupAddr(context10(t), "240.240.0.5"); err == nil {
			// The state file doesn't hold this address as a look-up, but the
			// names' answers tell it.
			if !slices.Equal(got, []string{"cart.default.svc.cluster.local."}) {
				t.Errorf("reverse: %q", got)
			}
		} else {
			t.Errorf("reverse: %v", err)
		}
	}
}

// exchange sends one query and reads the answer.
func exchange(t *testing.T, addr netip.AddrPort, b []byte) *dnsmessage.Message {
	t.Helper()
	c, err := net.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	return &m
}

func ask(name string, kind dnsmessage.Type, change func(*dnsmessage.Message)) []byte {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0xbeef, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	if change != nil {
		change(&m)
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func TestAnswers(t *testing.T) {
	s, addr := serve(t, "") // no resolver at all
	edns := func(m *dnsmessage.Message) {
		var h dnsmessage.ResourceHeader
		h.SetEDNS0(1232, dnsmessage.RCodeSuccess, false)
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}})
	}
	for _, test := range []struct {
		name    string
		query   []byte
		rcode   dnsmessage.RCode
		answers int
	}{
		{"A", ask("cart.", dnsmessage.TypeA, nil), dnsmessage.RCodeSuccess, 1},
		{"AAAA", ask("cart.", dnsmessage.TypeAAAA, nil), dnsmessage.RCodeSuccess, 1},
		{"no AAAA", ask("four.default.", dnsmessage.TypeAAAA, nil), dnsmessage.RCodeSuccess, 0},
		{"HTTPS", ask("cart.", dnsmessage.TypeHTTPS, nil), dnsmessage.RCodeSuccess, 0},
		{"ANY", ask("cart.", dnsmessage.TypeALL, nil), dnsmessage.RCodeSuccess, 2},
		{"EDNS", ask("cart.", dnsmessage.TypeA, edns), dnsmessage.RCodeSuccess, 1},
		{"two OPT", ask("cart.", dnsmessage.TypeA, func(m *dnsmessage.Message) { edns(m); edns(m) }), dnsmessage.RCodeFormatError, 0},
		{"unknown under the cluster domain", ask("x.y.svc.cluster.local.", dnsmessage.TypeA, nil), dnsmessage.RCodeNameError, 0},
		{"unknown elsewhere, no resolver", ask("example.com.", dnsmessage.TypeA, nil), dnsmessage.RCodeServerFailure, 0},
		{"two questions", ask("cart.", dnsmessage.TypeA, func(m *dnsmessage.Message) {
			m.Questions = append(m.Questions, m.Questions[0])
		}), dnsmessage.RCodeFormatError, 0},
		{"no question", ask("cart.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions = nil }), dnsmessage.RCodeFormatError, 0},
		{"update", ask("cart.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.OpCode = 5 }), dnsmessage.RCodeNotImplemented, 0},
		{"another class", ask("cart.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }),
			dnsmessage.RCodeServerFailure, 0},
	} {
		m := exchange(t, addr, test.query)
		if !m.Response || m.ID != 0xbeef || m.RCode != test.rcode || len(m.Answers) != test.answers {
			t.Errorf("%s: %+v", test.name, m)
		}
		for _, a := range m.Answers {
			if a.Header.TTL != ttl {
				t.Errorf("%s: TTL %d", test.name, a.Header.TTL)
			}
		}
		if strings.HasPrefix(test.name, "EDNS") && len(m.Additionals) != 1 {
			t.Errorf("%s: no OPT record in the answer", test.name)
		}
	}
	if n := s.counts[fromMesh].Load(); n != 6 {
		t.Errorf("%d queries counted as answered from the mesh, want 6", n)
	}
}

func TestTruncation(t *testing.T) {
	q := parse(ask("cart.", dnsmessage.TypeAAAA, nil))
	var list []dnsmessage.Resource
	for range 60 {
		list = append(list, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.question.Name, Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AAAAResource{}})
	}
	var m dnsmessage.Message
	if err := m.Unpack(q.build(dnsmessage.RCodeSuccess, list, udpLimit)); err != nil || !m.Truncated || len(m.Answers) == 0 || len(m.Answers) == 60 {
		t.Errorf("%d answers, truncated %v, %v", len(m.Answers), m.Truncated, err)
	}
	if err := m.Unpack(q.build(dnsmessage.RCodeSuccess, list, maxTCP)); err != nil || m.Truncated || len(m.Answers) != 60 {
		t.Errorf("TCP: %d answers, truncated %v, %v", len(m.Answers), m.Truncated, err)
	}
}

func TestNameservers(t *testing.T) {
	got := nameservers([]byte("; old\n#nameserver 9.9.9.9\ndomain x\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\n" +
		"nameserver bad\nnameserver 127.0.0.1:5353 # odd\nnameserver 10.0.0.4\noptions ndots:5\n"))
	want := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("[fe80::1%eth0]:53"), netip.MustParseAddrPort("127.0.0.1:5353")}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestOwnAddress: a resolv.conf that names this server must not make a loop.
func TestOwnAddress(t *testing.T) {
	s, addr := serve(t, "")
	if err := os.WriteFile(s.upstream.path, []byte("nameserver "+addr.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m := exchange(t, addr, ask("example.com.", dnsmessage.TypeA, nil)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("%+v", m)
	}
}

func TestReverseAddr(t *testing.T) {
	for name, want := range map[string]string{
		"5.0.240.240.in-addr.arpa": "240.240.0.5",
		"5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.5.6.c.6.c.6.5.7.4.7.d.f.ip6.arpa": "fd74:756c:6c65::5",
		"1.0.0.127.in-addr.arpa": "", "240.240.in-addr.arpa": "", "x.ip6.arpa": "", "in-addr.arpa": "", "cart": "",
	} {
		got, ok := reverseAddr(name)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v, %v, want %q", name, got, ok, want)
		}
	}
}

// FuzzQuery: no query, however broken, panics or gets an answer that can't be
// read, with another id, or without the question.
func FuzzQuery(f *testing.F) {
	f.Add(ask("cart.", dnsmessage.TypeA, nil))
	f.Add(ask("x.y.svc.cluster.local.", dnsmessage.TypeAAAA, nil))
	f.Add(ask("5.0.240.240.in-addr.arpa.", dnsmessage.TypePTR, nil))
	v := &view.View{Proxy: view.Proxy{Name: "web", Namespace: "default", Role: view.Sidecar}, Hosts: map[string]*view.Host{}}
	name, h := host("cart", "cart.default", "240.240.0.5")
	v.Hosts[name] = h
	l, err := live.Static(v, "", nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	s := New(Config{Live: l})
	f.Fuzz(func(t *testing.T, b []byte) {
		q := parse(b)
		if q == nil {
			return
		}
		a, _, ok := s.answerNow(q, udpLimit)
		if !ok {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(a); err != nil {
			t.Fatalf("the answer can't be read: %v", err)
		}
		if !m.Response || m.ID != q.header.ID {
			t.Errorf("answer %+v", m.Header)
		}
		if q.rcode == dnsmessage.RCodeSuccess && (len(m.Questions) != 1 || m.Questions[0] != q.question) {
			t.Errorf("question %+v, asked %+v", m.Questions, q.question)
		}
	})
}

// FuzzRestore: what a resolver sends can't panic.
func FuzzRestore(f *testing.F) {
	query := ask("example.com.", dnsmessage.TypeA, nil)
	f.Add(query)
	f.Fuzz(func(t *testing.T, b []byte) {
		if a := restore(b, query, query); a != nil && a[2]&0x80 == 0 {
			t.Error("a query was taken for an answer")
		}
	})
}
