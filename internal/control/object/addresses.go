package object

import (
	"hash/fnv"
	"net/netip"
)

// VirtualAddressCount is how many services can have addresses of their own.
const VirtualAddressCount = 1<<16 - 2

// VirtualAddresses returns the n-th pair of virtual service addresses, from
// 240.240.0.0/16 (reserved for future use by RFC 1112, so no real host has one)
// and from fd74:756c:6c65::/64 (unique local, RFC 4193). n is below
// VirtualAddressCount; the first and the last IPv4 address stay unused.
func VirtualAddresses(n int) (v4, v6 netip.Addr) {
	i := n + 1
	v4 = netip.AddrFrom4([4]byte{240, 240, byte(i >> 8), byte(i)})
	v6 = netip.AddrFrom16([16]byte{0xfd, 0x74, 0x75, 0x6c, 0x6c, 0x65, 14: byte(i >> 8), 15: byte(i)})
	return v4, v6
}

// VirtualIndex is the index a service tries first; then the next ones.
// It depends on its name alone, so that a service deleted and made again most
// likely gets the same address.
func VirtualIndex(namespace, name string) int {
	h := fnv.New32a()
	h.Write([]byte(namespace + "/" + name))
	return int(h.Sum32() % VirtualAddressCount)
}

// IndexOfVirtual is the inverse of VirtualAddresses, or -1 for another address.
func IndexOfVirtual(a netip.Addr) int {
	var i int
	switch {
	case a.Is4() && netip.MustParsePrefix("240.240.0.0/16").Contains(a):
		b := a.As4()
		i = int(b[2])<<8 | int(b[3])
	case a.Is6() && netip.MustParsePrefix("fd74:756c:6c65::/112").Contains(a):
		b := a.As16()
		i = int(b[14])<<8 | int(b[15])
	}
	if i < 1 || i > VirtualAddressCount {
		return -1
	}
	return i - 1
}
