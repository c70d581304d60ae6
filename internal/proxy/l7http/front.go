package l7http

import (
	"bytes"
	"net/netip"

	"tulle.dev/tulle/internal/wire/h1"
)

// Front are the proxies before a listener that are believed when they say from
// where a request came: those with an address of Networks or, when Hops isn't
// zero, so many of them, whoever they are.
type Front struct {
	Networks []netip.Prefix
	Hops     int
}

// maxHops bounds the hops of X-Forwarded-For that are looked at.
const maxHops = 64

// believes reports whether the proxy at an address, as many hops away, is
// believed. A nil Front believes nobody.
func (f *Front) believes(a netip.Addr, hop int) bool {
	switch {
	case f == nil || hop > maxHops:
		return false
	case f.Hops > 0:
		return hop <= f.Hops
	}
	for _, p := range f.Networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// FrontScheme is what the client spoke with a proxy before this one, "http" or
// "https"; empty when nobody says.
func (x *Exchange) FrontScheme() string { return x.frontScheme }

// origins reads X-Forwarded-For from its end, where the nearest hop is, for as long
// as who says it is believed. The first that isn't is the client: x.source. x.from
// then lists it and the hops from there on; what stands before it, the client may
// have written itself.
func (x *Exchange) origins(front *Front) {
	var hops [maxHops]netip.Addr
	n := 0
	fields := x.Request.Fields
	for i := len(fields) - 1; i >= 0; i-- {
		if !sameName(fields[i].Name, nameXForwardedFor) {
			continue
		}
		for rest := fields[i].Value; rest != nil; {
			var last []byte
			rest, last = cutLast(rest)
			a, ok := hopOf(last)
			if !ok {
				i = 0 // nobody knows what comes before
				break
			}
			hops[n] = a
			n++
			if n == maxHops || !front.believes(a, n+1) {
				i = 0
				break
			}
		}
	}
	if n == 0 {
		return
	}
	x.source = hops[n-1]
	for i := n - 1; i >= 0; i-- {
		x.from = append(hops[i].AppendTo(x.from), ", "...)
	}
}

// cutLast takes the last element off a list; rest is nil when it was the only one.
func cutLast(list []byte) (rest, last []byte) {
	if i := bytes.LastIndexByte(list, ','); i >= 0 {
		return list[:i], list[i+1:]
	}
	return nil, list
}

// hopOf reads an address, which may have a port.
func hopOf(b []byte) (netip.Addr, bool) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 || len(b) > len("[0000:0000:0000:0000:0000:ffff:255.255.255.255]:65535") {
		return netip.Addr{}, false
	}
	s := string(b)
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// lastOf is the last value that fields of a name have, or nil.
func lastOf(fields []h1.Field, name []byte) []byte {
	for i := len(fields) - 1; i >= 0; i-- {
		if f := &fields[i]; !f.Drop && sameName(f.Name, name) {
			_, last := cutLast(f.Value)
			return bytes.TrimSpace(last)
		}
	}
	return nil
}

// schemeOf reads what a client spoke; empty when that is neither.
func schemeOf(v []byte) string {
	switch {
	case h1.EqualFold(v, "https"):
		return "https"
	case h1.EqualFold(v, "http"):
		return "http"
	}
	return ""
}
