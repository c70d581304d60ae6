package sniff

import (
	"strings"
	"testing"
)

func TestDetect(t *testing.T) {
	long := strings.Repeat("a", Budget)
	for _, test := range []struct {
		name, bytes string
		want        Kind // as long as more may come
		whole       Kind // when no more will come
	}{
		{"nothing", "", More, Opaque},
		{"a method begun", "GE", More, Opaque},
		{"a request line begun", "GET /a", More, Opaque},
		{"a request line", "GET / HTTP/1.1\r\n", HTTP1, HTTP1},
		{"HTTP/1.0", "GET / HTTP/1.0\n", HTTP1, HTTP1},
		{"an unknown method", "M-SEARCH * HTTP/1.1\r\n", HTTP1, HTTP1},
		{"empty lines first", "\r\n\r\nGET / HTTP/1.1\r\n", HTTP1, HTTP1},
		{"HTTP/0.9", "GET /\r\n", Opaque, Opaque},
		{"a long target", "GET /" + long, HTTP1, HTTP1},
		{"a long word", "GET " + long, Opaque, Opaque},
		{"a long method", strings.Repeat("G", 33), Opaque, Opaque},
		{"HTTP/2 begun", "PRI * HTTP/2.0\r\n", More, Opaque},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00", HTTP2, HTTP2},
		{"nearly HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX", Opaque, Opaque},
		{"TLS begun", "\x16\x03\x01\x05\xdc", More, Opaque},
		{"TLS", "\x16\x03\x01\x05\xdc\x01\x00", TLS, TLS},
		{"a TLS alert", "\x15\x03\x01\x00\x02\x01\x00", Opaque, Opaque},
		{"SSH", "SSH-2.0-OpenSSH_9\r\n", Opaque, Opaque},
		{"Redis", "*1\r\n$4\r\nPING\r\n", Opaque, Opaque},
		{"Redis inline", "GET key\r\n", Opaque, Opaque},
		{"SMTP", "EHLO mail.example\r\n", Opaque, Opaque},
		{"NATS", "CONNECT {\"verbose\":false}\r\n", Opaque, Opaque},
		{"PostgreSQL", "\x00\x00\x00\x08\x04\xd2\x16\x2f", Opaque, Opaque},
		{"small letters", "get / HTTP/1.1\r\n", Opaque, Opaque},
	} {
		if got := Detect([]byte(test.bytes), false); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
		if got := Detect([]byte(test.bytes), true); got != test.whole {
			t.Errorf("%s, whole: got %s, want %s", test.name, got, test.whole)
		}
	}
}

// FuzzDetect: what was decided stays so whatever follows, and what is whole is
// decided.
func FuzzDetect(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", preface, "\x16\x03\x01\x05\xdc\x01\x00", "\r\nPOST", "PING\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), Budget)]
		decided, at := More, 0
		for i := range len(b) + 1 {
			k := Detect(b[:i], false)
			if decided == More {
				decided, at = k, i
			} else if k != decided {
				t.Fatalf("%q is %s, but %q is %s", b[:at], decided, b[:i], k)
			}
		}
		if Detect(b, true) == More {
			t.Fatalf("%q is undecided for ever", b)
		}
	})
}
