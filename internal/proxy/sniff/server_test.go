package sniff

import "testing"

func TestDetectServer(t *testing.T) {
	for _, test := range []struct {
		name, bytes string
		want        Kind // as long as more may come
		whole       Kind // when no more will come
	}{
		{"nothing", "", More, Opaque},
		{"an answer begun", "HTT", More, Opaque},
		{"an answer", "HTTP/1.1 408 Request Timeout\r\n", HTTP1, HTTP1},
		{"an answer of HTTP/1.0", "HTTP/1.0 400 Bad Request\r\n", HTTP1, HTTP1},
		{"what only begins so", "HTTQ", Opaque, Opaque},
		{"settings", "\x00\x00\x0c\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00", HTTP2, HTTP2},
		{"no settings", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", HTTP2, HTTP2},
		{"settings begun", "\x00\x00\x12\x04", More, Opaque},
		{"an acknowledgement", "\x00\x00\x00\x04\x01\x00\x00\x00\x00", Opaque, Opaque},
		{"settings of a stream", "\x00\x00\x06\x04\x00\x00\x00\x00\x01", Opaque, Opaque},
		{"half a setting", "\x00\x00\x07\x04\x00\x00\x00\x00\x00", Opaque, Opaque},
		{"another frame", "\x00\x00\x08\x06\x00\x00\x00\x00\x00", Opaque, Opaque},
		{"MariaDB", "\x6a\x00\x00\x00\x0a5.5.5-10.11", Opaque, Opaque},
		{"MySQL with a greeting of 256 bytes", "\x00\x01\x00\x00\x0a8.0", Opaque, Opaque},
		{"SMTP", "220 mail.example ESMTP\r\n", Opaque, Opaque},
		{"SSH", "SSH-2.0-OpenSSH_9\r\n", Opaque, Opaque},
		{"FTP", "220-hello\r\n", Opaque, Opaque},
		{"IMAP", "* OK ready\r\n", Opaque, Opaque},
		{"VNC", "RFB 003.008\n", Opaque, Opaque},
	} {
		if got := DetectServer([]byte(test.bytes), false); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
		if got := DetectServer([]byte(test.bytes), true); got != test.whole {
			t.Errorf("%s, whole: got %s, want %s", test.name, got, test.whole)
		}
	}
}

// FuzzDetectServer is FuzzDetect for servers.
func FuzzDetectServer(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\n", "\x00\x00\x0c\x04\x00\x00\x00\x00\x00", "220 ready\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 2*ServerBudget)]
		decided := More
		for i := range len(b) + 1 {
			k := DetectServer(b[:i], false)
			if decided != More && k != decided {
				t.Fatalf("%q was %s with fewer bytes, and is %s now", b[:i], decided, k)
			}
			if decided = k; k == More && i >= ServerBudget {
				t.Fatalf("%q is undecided", b[:i])
			}
		}
		if DetectServer(b, true) == More {
			t.Fatalf("%q is undecided for ever", b)
		}
	})
}
