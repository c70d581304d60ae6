package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
)

const (
	// MaxV1 is the longest header of version 1, CRLF included (2.1).
	MaxV1 = 107
	// MaxHeader bounds a header of any version. The protocol allows 64 KiB of
	// TLVs; nobody needs more than certificates' names there.
	MaxHeader = 4 << 10
)

// ErrMore says that the bytes so far may be a header, but aren't a whole one.
var ErrMore = errors.New("the header isn't complete")

// Header is whose connection it is.
type Header struct {
	// Source and Destination are the ends of the connection that is passed on.
	// Both are the zero AddrPort for Local, and where the sender knows of no
	// addresses (UNKNOWN, AF_UNSPEC, Unix sockets): the connection is then to be
	// taken as it is.
	Source, Destination netip.AddrPort
	// Local says that the sender speaks for itself: a health check, say.
	Local bool
}

// Parse reads the header at the beginning of b and returns its length. ErrMore
// asks for more bytes; any other error is for good.
func Parse(b []byte) (h Header, n int, err error) {
	switch {
	case len(b) == 0:
		return h, 0, ErrMore
	case b[0] == signature[0]:
		return parseV2(b)
	}
	return parseV1(b)
}

const prefixV1 = "PROXY "

// parseV1 reads "PROXY TCP4 SOURCE DESTINATION PORT PORT\r\n" (2.1).
func parseV1(b []byte) (h Header, n int, err error) {
	if k := min(len(b), len(prefixV1)); string(b[:k]) != prefixV1[:k] {
		return h, 0, fmt.Errorf("it begins with %.8q, want PROXY or the signature of version 2", b)
	}
	end := bytes.IndexByte(b[:min(len(b), MaxV1)], '\n')
	switch {
	case end < 0 && len(b) < MaxV1:
		return h, 0, ErrMore
	case end < 0:
		return h, 0, fmt.Errorf("no end of line within %d bytes", MaxV1)
	case b[end-1] != '\r':
		return h, 0, errors.New("the line ends with LF, want CRLF")
	}
	line := b[len(prefixV1) : end-1]
	n = end + 1
	protocol, rest, _ := bytes.Cut(line, []byte(" "))
	four := string(protocol) == "TCP4"
	switch {
	case string(protocol) == "UNKNOWN":
		return h, n, nil // what follows is to be ignored
	case !four && string(protocol) != "TCP6":
		return h, 0, fmt.Errorf("protocol %.16q, want TCP4, TCP6 or UNKNOWN", protocol)
	}
	fields := bytes.Split(rest, []byte(" "))
	if len(fields) != 4 {
		return h, 0, fmt.Errorf("%d fields after the protocol, want 4 parted by one space each", len(fields))
	}
	var addresses [2]netip.Addr
	var ports [2]uint16
	for i := range addresses {
		a, err := netip.ParseAddr(string(fields[i]))
		if err != nil || a.Is4() != four || a.Zone() != "" {
			return h, 0, fmt.Errorf("address %.40q isn't one of %s", fields[i], protocol)
		}
		addresses[i] = a
		if ports[i], err = port(fields[2+i]); err != nil {
			return h, 0, err
		}
	}
	h.Source = netip.AddrPortFrom(addresses[0], ports[0])
	h.Destination = netip.AddrPortFrom(addresses[1], ports[1])
	return h, n, nil
}

// port reads 0 to 65535 without a sign or leading zeros.
func port(b []byte) (uint16, error) {
	v := 0
	for _, c := range b {
		if c < '0' || c > '9' || len(b) > 5 || b[0] == '0' && len(b) > 1 {
			return 0, fmt.Errorf("port %.16q, want 0 to 65535", b)
		}
		v = 10*v + int(c-'0')
	}
	if len(b) == 0 || v > 65535 {
		return 0, fmt.Errorf("port %.16q, want 0 to 65535", b)
	}
	return uint16(v), nil
}

// AppendV1 appends a header of version 1. Addresses of two families, or none,
// become UNKNOWN.
func AppendV1(b []byte, h *Header) []byte {
	s, d := h.Source.Addr().Unmap(), h.Destination.Addr().Unmap()
	b = append(b, prefixV1...)
	switch {
	case h.Local || !s.IsValid() || !d.IsValid() || s.Is4() != d.Is4():
		return append(b, "UNKNOWN\r\n"...)
	case s.Is4():
		b = append(b, "TCP4 "...)
	default:
		b = append(b, "TCP6 "...)
	}
	b = append(s.WithZone("").AppendTo(b), ' ')
	b = append(d.WithZone("").AppendTo(b), ' ')
	return fmt.Appendf(b, "%d %d\r\n", h.Source.Port(), h.Destination.Port())
}
