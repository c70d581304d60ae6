package tlshello

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"
)

// capture returns the first flight crypto/tls sends with that configuration.
func capture(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		tls.Client(client, config).Handshake()
		client.Close()
	}()
	server.SetDeadline(time.Now().Add(5 * time.Second))
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(server, rest); err != nil {
		t.Fatal(err)
	}
	return append(head, rest...)
}

// fragment puts a record's contents into records of at most n bytes.
func fragment(record []byte, n int) []byte {
	var out []byte
	for body := record[recordHeader:]; len(body) > 0; {
		k := min(n, len(body))
		out = append(out, typeHandshake, 3, 1, byte(k>>8), byte(k))
		out = append(out, body[:k]...)
		body = body[k:]
	}
	return out
}

func protocols(h *Hello) []string {
	var list []string
	for i := range h.Protocols() {
		list = append(list, string(h.Protocol(i)))
	}
	return list
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name   string
		config *tls.Config
		sni    string
		alpn   []string
	}{
		{"a name and protocols", &tls.Config{ServerName: "8080.cart.default.svc.mesh.local", NextProtos: []string{"tulle-h1", "tulle-tcp"}}, "8080.cart.default.svc.mesh.local", []string{"tulle-h1", "tulle-tcp"}},
		{"a name alone", &tls.Config{ServerName: "a.example"}, "a.example", nil},
		{"neither", &tls.Config{InsecureSkipVerify: true}, "", nil},
		{"no post-quantum share", &tls.Config{ServerName: "b.example", CurvePreferences: []tls.CurveID{tls.X25519}}, "b.example", nil},
		{"TLS 1.2", &tls.Config{ServerName: "c.example", MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}, "c.example", []string{"h2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			record := capture(t, c.config)
			for _, size := range []int{len(record), 1000, 100, 7, 3, 1} {
				in := fragment(record, size)
				if len(in) > MaxBytes {
					t.Fatalf("%d bytes", len(in))
				}
				var h Hello
				for n := range in {
					if v := h.Parse(bytes.Clone(in[:n:n])); v != More {
						t.Fatalf("verdict %d after %d of %d bytes in records of %d", v, n, len(in), size)
					}
				}
				if v := h.Parse(append(in, "more"...)); v != Done {
					t.Fatalf("verdict %d in records of %d", v, size)
				}
				if string(h.ServerName()) != c.sni {
					t.Errorf("server name %q, want %q", h.ServerName(), c.sni)
				}
				if got := protocols(&h); len(got) != len(c.alpn) || len(got) > 0 && (got[0] != c.alpn[0] || !h.Offers(c.alpn[len(c.alpn)-1])) {
					t.Errorf("protocols %q, want %q", got, c.alpn)
				}
			}
		})
	}
}

