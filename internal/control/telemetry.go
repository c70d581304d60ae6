package control

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/telemetry"
	"tulle.dev/tulle/internal/telemetry/ingest"
	"tulle.dev/tulle/internal/telemetry/query"
	"tulle.dev/tulle/internal/telemetry/tsdb"
)

// metrics is the telemetry of this control plane: the database, what fills it
// and what asks it.
type metrics struct {
	db      *tsdb.DB
	scraper *ingest.Scraper
	engine  *query.Engine
	facts   *facts
	leader  func() bool

	mu      sync.Mutex
	clients map[string]adminTarget // by proxy UID
}

type adminTarget struct {
	client *http.Client
	base   string
	admin  string
}

func openMetrics(c *Config, f *facts, leader func() bool) (*metrics, error) {
	db, err := tsdb.Open(tsdb.Config{Dir: filepath.Join(c.DataDir, "tsdb"), Retention: c.Retention, Logger: c.Log})
	if err != nil {
		return nil, fmt.Errorf("open the metrics' database: %w", err)
	}
	m := &metrics{db: db, facts: f, leader: leader, clients: map[string]adminTarget{}}
	m.scraper = ingest.New(ingest.Config{Targets: m.targets, DB: db, Logger: c.Log})
	m.engine = query.New(query.Config{DB: db, Services: m.services, Version: c.Version})
	return m, nil
}

// targets are the connected proxies with an admin listener, for the elected
// replica to scrape.
func (m *metrics) targets() []ingest.Target {
	if !m.leader() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ingest.Target
	seen := map[string]bool{}
	for _, p := range m.facts.push.Proxies() {
		if !p.Connected || p.Admin == "" {
			continue
		}
		t, ok := m.clients[p.UID]
		if !ok || t.admin != p.Admin {
			c, base, err := m.facts.adminClient(&p)
			if err != nil {
				continue
			}
			t = adminTarget{c, base, p.Admin}
			m.clients[p.UID] = t
		}
		seen[p.UID] = true
		out = append(out, ingest.Target{Proxy: p.Name, Namespace: p.Namespace, URL: t.base + "/metrics", Client: t.client})
	}
	for uid, t := range m.clients {
		if !seen[uid] {
			t.client.CloseIdleConnections()
			delete(m.clients, uid)
		}
	}
	return out
}

func (m *metrics) services() []query.Service {
	s := m.facts.Snapshot()
	out := make([]query.Service, 0, len(s.Services))
	for n, svc := range s.Services {
		// An endpoint serves several ports; what counts is workloads.
		total, ready := map[string]bool{}, map[string]bool{}
		for _, p := range svc.Ports {
			set := s.Endpoints[mesh.PortKey{Service: n, Port: p.Port}]
			if set == nil {
				continue
			}
			for i := range set.Endpoints {
				e := &set.Endpoints[i]
				who := e.Workload.String()
				if e.Workload.Name == "" {
					who = e.Address.Addr().String()
				}
				total[who] = true
				if e.Health == mesh.Healthy || e.Health == mesh.Suspect {
					ready[who] = true
				}
			}
		}
		out = append(out, query.Service{Name: n.Name, Namespace: n.Namespace, Meshed: telemetry.Meshed{Ready: len(ready), Total: len(total)}})
	}
	slices.SortFunc(out, func(a, b query.Service) int {
		if a.Namespace+"/"+a.Name < b.Namespace+"/"+b.Name {
			return -1
		}
		return 1
	})
	return out
}

// check says whether every proxy's metrics are collected.
func (m *metrics) check(context.Context) []client.Check {
	c := client.Check{Category: "telemetry", Description: "the metrics of every proxy are collected", Result: client.Success}
	var bad []string
	for _, h := range m.scraper.Health() {
		if h.Err != nil {
			bad = append(bad, fmt.Sprintf("%s.%s: %s", h.Proxy, h.Namespace, h.Err))
		}
	}
	if err := problemOf(bad, "not of %s"); err != nil && m.leader() {
		c.Result, c.Error, c.Hint = client.Warning, err.Error(), "is the proxy's admin listener reachable from here?"
	}
	return []client.Check{c}
}

func (m *metrics) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.clients {
		t.client.CloseIdleConnections()
	}
	return m.db.Close()
}
