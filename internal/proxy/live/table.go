package live

import (
	"iter"
	"net/netip"
	"sync/atomic"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/proxy/egress"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// Table is all the proxy knows at one moment. It is immutable and safe for
// concurrent use; a change makes a new one that shares what didn't change, so a
// pointer that is equal in two tables means equal content.
//
// A nil answer of Host, HostByAddr, Destination or Endpoints means "not known
// yet": ask Live.Lookup. What the control plane said doesn't exist is not nil.
type Table struct {
	// Version is the snapshot's version that the newest change came from.
	Version uint64
	// Proxy is the proxy itself; nil before the control plane said anything.
	Proxy *Proxy

	hosts        cow[string, *Host]
	addrs        cow[netip.Addr, *Host]
	virtual      cow[netip.Addr, virtual]
	destinations cow[string, *Destination]
	endpoints    cow[string, *endpoints]
}

// Proxy is the compiled part of a view about the proxy itself.
type Proxy struct {
	*view.Proxy
	// Listeners in the order of the view.
	Listeners []*Listener
	// Egress is where outside the mesh the program may call; nil is anywhere. Its
	// pointer stays the same as long as its content does.
	Egress *egress.Table
}

// Listener is one socket to accept on. Its pointer stays the same as long as
// its content does, across changes of other listeners.
type Listener struct {
	*view.Listener
	// Routes is the compiled table of an Edge listener; nil when it has none.
	Routes *route.Table
	// Streams routes what isn't HTTP; nil when there is no route for that.
	Streams *Streams
	// Certificates are those of a listener that ends TLS, else nil.
	Certificates *Certificates
	// Trusted are the networks of view.Listener.TrustedProxies.
	Trusted []netip.Prefix
	// Access is who may come in to an Inbound or an Edge listener; nil is everyone.
	Access *access.Table
	// RouteAccess is the same for the rules of Routes, by their Index; nil where
	// none has any.
	RouteAccess []*access.Table
	// Authentication is how callers from elsewhere prove who they are, and
	// RouteAuthentication the same for the rules of Routes, by their Index; nil
	// where none has any. What a rule doesn't say the listener does.
	Authentication      Authentication
	RouteAuthentication []Authentication
}

// Destination is one port of a service as a caller sees it.
type Destination struct {
	*view.Destination
	// Absent says that the mesh has no such service port.
	Absent bool
	// Routes is the compiled table; nil sends everything to Key's endpoints.
	Routes *route.Table
	// Streams routes connections that aren't HTTP; nil sends them to Key's
	// endpoints.
	Streams *Streams

	used *usage
}

// Streams routes connections that aren't HTTP. The table's authorities are the
// server names of TLS.
type Streams struct {
	*route.Table
	// ByName says that some routes are for a name: the client's first bytes must
	// be read before it is known where they go.
	ByName bool
}

// Host answers a look-up of a name or an address. Service is empty when the
// mesh doesn't know it.
type Host struct {
	*view.Host

	used *usage
}

// HasPort reports whether the service has a port.
func (h *Host) HasPort(port uint16) bool {
	for _, p := range h.Ports {
		if p == port {
			return true
		}
	}
	return false
}

type endpoints struct {
	*view.Endpoints
	used *usage
}

// virtual says which service has a virtual address, learnt from an answer about
// something else: a name's answer or a destination tells the service's
// addresses too, so that connecting after a DNS query needs no second look-up.
type virtual struct {
	owner string // key of the resource it was learnt from
	host  *Host
}

// usage says whether a resource was used since the last sweep. Loops set it,
// the sweep clears it.
type usage struct{ flag atomic.Bool }

func (u *usage) mark() {
	if u != nil && !u.flag.Load() { // a load is cheaper than a store
		u.flag.Store(true)
	}
}

// Host returns what is known about a DNS name: lower case, no final dot.
func (t *Table) Host(name string) *Host {
	h, _ := t.hosts.get(name)
	if h != nil {
		h.used.mark()
	}
	return h
}

// HostByAddr returns what is known about an address.
func (t *Table) HostByAddr(addr netip.Addr) *Host {
	addr = addr.Unmap()
	if h, ok := t.addrs.get(addr); ok {
		h.used.mark()
		return h
	}
	if v, ok := t.virtual.get(addr); ok {
		v.host.used.mark()
		return v.host
	}
	return nil
}

// Destination returns what is known about a service port, by its key
// "SERVICE.NAMESPACE:PORT".
func (t *Table) Destination(key string) *Destination {
	d, _ := t.destinations.get(key)
	if d != nil {
		d.used.mark()
	}
	return d
}

// Endpoints returns where a service port is served, by its key; balance.Set
// takes the list. It must not be changed.
func (t *Table) Endpoints(key string) *view.Endpoints {
	e, _ := t.endpoints.get(key)
	if e == nil {
		return nil
	}
	e.used.mark()
	return e.Endpoints
}

// Destinations returns all that are known, in no order, without marking them
// as used.
func (t *Table) Destinations() iter.Seq2[string, *Destination] { return t.destinations.all() }

// AllEndpoints is Destinations for endpoint sets.
func (t *Table) AllEndpoints() iter.Seq2[string, *view.Endpoints] {
	return func(yield func(string, *view.Endpoints) bool) {
		for k, e := range t.endpoints.all() {
			if !yield(k, e.Endpoints) {
				return
			}
		}
	}
}

// Hosts is Destinations for hosts, those by address included.
func (t *Table) Hosts() iter.Seq2[string, *Host] {
	return func(yield func(string, *Host) bool) {
		for k, h := range t.hosts.all() {
			if !yield(k, h) {
				return
			}
		}
		for k, h := range t.addrs.all() {
			if !yield(k.String(), h) {
				return
			}
		}
	}
}
