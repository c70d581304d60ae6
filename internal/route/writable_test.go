package route

import (
	"strings"
	"testing"
)

func TestWritable(t *testing.T) {
	for name, want := range map[string]bool{
		"x-user": true, "X-Forwarded-For": true, "Set-Cookie": true, "Date": true, "x_y": true, "tulle": true,
		"": false, "a b": false, "a:": false, "a\r\n": false, "é": false, "@": false, "[": false, strings.Repeat("a", 257): false,
		"Connection": false, "keep-alive": false, "TE": false, "Transfer-Encoding": false, "content-length": false,
		"Host": false, "Upgrade": false, "Trailer": false, "Expect": false, "Proxy-Connection": false, "HTTP2-Settings": false,
		"Max-Forwards": false, "Via": false, "Tulle-Version": false, ":authority": false,
	} {
		if got := Writable(name); got != want {
			t.Errorf("Writable(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestValidValue(t *testing.T) {
	for value, want := range map[string]bool{
		"": true, "a b\tc": true, "\xff": true, "a\r\nb": false, "a\nb": false, "a\x00": false, "\x7f": false,
		" a": false, "a ": false, "\ta": false, strings.Repeat("a", 4097): false,
	} {
		if got := ValidValue(value); got != want {
			t.Errorf("ValidValue(%q) = %v, want %v", value, got, want)
		}
	}
}
