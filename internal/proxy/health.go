package proxy

import (
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/probe"
	"tulle.dev/tulle/internal/view"
)

// This file is how endpoints are asked how they are: by the proxy's first lane,
// for all of them.

// healthOf has the first lane follow the endpoints of a cluster whose policy wants
// health checks, or did. It may be called on any lane.
func (p *Proxy) healthOf(k clusterKey) {
	n := p.lanes[0]
	n.loop.Post(func() {
		c := n.cluster(k.direction, k.key)
		c.Update(p.config.Live.Table().Endpoints(k.key))
		n.prober.Follow(k.key, c.Policy().Health, c.Endpoints())
	})
}

// asked is one endpoint as the health checks see it: a cluster of its own, so that
// what they do is in no figures and no balance.
type asked struct {
	lane    *lane
	cluster *dial.Cluster
	told    view.Endpoints
}

func (n *lane) asked(service string, e *balance.Endpoint) probe.Target {
	k := clusterKey{meter.Outbound, service}
	if t := n.proxy.config.Live.Table(); t.Proxy != nil && t.Proxy.Role == view.Gateway {
		k.direction = meter.Edge
	}
	a := &asked{lane: n, cluster: dial.NewCluster(k.key, k.direction, n.shard)}
	a.cluster.Silent = true
	a.cluster.Protocol = protocolOf(n.proxy.config.Live.Table(), k)
	a.cluster.ServerName = n.serverName(k.key)
	a.told = view.Endpoints{Key: k.key, List: []view.Endpoint{e.Endpoint}}
	return a
}

// Ask asks as the policy says.
func (a *asked) Ask(h *policy.HealthCheck, done func(healthy bool, why string)) (cancel func()) {
	if p := a.told.Policy; p == nil || p.Connect != h.Timeout {
		told := a.told
		told.Policy = &policy.Upstream{Connect: h.Timeout}
		a.told = told
		a.cluster.Update(&told)
	}
	if h.Kind == policy.HealthTCP {
		return l4.Check(a.lane.dialer, a.cluster, h, done)
	}
	return a.lane.http.Check(a.cluster, h, done)
}

// Drop closes the connections.
func (a *asked) Drop() { a.cluster.Update(&view.Endpoints{}) }
