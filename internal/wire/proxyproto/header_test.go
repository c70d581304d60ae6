package proxyproto

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

func v2(command, family byte, body string) string {
	return string(binary.BigEndian.AppendUint16(append([]byte(signature), command, family), uint16(len(body)))) + body
}

func summed(b string) string {
	at := len(b) - 4
	sum := crc32.Checksum([]byte(b), crc32.MakeTable(crc32.Castagnoli))
	return string(binary.BigEndian.AppendUint32([]byte(b[:at]), sum))
}

func header(source, destination string) Header {
	return Header{Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
}

func TestParse(t *testing.T) {
	four := "\xc0\x00\x02\x01\xc6\x33\x64\x02\xc3\x50\x01\xbb"
	six := "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x02\xc3\x50\x01\xbb"
	v4 := header("192.0.2.1:50000", "198.51.100.2:443")
	v6 := header("[2001:db8::1]:50000", "[2001:db8::2]:443")
	for _, test := range []struct {
		name, bytes string
		want        Header
		err         string // in the error; "" for none
	}{
		{"TCP4", "PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\r\n", v4, ""},
		{"TCP6", "PROXY TCP6 2001:db8::1 2001:db8::2 50000 443\r\n", v6, ""},
		{"UNKNOWN", "PROXY UNKNOWN\r\n", Header{}, ""},
		{"UNKNOWN and more", "PROXY UNKNOWN ffff::1 whatever 1 x\r\n", Header{}, ""},
		{"the longest line", "PROXY UNKNOWN " + strings.Repeat("f", MaxV1-len("PROXY UNKNOWN \r\n")) + "\r\n", Header{}, ""},
		{"a byte longer", "PROXY UNKNOWN " + strings.Repeat("f", MaxV1+1-len("PROXY UNKNOWN \r\n")) + "\r\n", Header{}, "no end of line"},
		{"no header", "GET / HTTP/1.1\r\n", Header{}, "begins with"},
		{"small letters", "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n", Header{}, "begins with"},
		{"no CR", "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n", Header{}, "want CRLF"},
		{"another protocol", "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", Header{}, "protocol"},
		{"the other family", "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", Header{}, "isn't one of TCP4"},
		{"two families", "PROXY TCP6 2001:db8::1 192.0.2.1 1 2\r\n", Header{}, "isn't one of TCP6"},
		{"an octet with a zero", "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n", Header{}, "address"},
		{"a zone", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", Header{}, "address"},
		{"two spaces", "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n", Header{}, "5 fields"},
		{"a space at the end", "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", Header{}, "5 fields"},
		{"too few", "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n", Header{}, "3 fields"},
		{"a port with a zero", "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n", Header{}, "port"},
		{"a port with a sign", "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", Header{}, "port"},
		{"a port too high", "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n", Header{}, "port"},
		{"version 2", v2(0x21, 0x11, four), v4, ""},
		{"version 2, IPv6", v2(0x21, 0x21, six), v6, ""},
		{"version 2, LOCAL", v2(0x20, 0, ""), Header{Local: true}, ""},
		{"version 2, LOCAL with addresses", v2(0x20, 0x11, four), Header{Local: true}, ""},
		{"version 2, LOCAL of something new", v2(0x20, 0x7f, "what"), Header{Local: true}, ""},
		{"version 2, no addresses", v2(0x21, 0, ""), Header{}, ""},
		{"version 2, a Unix socket", v2(0x21, 0x31, strings.Repeat("x", 216)), Header{}, ""},
		{"version 2, TLVs", v2(0x21, 0x11, four+"\x04\x00\x03abc\x01\x00\x00"), v4, ""},
		{"version 2, a checksum", summed(v2(0x21, 0x11, four+"\x03\x00\x04\x00\x00\x00\x00")), v4, ""},
		{"version 2, a wrong checksum", v2(0x21, 0x11, four+"\x03\x00\x04\x00\x00\x00\x00"), Header{}, "checksum"},
		{"version 2, a short checksum", v2(0x21, 0x11, four+"\x03\x00\x01\x00"), Header{}, "checksum of 1"},
		{"version 2, UDP", v2(0x21, 0x12, four), Header{}, "family"},
		{"version 2, addresses cut", v2(0x21, 0x11, four[:11]), Header{}, "addresses alone"},
		{"version 2, a TLV cut", v2(0x21, 0x11, four+"\x04\x00\x04abc"), Header{}, "TLV of 4"},
		{"version 2, bytes left over", v2(0x21, 0x11, four+"\x04\x00"), Header{}, "left over"},
		{"version 2, huge", v2(0x21, 0x11, strings.Repeat("x", MaxHeader)), Header{}, "at most"},
		{"version 3", v2(0x31, 0x11, four), Header{}, "version 3"},
		{"another command", v2(0x22, 0x11, four), Header{}, "command 2"},
		{"a broken signature", "\r\n\r\n\x00\r\nQUIX\n", Header{}, "signature"},
	} {
		whole := test.bytes + "GET / HTTP/1.1\r\n\r\n"
		h, n, err := Parse([]byte(whole))
		if test.err != "" {
			if err == nil || errors.Is(err, ErrMore) || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want an error with %q", test.name, err, test.err)
			}
			continue
		}
		if err != nil || n != len(test.bytes) || h != test.want {
			t.Errorf("%s: %+v, %d, %v; want %+v, %d", test.name, h, n, err, test.want, len(test.bytes))
		}
		for i := range len(test.bytes) {
			if _, _, err := Parse([]byte(test.bytes[:i])); err != ErrMore {
				t.Errorf("%s, %d of its bytes: %v, want more", test.name, i, err)
				break
			}
		}
	}
}

func TestAppend(t *testing.T) {
	for _, h := range []Header{
		header("192.0.2.1:50000", "198.51.100.2:443"), header("[2001:db8::1]:1", "[::1]:65535"), {}, {Local: true},
	} {
		two, n, err := Parse(AppendV2(nil, &h))
		if err != nil || two != h || n == 0 {
			t.Errorf("version 2 of %+v: %+v, %v", h, two, err)
		}
		one, _, err := Parse(AppendV1(nil, &h))
		h.Local = false // version 1 can't say it
		if err != nil || one != h {
			t.Errorf("version 1 of %+v: %+v, %v", h, one, err)
		}
	}
	mixed := header("192.0.2.1:1", "[2001:db8::2]:2")
	if got, want := string(AppendV1(nil, &mixed)), "PROXY UNKNOWN\r\n"; got != want {
		t.Errorf("two families in version 1: %q, want %q", got, want)
	}
	if got, _, err := Parse(AppendV2(nil, &mixed)); err != nil || got.Source.Addr().Unmap() != mixed.Source.Addr() {
		t.Errorf("two families in version 2: %+v, %v", got, err)
	}
}

// FuzzParse: a header is found in the same bytes whatever follows, never beyond
// its bound, and written again it means the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\r\nGET", "PROXY UNKNOWN\r\n", "PROXY TCP6 ::1 ::2 0 0\r\n",
		v2(0x21, 0x11, "\xc0\x00\x02\x01\xc6\x33\x64\x02\xc3\x50\x01\xbb"), v2(0x20, 0, "\x04\x00\x01a"),
		v2(0x21, 0x21, strings.Repeat("\x01", 36)+"\x01\x00\x02h2"), summed(v2(0x21, 0, "\x03\x00\x04\x00\x00\x00\x00")),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if errors.Is(err, ErrMore) {
			if len(b) >= MaxHeader {
				t.Fatalf("%d bytes aren't enough", len(b))
			}
			return
		}
		if err != nil {
			return
		}
		if n < 1 || n > len(b) || n > MaxHeader {
			t.Fatalf("a header of %d bytes in %d", n, len(b))
		}
		if again, m, err := Parse(b[:n]); err != nil || m != n || again != h {
			t.Fatalf("the header alone is %+v, %d, %v; was %+v, %d", again, m, err, h, n)
		}
		if _, _, err := Parse(b[:n-1]); err != ErrMore {
			t.Fatalf("without its last byte: %v", err)
		}
		if again, _, err := Parse(AppendV2(nil, &h)); err != nil || again.Source != unmapped(h.Source) && again.Source != h.Source {
			t.Fatalf("written again it is %+v, %v; was %+v", again, err, h)
		}
	})
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
