package proxy

import (
	"net/netip"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
)

// passKey is an address outside the mesh, and what it is called; "" is nothing.
type passKey struct {
	to    netip.AddrPort
	label string
}

// passThrough is an address outside the mesh as a cluster of one.
func (n *lane) passThrough(to netip.AddrPort, label string) *dial.Cluster {
	k := passKey{to, label}
	if c := n.passed[k]; c != nil {
		return c
	}
	if len(n.passed) >= maxPassThrough {
		n.forgetPassed()
	}
	c := n.outsideCluster(label)
	c.Update(&view.Endpoints{List: []view.Endpoint{{Address: to}}})
	n.passed[k] = c
	return c
}

// outsideCluster is a cluster of no service.
func (n *lane) outsideCluster(label string) *dial.Cluster {
	c := dial.NewCluster(label, meter.Outbound, n.shard)
	c.Outside = true
	return c
}

// forgetPassed makes room; what is in use goes on with the cluster it has.
func (n *lane) forgetPassed() {
	for k, c := range n.passed {
		c.Update(&view.Endpoints{})
		delete(n.passed, k)
	}
}
