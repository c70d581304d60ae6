package namespace

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/run/sockets"
)

// redirect installs the rules and returns the netlink socket that owns them:
// closing it removes them.
func redirect(hasIPv6 bool, resolvers []netip.Addr) (*netlink.Conn, error) {
	const nat, confine = "redirect", "confine"
	t := newTransaction("tulle")
	t.chain(nat, "nat", -100, verdictAccept)
	t.chain(confine, "filter", 0, verdictDrop)

	// A resolver on loopback that resolv.conf still names is the proxy's; the
	// rest of loopback, and the program's own address, is the program's.
	for _, r := range resolvers {
		for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			t.rule(nat, to(r, r.BitLen()), transport(protocol), port(53), redirectTo(sockets.NamesPort))
		}
	}
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.PrefixFrom(OwnIPv4, 32)}
	if hasIPv6 {
		local = append(local, netip.PrefixFrom(netip.IPv6Loopback(), 128), netip.PrefixFrom(OwnIPv6, 128))
	}
	for _, prefix := range local {
		t.rule(nat, to(prefix.Addr(), prefix.Bits()), accept())
		t.rule(confine, to(prefix.Addr(), prefix.Bits()), accept())
	}
	t.rule(nat, transport(unix.IPPROTO_UDP), port(53), redirectTo(sockets.NamesPort))
	t.rule(nat, transport(unix.IPPROTO_TCP), port(53), redirectTo(sockets.NamesPort))
	t.rule(nat, transport(unix.IPPROTO_TCP), redirectTo(sockets.CapturePort))

	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, step("open nftables", err)
	}
	if err := t.commit(conn); err != nil {
		conn.Close()
		return nil, &UnavailableError{Step: "install the redirection (nftables)", Err: err,
			Hint: "the kernel needs nf_tables with NAT and redirection (modules nft_chain_nat and nft_redir), Linux 5.12 or newer"}
	}
	return conn, nil
}

// to matches a destination address by its first bits.
func to(address netip.Addr, bits int) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4)
	if address.Is6() {
		family, offset, size = unix.NFPROTO_IPV6, 24, 16
	}
	mask := make([]byte, size)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: masked(address, mask)},
	}
}

func masked(address netip.Addr, mask []byte) []byte {
	b := address.AsSlice()
	for i := range b {
		b[i] &= mask[i]
	}
	return b
}

func transport(protocol byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
	}
}

// port matches a TCP or UDP destination port.
func port(n uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(n)},
	}
}

func redirectTo(n uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(n)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
