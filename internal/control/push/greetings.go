package push

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"tulle.dev/tulle/internal/control/plan"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/wire/control"
)

const (
	greetsPrefix = "/tulle/greets/"
	// GreetingKept is how long a report counts that a port's program speaks
	// first. One that is younger than half of it isn't written again.
	GreetingKept = time.Hour
)

// greetings are the service ports whose program speaks first, as the proxies
// of that service, and nobody else, have reported. They are in the store with a
// lease each, so that every replica knows them and they end by themselves.
type greetings struct {
	server *Server

	mu    sync.Mutex
	ports map[mesh.PortKey]greeting
}

// greeting is a report; it is a key's value in the store.
type greeting struct {
	Proxy string    `json:"proxy"`
	At    time.Time `json:"at"`
}

func (g *greetings) init(s *Server) {
	g.server, g.ports = s, map[mesh.PortKey]greeting{}
}

// heard takes a proxy's report.
func (g *greetings) heard(ctx context.Context, st *stream, ports []string) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	now := g.server.config.Now()
	for _, text := range ports {
		k, ok := plan.ParseKey(text)
		if !ok || !g.mayReport(st, k) {
			g.server.config.Log.Debug("a proxy reported about a port it doesn't serve", "proxy", st.key.Name.String(), "port", text)
			continue
		}
		g.mu.Lock()
		old, known := g.ports[k]
		g.mu.Unlock()
		if known && now.Sub(old.At) < GreetingKept/2 {
			continue
		}
		if err := g.write(ctx, k, greeting{Proxy: st.key.Name.String(), At: now}); err != nil {
			g.server.config.Log.Warn("what a proxy learnt can't be written", "proxy", st.key.Name.String(), "port", text, "error", err)
			return // it will be said again
		}
	}
}

// mayReport: only a proxy of the service itself says what its program does, and
// only where nothing is declared. What a proxy registers was checked against its
// identity when it came (admit); the rest is written in its workload.
func (g *greetings) mayReport(st *stream, k mesh.PortKey) bool {
	snap := g.server.snapshot.Load()
	svc := snap.Services[k.Service]
	if svc == nil || st.key.gateway {
		return false
	}
	declared := true
	for _, p := range svc.Ports {
		if p.Port == k.Port {
			declared = p.Protocol != mesh.Detect
		}
	}
	if declared {
		return false
	}
	for _, r := range st.hello.Registrations {
		if r.Service == k.Service.String() && r.Port == k.Port {
			return true
		}
	}
	w := snap.Workloads[st.key.Name]
	if w == nil || w.Identity != st.identity {
		return false
	}
	for i := range w.Ports {
		if w.Ports[i].Service == k.Service && w.Ports[i].Port == k.Port {
			return true
		}
	}
	return false
}

func (g *greetings) write(ctx context.Context, k mesh.PortKey, v greeting) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	objects := g.server.config.Objects
	lease, err := objects.Grant(ctx, GreetingKept)
	if err != nil {
		return err
	}
	if _, err := objects.Put(ctx, greetingKey(k), value, store.AnyRevision, lease); err != nil {
		return errors.Join(err, objects.Revoke(ctx, lease))
	}
	return nil
}

func greetingKey(k mesh.PortKey) string {
	return greetsPrefix + k.Service.Namespace + "/" + k.Service.Name + "/" + strconv.Itoa(int(k.Port))
}

func parseGreetingKey(key string) (mesh.PortKey, bool) {
	part := strings.Split(strings.TrimPrefix(key, greetsPrefix), "/")
	if len(part) != 3 {
		return mesh.PortKey{}, false
	}
	port, err := strconv.ParseUint(part[2], 10, 16)
	return mesh.PortKey{Service: mesh.Name{Namespace: part[0], Name: part[1]}, Port: uint16(port)}, err == nil
}

// run follows everybody's reports until the context ends.
func (g *greetings) run(ctx context.Context) {
	_ = store.Follow(ctx, g.server.config.Objects, greetsPrefix, g.follow)
}

func (g *greetings) follow(reset bool, c store.Changes) {
	changed := map[mesh.PortKey]bool{}
	g.mu.Lock()
	if reset {
		for k := range g.ports {
			changed[k] = true
		}
		clear(g.ports)
	}
	for _, e := range c.Events {
		k, ok := parseGreetingKey(e.Key)
		if !ok {
			continue
		}
		var v greeting
		_, known := g.ports[k]
		switch {
		case e.Deleted:
			delete(g.ports, k)
			changed[k] = true
		case json.Unmarshal(e.Value, &v) == nil:
			g.ports[k] = v
			changed[k] = changed[k] || !known
		}
	}
	g.mu.Unlock()
	s := g.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, look := range changed {
		if !look {
			continue
		}
		key := control.KeyDestinationPart + keyOf(k)
		for st, keys := range s.index[k.Service] {
			if keys[key] {
				st.mark(key)
			}
		}
	}
}

// of reports whether a resource is the destination of a port whose program
// speaks first.
func (g *greetings) of(key string) bool {
	rest, ok := strings.CutPrefix(key, control.KeyDestinationPart)
	if !ok {
		return false
	}
	k, ok := plan.ParseKey(rest)
	if !ok {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok = g.ports[k]
	return ok
}
