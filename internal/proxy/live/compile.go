package live

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/egress"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// The errors of this file begin with a field path, so that an Ack can say what
// was wrong and where.

func compileProxy(p *view.Proxy, old *Proxy) (*Proxy, error) {
	if p.Role != view.Sidecar && p.Role != view.Gateway {
		return nil, fmt.Errorf("role: %d is unknown, want sidecar or gateway", p.Role)
	}
	if p.Identity != "" {
		if _, err := identity.Parse(p.Identity); err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
	}
	before := make(map[string]*Listener)
	if old != nil {
		for _, l := range old.Listeners {
			before[l.Name] = l
		}
	}
	compiled := &Proxy{Proxy: p}
	if old != nil && reflect.DeepEqual(old.Proxy.Egress, p.Egress) {
		compiled.Egress = old.Egress
	} else if t, err := egress.Compile(p.Egress); err != nil {
		return nil, fmt.Errorf("egress.%w", err)
	} else {
		compiled.Egress = t
	}
	names := make(map[string]bool)
	sockets := make(map[netip.AddrPort]string)
	for i := range p.Listeners {
		l := &p.Listeners[i]
		if l.Name == "" || names[l.Name] {
			return nil, fmt.Errorf("listeners[%d].name: %q is empty or there twice", i, l.Name)
		}
		names[l.Name] = true
		if other, ok := sockets[l.Address]; ok && l.Address.Port() != 0 {
			return nil, fmt.Errorf("listeners[%d].address: %s is used by listener %q too", i, l.Address, other)
		}
		sockets[l.Address] = l.Name
		if o := before[l.Name]; o != nil && old.TrustDomain == p.TrustDomain && reflect.DeepEqual(o.Listener, l) {
			compiled.Listeners = append(compiled.Listeners, o)
			continue
		}
		c, err := compileListener(l, identity.TrustDomain(p.TrustDomain))
		if err != nil {
			return nil, fmt.Errorf("listeners[%d] (%s).%w", i, l.Name, err)
		}
		if err := c.compileTokens(before[l.Name]); err != nil {
			return nil, fmt.Errorf("listeners[%d] (%s).%w", i, l.Name, err)
		}
		compiled.Listeners = append(compiled.Listeners, c)
	}
	return compiled, nil
}

func compileListener(l *view.Listener, domain identity.TrustDomain) (*Listener, error) {
	c := &Listener{Listener: l}
	if !l.Address.IsValid() {
		return nil, fmt.Errorf("address: is missing, want IP:PORT")
	}
	switch l.Kind {
	case view.Capture, view.Forward, view.Names:
	case view.Explicit:
		if err := checkKey(l.Destination); err != nil {
			return nil, fmt.Errorf("destination: %w", err)
		}
	case view.Inbound:
		if !l.App.IsValid() {
			return nil, fmt.Errorf("app: is missing, an inbound listener needs the program's IP:PORT")
		}
	case view.Edge:
		if l.Protocol == view.TCP && l.Destination == "" && len(l.Streams.Hosts) == 0 {
			return nil, fmt.Errorf("destination: is missing, an edge listener for TCP needs one, or streams")
		}
	default:
		return nil, fmt.Errorf("kind: %d is unknown", l.Kind)
	}
	if len(l.Routes.Hosts) > 0 {
		t, err := compileRoutes(l.Routes)
		if err != nil {
			return nil, err
		}
		c.Routes = t
	}
	for i, s := range l.TrustedProxies {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("trustedProxies[%d]: %q is not a network, want ADDRESS/BITS", i, s)
		}
		c.Trusted = append(c.Trusted, p.Masked())
	}
	var err error
	if c.Streams, err = compileStreams(l.Streams); err != nil {
		return nil, err
	}
	if c.Certificates, err = compileCertificates(l); err != nil {
		return nil, err
	}
	return c, c.compileAccess(domain)
}

// checkKey accepts "SERVICE.NAMESPACE:PORT".
func checkKey(key string) error {
	if _, _, ok := SplitKey(key); !ok {
		return fmt.Errorf("%q is not a destination's key, want SERVICE.NAMESPACE:PORT", key)
	}
	return nil
}

func compileDestination(key string, d *view.Destination) (*Destination, error) {
	if d.Key != key {
		return nil, fmt.Errorf("key: is %q, want %q", d.Key, key)
	}
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	c := &Destination{Destination: d}
	if len(d.Routes.Hosts) > 0 {
		t, err := compileRoutes(d.Routes)
		if err != nil {
			return nil, err
		}
		c.Routes = t
	}
	var err error
	c.Streams, err = compileStreams(d.Streams)
	return c, err
}

func checkEndpoints(key string, e *view.Endpoints) error {
	if e.Key != key {
		return fmt.Errorf("key: is %q, want %q", e.Key, key)
	}
	for i := range e.List {
		p := &e.List[i]
		if !p.Address.IsValid() || p.Address.Port() == 0 {
			return fmt.Errorf("list[%d].address: %s is not an address and port", i, p.Address)
		}
		if p.Identity == "" {
			continue
		}
		if _, err := identity.Parse(p.Identity); err != nil {
			return fmt.Errorf("list[%d].identity: %w", i, err)
		}
	}
	return nil
}

