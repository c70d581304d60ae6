package namespace

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// interfaceName is the interface that everything which isn't loopback is routed
// through: packets that reach it end there.
const interfaceName = "tulle0"

// meshIPv6 is where services' virtual IPv6 addresses are.
var meshIPv6 = netip.MustParsePrefix("fd74:756c:6c65::/64")

// bringUp makes every address routable: loopback up, a dummy interface with the
// program's own address, default routes. It reports whether there is IPv6.
func bringUp(everyIPv6 bool) (hasIPv6 bool, err error) {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return false, step("find the loopback interface", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return false, step("bring the loopback interface up", err)
	}
	// The kernel's defaults may have turned IPv6 off for new interfaces.
	hasIPv6 = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("0"), 0) == nil &&
		os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("0"), 0) == nil

	link, err := addInterface(loopback)
	if err != nil {
		return false, err
	}
	if err := netlink.AddrAdd(link, address(OwnIPv4)); err != nil {
		return false, step("give the program its address", err)
	}
	everything := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: everything, Src: OwnIPv4.AsSlice()}); err != nil {
		return false, step("route every IPv4 address", err)
	}
	if hasIPv6 {
		hasIPv6 = bringUpIPv6(link, everyIPv6) == nil
	}
	return hasIPv6, nil
}

// addInterface adds the dummy interface, or uses the loopback one where the
// kernel has no dummy driver.
func addInterface(loopback netlink.Link) (netlink.Link, error) {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = interfaceName
	err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attributes})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return loopback, nil
	}
	if err != nil {
		return nil, step("add an interface", err)
	}
	link, err := netlink.LinkByName(interfaceName)
	if err != nil {
		return nil, step("find the interface just added", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, step("bring the interface up", err)
	}
	return link, nil
}

func bringUpIPv6(link netlink.Link, everything bool) error {
	own := address(OwnIPv6)
	own.Flags = unix.IFA_F_NODAD
	if err := netlink.AddrAdd(link, own); err != nil {
		return err
	}
	to := &net.IPNet{IP: net.IP(meshIPv6.Addr().AsSlice()), Mask: net.CIDRMask(meshIPv6.Bits(), 128)}
	if everything {
		to = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: to})
}

func address(ip netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: net.IP(ip.AsSlice()), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}}
}

// tune sets what a new network namespace has more tightly than a host: the
// program may listen on any port, as its proxy's rules keep others out.
func tune() {
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
}

// step wraps an error with what was being done.
func step(what string, err error) error {
	return &UnavailableError{Step: what, Err: err}
}

func describe(err error) *failed {
	var u *UnavailableError
	if errors.As(err, &u) {
		return &failed{Step: u.Step, Error: u.Err.Error(), Hint: u.Hint}
	}
	return &failed{Step: "set the namespace up", Error: fmt.Sprint(err)}
}
