package proxy

import (
	"sync"
	"time"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l7http"
)

// This file is what the proxy tells about itself (admin's dump).

const (
	// inspectWait bounds how long a loop may take to answer.
	inspectWait = time.Second
	// maxShown bounds the connections that are listed.
	maxShown = 1000
)

// Load is one endpoint as one loop sees it.
type Load struct {
	Loop     int     `json:"loop"`
	Service  string  `json:"service"`
	Endpoint string  `json:"endpoint"`
	Latency  float64 `json:"latency_ms"`
	Pending  int     `json:"pending"`
	Idle     int     `json:"idle_connections"`
	// Closes is after how long a rest the endpoint was seen to close a connection;
	// 0 when it never was.
	Closes float64 `json:"closes_idle_after_ms,omitempty"`
}

// Pools tells the load of every endpoint and the connections to it.
func (p *Proxy) Pools() any {
	list := []Load{}
	p.inspect(func(n *lane) {
		add := func(c *dial.Cluster) {
			for _, e := range c.Endpoints() {
				if len(list) >= maxShown {
					return
				}
				list = append(list, Load{
					Loop: n.loop.Index, Service: c.Key, Endpoint: e.Address.String(),
					Latency: float64(e.Latency(int64(n.loop.Now()))) / float64(time.Millisecond),
					Pending: e.Pending(), Idle: dial.PoolOf(e).Len(),
					Closes: float64(dial.PoolOf(e).Learnt()) / float64(time.Millisecond),
				})
			}
		}
		for _, c := range n.clusters {
			add(c)
		}
		for _, c := range n.passed {
			add(c)
		}
		for _, e := range n.exits {
			if e.cluster != nil {
				add(e.cluster)
			}
		}
		for _, s := range n.ports {
			if in, ok := s.layers.(*inbound); ok {
				add(in.app)
			}
		}
	})
	return list
}

// EndpointStates tells which endpoints are left out or doubted, and why.
func (p *Proxy) EndpointStates() any { return p.services.States(p.now(), maxShown) }

// now is the time as the loops count it, give or take the time between their
// beginnings. It may be called from anywhere.
func (p *Proxy) now() int64 { return int64(p.lanes[0].loop.Poller.Now()) }

// ConnectionList tells of the open client connections, and how many there are
// in all.
func (p *Proxy) ConnectionList() any {
	type answer struct {
		Open int                 `json:"open"`
		List []l7http.Connection `json:"connections"`
	}
	a := answer{Open: p.Connections(), List: []l7http.Connection{}}
	p.inspect(func(n *lane) {
		a.List = n.http.List(a.List, maxShown)
		for c := range n.incoming {
			if len(a.List) >= maxShown {
				break
			}
			a.List = append(a.List, c.describe())
		}
	})
	return a
}

// describe tells of a connection that is opaque, or not decided yet.
func (c *incoming) describe() l7http.Connection {
	d := l7http.Connection{
		Peer: c.conn.Peer().String(), State: "deciding", Service: c.about.service,
		Received: c.conn.Received, Sent: c.conn.Sent, About: c.about.Describe(),
	}
	if c.tcp {
		d.State, d.Protocol, d.Streams = "open", "tcp", 1
	}
	return d
}

// inspect calls f on each loop, one after the other.
func (p *Proxy) inspect(f func(*lane)) {
	var mu sync.Mutex
	for _, n := range p.lanes {
		done := make(chan struct{})
		abandoned := false
		posted := n.loop.Post(func() {
			defer close(done)
			mu.Lock()
			defer mu.Unlock()
			if !abandoned {
				f(n)
			}
		})
		if !posted {
			continue
		}
		select {
		case <-done:
		case <-time.After(inspectWait):
			mu.Lock()
			abandoned = true
			mu.Unlock()
		}
	}
}

// Held tells what exchanges hold that they must give back: all is zero when none is
// under way. It may be called only while no loop runs, as in a simulation.
func (p *Proxy) Held() map[string]int {
	held := make(map[string]int)
	for _, n := range p.lanes {
		n.http.Held(held)
		for _, c := range n.clusters {
			for _, e := range c.Endpoints() {
				held["requests at endpoints"] += e.Pending()
			}
		}
		for _, s := range n.ports {
			if in, ok := s.layers.(*inbound); ok {
				for _, e := range in.app.Endpoints() {
					held["requests at programs"] += e.Pending()
				}
			}
		}
	}
	p.services.Held(held)
	p.bounds.mu.Lock()
	defer p.bounds.mu.Unlock()
	for _, g := range p.bounds.gates {
		held["requests let in"] += g.Inflight()
	}
	return held
}
