package l4

import "tulle.dev/tulle/internal/proxy/balance"

// Outcome is where the connection went or was to go: the cluster's key, the last
// endpoint that was tried, nil for none, how many were, and why there is no
// connection, should that be so.
func (p *Early) Outcome() (key string, e *balance.Endpoint, tries int, reason string) {
	return p.cluster.Key, p.endpoint, p.tries, p.reason
}
