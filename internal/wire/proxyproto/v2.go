package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

const (
	// signature begins a header of version 2 (2.2).
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	fixed     = len(signature) + 4

	commandLocal = 0x20
	commandProxy = 0x21

	familyNone = 0x00
	familyTCP4 = 0x11
	familyTCP6 = 0x21
	familyUnix = 0x31

	lengthTCP4 = 12
	lengthTCP6 = 36
	lengthUnix = 216

	typeCRC32C = 0x03
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseV2 reads a binary header: addresses first, then TLVs, of which only the
// checksum is looked at.
func parseV2(b []byte) (h Header, n int, err error) {
	k := min(len(b), len(signature))
	switch {
	case string(b[:k]) != signature[:k]:
		return h, 0, errors.New("the signature of version 2 is broken")
	case len(b) < fixed:
		return h, 0, ErrMore
	}
	command, family := b[12], b[13]
	length := int(binary.BigEndian.Uint16(b[14:]))
	n = fixed + length
	switch {
	case command>>4 != 2:
		return h, 0, fmt.Errorf("version %d, want 2", command>>4)
	case command != commandLocal && command != commandProxy:
		return h, 0, fmt.Errorf("command %d, want 0 (LOCAL) or 1 (PROXY)", command&0xf)
	case n > MaxHeader:
		return h, 0, fmt.Errorf("a header of %d bytes, want at most %d", n, MaxHeader)
	case len(b) < n:
		return h, 0, ErrMore
	}
	body := b[fixed:n]
	addresses := 0
	switch family {
	case familyNone:
	case familyTCP4:
		addresses = lengthTCP4
	case familyTCP6:
		addresses = lengthTCP6
	case familyUnix:
		addresses = lengthUnix
	default:
		// A receiver may refuse what it can't make sense of (2.2): datagrams here.
		if command == commandProxy {
			return h, 0, fmt.Errorf("family and protocol %#02x, want TCP over IPv4 or IPv6, or a Unix stream", family)
		}
		addresses = length // LOCAL: to be ignored
	}
	if length < addresses {
		return h, 0, fmt.Errorf("%d bytes follow, the addresses alone have %d", length, addresses)
	}
	if err := checkTLVs(b[:n], fixed+addresses); err != nil {
		return h, 0, err
	}
	if command == commandLocal {
		return Header{Local: true}, n, nil
	}
	switch family {
	case familyTCP4:
		h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[4:])), binary.BigEndian.Uint16(body[10:]))
	case familyTCP6:
		h.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)), binary.BigEndian.Uint16(body[32:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[16:])), binary.BigEndian.Uint16(body[34:]))
	}
	return h, n, nil
}

// checkTLVs walks over the TLVs of a whole header from an offset on, and checks
// the checksum if there is one (2.2.4).
func checkTLVs(header []byte, at int) error {
	for at < len(header) {
		if len(header)-at < 3 {
			return fmt.Errorf("%d bytes are left over after the TLVs", len(header)-at)
		}
		length := int(binary.BigEndian.Uint16(header[at+1:]))
		value := at + 3
		if len(header)-value < length {
			return fmt.Errorf("a TLV of %d bytes where %d are left", length, len(header)-value)
		}
		if header[at] == typeCRC32C {
			if length != 4 {
				return fmt.Errorf("a checksum of %d bytes, want 4", length)
			}
			sum := crc32.Update(0, castagnoli, header[:value])
			sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
			sum = crc32.Update(sum, castagnoli, header[value+4:])
			if got := binary.BigEndian.Uint32(header[value:]); got != sum {
				return fmt.Errorf("checksum %#08x, want %#08x", got, sum)
			}
		}
		at = value + length
	}
	return nil
}

// AppendV2 appends a header of version 2, without TLVs. Addresses of two
// families are both written as IPv6.
func AppendV2(b []byte, h *Header) []byte {
	b = append(b, signature...)
	s, d := h.Source.Addr().Unmap(), h.Destination.Addr().Unmap()
	switch {
	case h.Local:
		return append(b, commandLocal, familyNone, 0, 0)
	case !s.IsValid() || !d.IsValid():
		return append(b, commandProxy, familyNone, 0, 0)
	case s.Is4() && d.Is4():
		b = append(b, commandProxy, familyTCP4, 0, lengthTCP4)
		s4, d4 := s.As4(), d.As4()
		b = append(append(b, s4[:]...), d4[:]...)
	default:
		b = append(b, commandProxy, familyTCP6, 0, lengthTCP6)
		s6, d6 := s.As16(), d.As16()
		b = append(append(b, s6[:]...), d6[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, h.Source.Port())
	return binary.BigEndian.AppendUint16(b, h.Destination.Port())
}
