package proxy

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// This file is how a lane finds out where a name outside the mesh leads to.

const (
	// resolveTimeout bounds a DNS query, resolvedFor how long its answer is used.
	resolveTimeout = 5 * time.Second
	resolvedFor    = 5 * time.Second
	maxResolved    = 1024
	// maxResolving bounds the names that a lane asks for at a time; further ones
	// are not known.
	maxResolving = 256
	// maxAnswers bounds the addresses of a name that are used.
	maxAnswers = 16
)

// Resolver asks the DNS; net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// resolution is an answer of the DNS about a name outside the mesh.
type resolution struct {
	addrs []netip.Addr // none: there is no such name
	until time.Duration
}

// addresses finds where a name leads to. It reports whether that is known now;
// otherwise the function that resume returns is called on the loop once it is.
func (n *lane) addresses(name string, resume func() func()) ([]netip.Addr, bool) {
	if r, ok := n.resolved[name]; ok && n.loop.Now() < r.until {
		return r.addrs, true
	}
	waiting, asked := n.resolving[name]
	if !asked && len(n.resolving) >= maxResolving {
		return nil, true
	}
	n.resolving[name] = append(waiting, resume())
	if asked {
		return nil, false
	}
	var resolver Resolver = net.DefaultResolver
	if r := n.proxy.config.Resolver; r != nil {
		resolver = r
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
		defer cancel()
		// With the final dot it is the whole name: nothing is searched for below the
		// machine's own domains.
		addrs, err := resolver.LookupNetIP(ctx, "ip", name+".")
		if err != nil {
			addrs = nil
		}
		n.loop.Post(func() { n.answered(name, addrs) })
	}()
	return nil, false
}

func (n *lane) answered(name string, addrs []netip.Addr) {
	if len(n.resolved) >= maxResolved {
		clear(n.resolved)
	}
	r := resolution{until: n.loop.Now() + resolvedFor}
	for _, a := range addrs[:min(len(addrs), maxAnswers)] {
		r.addrs = append(r.addrs, a.Unmap())
	}
	n.resolved[name] = r
	waiting := n.resolving[name]
	delete(n.resolving, name)
	for _, then := range waiting {
		then()
	}
}