// hello makes a ClientHello with those extensions.
func hello(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 1, 1, 0)
	all := bytes.Join(extensions, nil)
	body = append(body, byte(len(all)>>8), byte(len(all)))
	body = append(body, all...)
	msg := append([]byte{typeClientHello, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	return append([]byte{typeHandshake, 3, 1, byte(len(msg) >> 8), byte(len(msg))}, msg...)
}

func TestVerdicts(t *testing.T) {
	name := []byte{0, 0, 0, 6, 0, 4, 0, 0, 1, 'a'}
	alpn := []byte{0, 16, 0, 5, 0, 3, 2, 'h', '2'}
	long := append([]byte{0, 0, 1, 5, 1, 3, 0, 1, 0}, bytes.Repeat([]byte("a"), 256)...)
	for _, c := range []struct {
		name string
		in   []byte
		want Verdict
	}{
		{"nothing", nil, More},
		{"a request line", []byte("GET / HTTP/1.1\r\n"), NotTLS},
		{"one byte of it", []byte("G"), NotTLS},
		{"one byte of TLS", []byte{22}, More},
		{"SSL 2", []byte{0x80, 0x2e, 1, 0, 2}, NotTLS},
		{"an alert", []byte{21, 3, 3, 0, 2, 2, 40}, NotTLS},
		{"another major version", []byte{22, 4}, NotTLS},
		{"a later minor version", []byte{22, 3, 9}, NotTLS},
		{"a record beyond the limit", []byte{22, 3, 1, 0x41}, NotTLS},
		{"a ServerHello", []byte{22, 3, 1, 0, 50, 2}, NotTLS},
		{"an empty record", []byte{22, 3, 1, 0, 0}, Malformed},
		{"name and protocol", hello(name, alpn), Done},
		{"the name twice", hello(name, name), Malformed},
		{"the protocols twice", hello(alpn, alpn), Malformed},
		{"a name of no bytes", hello([]byte{0, 0, 0, 5, 0, 3, 0, 0, 0}), Malformed},
		{"a name with a NUL", hello([]byte{0, 0, 0, 6, 0, 4, 0, 0, 1, 0}), Malformed},
		{"a name with a space", hello([]byte{0, 0, 0, 6, 0, 4, 0, 0, 1, ' '}), Malformed},
		{"two names", hello([]byte{0, 0, 0, 10, 0, 8, 0, 0, 1, 'a', 0, 0, 1, 'b'}), Malformed},
		{"another kind of name", hello([]byte{0, 0, 0, 6, 0, 4, 7, 0, 1, 'a'}), Done},
		{"a list longer than its extension", hello([]byte{0, 0, 0, 6, 0, 5, 0, 0, 1, 'a'}), Malformed},
		{"a name longer than its list", hello([]byte{0, 0, 0, 6, 0, 4, 0, 0, 2, 'a'}), Malformed},
		{"a name beyond the limit", hello(long), Malformed},
		{"an extension beyond the message", hello([]byte{0, 99, 0, 9, 1}), Malformed},
		{"half an extension", hello([]byte{0, 99, 0}), Malformed},
		{"an empty protocol", hello([]byte{0, 16, 0, 3, 0, 1, 0}), Malformed},
		{"no protocol", hello([]byte{0, 16, 0, 2, 0, 0}), Malformed},
		{"a message beyond the limit", []byte{22, 3, 1, 0x40, 0, 1, 1, 0, 0}, Malformed},
		{"no extensions", append([]byte{22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3}, append(make([]byte, 32), 0, 0, 2, 0x13, 1, 1, 0)...), Done},
		{"another record between", append(append([]byte{22, 3, 1, 0, 2}, hello(name)[5:7]...), 23, 3, 1, 0, 1), Malformed},
	} {
		var h Hello
		if got := h.Parse(c.in); got != c.want {
			t.Errorf("%s: verdict %d, want %d", c.name, got, c.want)
		}
	}
}

func TestManyProtocols(t *testing.T) {
	var list []byte
	for i := range 20 {
		list = append(list, 3, 'p', byte('a'+i), 'x')
	}
	ext := append([]byte{0, 16, 0, byte(len(list) + 2), 0, byte(len(list))}, list...)
	var h Hello
	if v := h.Parse(hello(ext)); v != Done || h.Protocols() != MaxProtocols || string(h.Protocol(7)) != "phx" {
		t.Errorf("verdict %d, %q", v, protocols(&h))
	}
}

func TestDoesNotAllocate(t *testing.T) {
	in := capture(t, &tls.Config{ServerName: "a.example", NextProtos: []string{"h2"}})
	var h Hello
	if n := testing.AllocsPerRun(100, func() {
		h.Reset()
		if h.Parse(in) != Done {
			t.Fatal("not done")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParse: never a panic, and what comes in pieces comes to the same.
func FuzzParse(f *testing.F) {
	f.Add(capture(f, &tls.Config{ServerName: "a.example", NextProtos: []string{"h2"}}), uint16(3))
	f.Add(fragment(hello([]byte{0, 0, 0, 6, 0, 4, 0, 0, 1, 'a'}), 5), uint16(9))
	f.Add([]byte("GET / HTTP/1.1\r\n"), uint16(1))
	f.Fuzz(func(t *testing.T, in []byte, step uint16) {
		var whole, parts Hello
		want := whole.Parse(in)
		var got Verdict
		for n := 0; ; n = min(n+1+int(step%512), len(in)) {
			if got = parts.Parse(bytes.Clone(in[:n:n])); got != More || n == len(in) {
				break
			}
		}
		if got != want {
			t.Fatalf("in pieces %d, whole %d", got, want)
		}
		if want == Done && (!bytes.Equal(whole.ServerName(), parts.ServerName()) || whole.Protocols() != parts.Protocols()) {
			t.Fatal("in pieces it says otherwise")
		}
	})
}