func checkHost(name string, h *view.Host) error {
	if h.Name != name {
		return fmt.Errorf("name: is %q, want %q", h.Name, name)
	}
	return nil
}

// apply changes one resource of a table that isn't published yet. After an
// error the table must be thrown away.
func (t *Table) apply(r *control.Resource, used *usage) error {
	fail := func(err error) error { return fmt.Errorf("%s: %w", r.Key, err) }
	switch kind, name := splitResource(r.Key); kind {
	case control.KeyProxy:
		if r.Proxy == nil {
			return fail(fmt.Errorf("has no proxy"))
		}
		p, err := compileProxy(r.Proxy, t.Proxy)
		if err != nil {
			return fail(err)
		}
		t.Proxy = p
	case control.KeyBundle: // not part of the table
	case control.KeyDestinationPart:
		d := &Destination{Destination: &view.Destination{Key: name}, Absent: true}
		if !r.Absent {
			if r.Destination == nil {
				return fail(fmt.Errorf("has no destination"))
			}
			var err error
			if d, err = compileDestination(name, r.Destination); err != nil {
				return fail(err)
			}
		}
		d.used = used
		t.destinations = t.destinations.with(name, d)
	case control.KeyEndpointsPart:
		e := &view.Endpoints{Key: name}
		if !r.Absent {
			if r.Endpoints == nil {
				return fail(fmt.Errorf("has no endpoints"))
			}
			e = r.Endpoints
			if err := checkEndpoints(name, e); err != nil {
				return fail(err)
			}
		}
		t.endpoints = t.endpoints.with(name, &endpoints{e, used})
	case control.KeyHostPart:
		h := &view.Host{Name: name}
		if !r.Absent {
			if r.Host == nil {
				return fail(fmt.Errorf("has no host"))
			}
			h = r.Host
			if err := checkHost(name, h); err != nil {
				return fail(err)
			}
		}
		t.setHost(r.Key, name, &Host{h, used})
	default:
		return fail(fmt.Errorf("is not a resource's key"))
	}
	return nil
}

// setHost puts a host into the table; key is its resource's.
func (t *Table) setHost(key, name string, h *Host) {
	if addr, err := parseAddr(name); err == nil {
		t.addrs = t.addrs.with(addr, h)
		return
	}
	t.forgetVirtual(key, name)
	t.hosts = t.hosts.with(name, h)
	if h.Service == "" {
		return
	}
	for _, a := range h.Addresses {
		t.virtual = t.virtual.with(a.Unmap(), virtual{key, h})
	}
}

// forgetVirtual removes what the answer about a name said about addresses.
func (t *Table) forgetVirtual(key, name string) {
	old, ok := t.hosts.get(name)
	if !ok {
		return
	}
	for _, a := range old.Addresses {
		if v, ok := t.virtual.get(a.Unmap()); ok && v.owner == key {
			t.virtual = t.virtual.without(a.Unmap())
		}
	}
}

// drop removes a resource, so that it is not known again.
func (t *Table) drop(key string) {
	switch kind, name := splitResource(key); kind {
	case control.KeyDestinationPart:
		t.destinations = t.destinations.without(name)
	case control.KeyEndpointsPart:
		t.endpoints = t.endpoints.without(name)
	case control.KeyHostPart:
		if addr, err := parseAddr(name); err == nil {
			t.addrs = t.addrs.without(addr)
			return
		}
		t.forgetVirtual(key, name)
		t.hosts = t.hosts.without(name)
	}
}

// splitResource splits a resource's key into its kind and its name.
func splitResource(key string) (kind, name string) {
	for _, part := range []string{control.KeyDestinationPart, control.KeyEndpointsPart, control.KeyHostPart} {
		if name, ok := strings.CutPrefix(key, part); ok {
			return part, name
		}
	}
	return key, ""
}

// SplitKey splits a destination's key "SERVICE.NAMESPACE:PORT".
func SplitKey(key string) (service string, port uint16, ok bool) {
	i := strings.LastIndexByte(key, ':')
	if i <= 0 || strings.IndexByte(key[:i], '.') <= 0 || strings.HasSuffix(key[:i], ".") {
		return "", 0, false
	}
	n, err := strconv.ParseUint(key[i+1:], 10, 16)
	if err != nil || n == 0 {
		return "", 0, false
	}
	return key[:i], uint16(n), true
}

// parseAddr reads an IP address, an IPv4-mapped one as IPv4.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err
}

func compileBundle(b *view.Bundle) (*identity.Bundle, error) {
	roots := make(map[identity.TrustDomain][][]byte)
	for i, d := range b.Domains {
		name := identity.TrustDomain(d.Name)
		if _, ok := roots[name]; ok {
			return nil, fmt.Errorf("domains[%d].name: %q is there twice", i, d.Name)
		}
		roots[name] = d.Roots
	}
	compiled, err := identity.NewBundle(roots)
	if err != nil || len(b.Denied) == 0 {
		return compiled, err
	}
	ids := make([]identity.ID, len(b.Denied))
	for i, uri := range b.Denied {
		if ids[i], err = identity.Parse(uri); err != nil {
			return nil, fmt.Errorf("denied[%d]: %w", i, err)
		}
	}
	return compiled.Deny(ids), nil
}
