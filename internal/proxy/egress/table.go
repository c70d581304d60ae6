package egress

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tulle.dev/tulle/internal/policy"
)

// Table is a compiled policy. A nil Table has nothing against any call.
type Table struct {
	// Allow is what happens to calls that no place is for, and Audit says that
	// refusals are counted only.
	Allow, Audit bool

	places []Place
	exact  map[string][]int // by name, in the policy's order
	below  map[string][]int // *.NAME by NAME
	ports  map[uint16]bool  // for which some place has names
	all    []int            // places with networks
}

// Place is somewhere outside the mesh that may be called.
type Place struct {
	// Name is what the policy calls it, and Label what metrics do.
	Name, Label string
	// TLS, when not nil, is how the proxy speaks TLS to it for a program that
	// speaks HTTP in plaintext. Its ServerName is empty where it is the host, and
	// it has no NextProtos.
	TLS *tls.Config
	// Refused says that calls to it are refused for now.
	Refused bool

	networks []netip.Prefix
	ports    []uint16
}

// LabelPrefix begins the label of what is outside the mesh.
const LabelPrefix = "external/"

// MaxName bounds a DNS name (RFC 1035, 2.3.4), without the final dot.
const MaxName = 253

// Compile makes a table. The error begins with the path of the field that is
// wrong; nil makes nil.
func Compile(e *policy.Egress) (*Table, error) {
	if e == nil {
		return nil, nil
	}
	t := &Table{Allow: e.Allow, Audit: e.Audit, exact: map[string][]int{}, below: map[string][]int{}, ports: map[uint16]bool{}}
	t.places = make([]Place, len(e.Destinations))
	for i := range e.Destinations {
		d := &e.Destinations[i]
		if err := t.add(i, d); err != nil {
			return nil, fmt.Errorf("destinations[%d] (%s).%w", i, d.Name, err)
		}
	}
	return t, nil
}

func (t *Table) add(i int, d *policy.EgressDestination) error {
	p := &t.places[i]
	*p = Place{Name: d.Name, Label: LabelPrefix + d.Name, Refused: d.Refused, ports: d.Ports}
	for j, h := range d.Hosts {
		name, wild := strings.CutPrefix(h, "*.")
		if clean, ok := Name(name); !ok || clean != name {
			return fmt.Errorf("hosts[%d]: %q is not a DNS name in lower case, or *. and one", j, h)
		}
		index := t.exact
		if wild {
			index = t.below
		}
		index[name] = append(index[name], i)
	}
	if len(d.Hosts) > 0 {
		for _, port := range d.Ports {
			t.ports[port] = true
		}
	}
	for j, s := range d.Networks {
		n, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("networks[%d]: %q is not a network, want ADDRESS/BITS", j, s)
		}
		if n.Addr().Is4In6() {
			return fmt.Errorf("networks[%d]: %q is an IPv4 network in IPv6 clothes: write it as IPv4", j, s)
		}
		p.networks = append(p.networks, n.Masked())
	}
	if len(p.networks) > 0 {
		t.all = append(t.all, i)
	}
	if d.TLS == nil {
		return nil
	}
	p.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: d.TLS.ServerName}
	if len(d.TLS.Roots) > 0 {
		p.TLS.RootCAs = x509.NewCertPool()
		if !p.TLS.RootCAs.AppendCertsFromPEM(d.TLS.Roots) {
			return fmt.Errorf("tls.roots: hold no certificate")
		}
	}
	if len(d.TLS.Certificate)+len(d.TLS.Key) > 0 {
		pair, err := tls.X509KeyPair(d.TLS.Certificate, d.TLS.Key)
		if err != nil {
			return fmt.Errorf("tls.certificate: %w", err)
		}
		p.TLS.Certificates = []tls.Certificate{pair}
	}
	return nil
}

// Place returns what the policy has for a name at a port, nil when it has
// nothing. The name is as Name returns it.
func (t *Table) Place(name string, port uint16) *Place {
	first := t.best(t.exact[name], port, len(t.places))
	for rest := name; ; {
		_, above, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		rest = above
		first = t.best(t.below[rest], port, first)
	}
	if first == len(t.places) {
		return nil
	}
	return &t.places[first]
}

// best is the first of some places that has the port, if that is before first.
func (t *Table) best(list []int, port uint16, first int) int {
	for _, i := range list {
		if i >= first {
			break
		}
		if slices.Contains(t.places[i].ports, port) {
			return i
		}
	}
	return first
}

// Address returns what the policy has for an address, nil when it has nothing.
func (t *Table) Address(to netip.AddrPort) *Place {
	a := to.Addr().Unmap()
	for _, i := range t.all {
		p := &t.places[i]
		if !slices.Contains(p.ports, to.Port()) {
			continue
		}
		for _, n := range p.networks {
			if n.Contains(a) { // never, for one with a zone
				return p
			}
		}
	}
	return nil
}

// Named reports whether the name that is said on a port can make a difference.
func (t *Table) Named(port uint16) bool { return t.ports[port] }

// Resolves reports whether a DNS name may be asked for: it may be called, at
// some port.
func (t *Table) Resolves(name string) bool {
	if t == nil || t.Allow || len(t.exact[name]) > 0 {
		return true
	}
	for rest := name; ; {
		_, above, ok := strings.Cut(rest, ".")
		if !ok {
			return false
		}
		rest = above
		if len(t.below[rest]) > 0 {
			return true
		}
	}
}

// Name returns a DNS name in the one form in which names are compared: lower case
// and without the final dot. It is false for what is no name: an address, what
// holds other than letters, digits, hyphens, underscores and single dots, and
// what is too long. Names in other scripts come as "xn--..." (RFC 5890).
func Name[T string | []byte](s T) (string, bool) {
	if n := len(s); n > 0 && s[n-1] == '.' {
		s = s[:n-1]
	}
	if len(s) == 0 || len(s) > MaxName {
		return "", false
	}
	label, upper, digits := 0, false, true // digits: the last label has nothing else
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 {
				return "", false
			}
			label, digits = -1, true
		case c >= '0' && c <= '9':
		case c >= 'A' && c <= 'Z':
			upper, digits = true, false
		case c >= 'a' && c <= 'z', c == '-', c == '_':
			digits = false
		default:
			return "", false
		}
		if label++; label > 63 {
			return "", false
		}
	}
	if label == 0 || digits { // no top-level domain is a number: it would be an address to somebody
		return "", false
	}
	if upper {
		return strings.ToLower(string(s)), true
	}
	return string(s), true
}

// notPublic are addresses that a name of the outside has no business to lead to:
// they are this machine, its network, or nobody (IANA's special-purpose
// registries, RFC 6890).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("fec0::/10"),
	netip.MustParsePrefix("::/96"),
}

// translated are IPv6 addresses that end in the IPv4 address they lead to (RFC
// 6052).
var translated = netip.MustParsePrefix("64:ff9b::/96")

// Public reports whether an address can be that of a place in the internet: it is
// neither private, loopback, link-local, multicast nor reserved, nor one that
// stands for such an IPv4 address.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsValid() || a.Zone() != "" || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	if translated.Contains(a) {
		b := a.As16()
		return Public(netip.AddrFrom4([4]byte(b[12:])))
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
