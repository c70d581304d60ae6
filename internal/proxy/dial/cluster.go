package dial

import (
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/view"
)

// Cluster is one service port as one loop reaches it.
type Cluster struct {
	// Key is "SERVICE.NAMESPACE:PORT"; outside the mesh "external/NAME", or empty.
	Key string
	// Outside says that it isn't part of the mesh. Foreign is how TLS is spoken to
	// it; nil is not at all.
	Outside bool
	Foreign Foreign
	// ServerName is what a TLS connection to an endpoint asks for.
	ServerName string
	// Protocol is what the service says its programs speak.
	Protocol view.Protocol
	// Budget bounds the further tries to the destination; the proxy's loops share it.
	Budget *Budget
	// Pace is how long answers usually take to begin.
	Pace story.Pace
	// Silent keeps what goes wrong out of the figures.
	Silent bool
	// Checked, when not nil, is called when the endpoints have changed, or how
	// their health is asked for.
	Checked func()
	// Failed, when not nil, is told of each failure, on the loop.
	Failed func(reason string)

	direction meter.Direction
	shard     *meter.Shard
	series    [meter.Mutual + 1]*meter.Traffic
	set       balance.Set
	told      *view.Endpoints
	zone      string
	shared    *eject.Service
	checks    bool // the policy wants health checks, or did
}

// NewCluster makes a cluster without endpoints.
func NewCluster(key string, d meter.Direction, shard *meter.Shard) *Cluster {
	return &Cluster{Key: key, Budget: &Budget{}, direction: d, shard: shard}
}

// Share makes the cluster take part in what all loops know of the service port.
// It comes before the first Update.
func (c *Cluster) Share(s *eject.Service) {
	c.shared = s
	c.set.Share(s)
}

// SetZone says where the proxy runs.
func (c *Cluster) SetZone(zone string) {
	if zone != c.zone {
		c.zone = zone
		c.follow()
	}
}

// Update makes the cluster follow what the proxy was told. What is the same
// pointer as last time is the same set.
func (c *Cluster) Update(told *view.Endpoints) {
	if told != c.told {
		c.told = told
		c.follow()
	}
}

func (c *Cluster) follow() {
	var list []view.Endpoint
	var p *policy.Upstream
	if c.told != nil {
		list, p = c.told.List, c.told.Policy
	}
	c.set.Follow(c.Key, p, c.zone)
	for _, gone := range c.set.Update(list) {
		PoolOf(gone).Drop()
	}
	before := c.checks
	if c.checks = c.Policy().Health != nil; (c.checks || before) && c.Checked != nil {
		c.Checked()
	}
}

// Known reports whether the proxy was told of the endpoints, be there any or not.
func (c *Cluster) Known() bool { return c.told != nil }

// Policy is what goes with the endpoints; never nil.
func (c *Cluster) Policy() *policy.Upstream {
	if c.told != nil && c.told.Policy != nil {
		return c.told.Policy
	}
	return policy.DefaultUpstream
}

// Len is the number of endpoints.
func (c *Cluster) Len() int { return c.set.Len() }

// Endpoints are the cluster's endpoints; the slice must not be changed or kept.
func (c *Cluster) Endpoints() []*balance.Endpoint { return c.set.All() }

// Serves reports whether the session of a token is at an endpoint of the cluster.
func (c *Cluster) Serves(token uint64) bool { return c.set.Serves(token) }

// Series is where traffic to the endpoint is counted.
func (c *Cluster) Series(e *balance.Endpoint) *meter.Traffic {
	t := meter.None
	switch {
	case e == nil:
	case e.Identity != "":
		t = meter.Mutual
	case c.Foreign != nil:
		t = meter.ServerTLS
	}
	if c.series[t] == nil {
		c.series[t] = c.shard.Traffic(meter.Labels{Direction: c.direction, Service: c.Key, TLS: t})
	}
	return c.series[t]
}

// Retried counts a further try of a request, or one that was wanted and not made.
func (c *Cluster) Retried(reason meter.Retry, outcome meter.RetryOutcome) {
	if c.Silent {
		return
	}
	c.shard.Retried(c.direction, c.Key, reason, outcome)
}

// Fail counts something that went wrong for a request to this cluster.
func (c *Cluster) Fail(reason string) {
	if c.Silent {
		return
	}
	c.shard.Error(c.direction, c.Key, reason)
	if c.Failed != nil {
		c.Failed(reason)
	}
}
