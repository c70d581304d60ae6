package push

import (
	"context"
	"sync"
	"time"

	"tulle.dev/tulle/internal/control/share"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/control"
)

const (
	// divideEvery is how often limits that all proxies have together are divided
	// anew, while some are in use. After quiet they aren't.
	divideEvery = 500 * time.Millisecond
	quiet       = 30 * time.Second
)

// shares divides the global rate limits between the proxies that are connected
// here, and those of other replicas (elsewhere.go). Nothing of it is kept: proxies
// say each second what they need, and what they have.
type shares struct {
	server *Server
	kick   chan struct{} // there is something to divide

	mu        sync.Mutex
	allocator share.Allocator[string]
	of        *mesh.Snapshot // names are its global limits
	names     map[string]bool
	others    map[string]bool // replicas that divide too
}

func (s *shares) init(server *Server) {
	s.server, s.kick, s.others = server, make(chan struct{}, 1), make(map[string]bool)
}

// heard takes a proxy's demand. Limits that aren't of the mesh are ignored: a proxy
// must not fill the allocator with names.
func (s *shares) heard(st *stream, d *control.Demand) {
	snap := s.server.snapshot.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of != snap {
		s.of, s.names = snap, globalLimits(snap)
	}
	var list []share.Demand
	for _, l := range d.Limits {
		if s.names[l.Limit] {
			list = append(list, share.Demand{Limit: l.Limit, Part: l.Part, Keyed: l.Keyed, Held: l.Held})
		}
	}
	s.allocator.Hear(st.key.id(), list, s.server.config.Now())
	s.wake()
}

func (s *shares) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// arrived tells a proxy that it may say what it needs.
func (s *shares) arrived(st *stream) {
	if !st.hello.Shares {
		return
	}
	s.mu.Lock()
	s.allocator.Back(st.key.id())
	s.mu.Unlock()
	st.tell([]share.Share{})
}

// left gives the parts of a proxy that is gone to others, unless it is here again.
func (s *shares) left(st *stream) {
	s.server.mu.Lock()
	replaced := s.server.byName[st.key] != st
	s.server.mu.Unlock()
	if replaced {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allocator.Leave(st.key.id())
	if !s.allocator.Idle() {
		s.wake()
	}
}

// run divides until the context ends. It sleeps while there is nothing to divide.
func (s *shares) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		}
		s.work(ctx)
	}
}

// work divides again and again until nothing has been heard for a while.
func (s *shares) work(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { s.publish(ctx) })
	defer all.Wait()
	defer cancel()
	ticker := time.NewTicker(divideEvery)
	defer ticker.Stop()
	for left := quiet; left > 0; left -= divideEvery {
		s.divide()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		select {
		case <-s.kick:
			left = quiet
		default:
		}
	}
}

// divide tells proxies their new parts.
func (s *shares) divide() {
	s.mu.Lock()
	told := s.allocator.Divide(s.server.config.Now())
	s.mu.Unlock()
	if len(told) == 0 {
		return
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for key, st := range s.server.byName {
		if list := told[key.id()]; len(list) > 0 {
			st.tell(list)
		}
	}
}

// id is the proxy's name as text.
func (k proxyKey) id() string {
	if k.gateway {
		return "gateway/" + k.Namespace + "/" + k.Name.Name
	}
	return "sidecar/" + k.Namespace + "/" + k.Name.Name
}

// tell has the sender tell the proxy its parts; newer ones replace those that
// haven't gone out.
func (st *stream) tell(list []share.Share) {
	st.mu.Lock()
	if st.parts == nil {
		st.parts = make(map[string]uint64)
	}
	for _, l := range list {
		st.parts[l.Limit] = l.Part
	}
	st.mu.Unlock()
	st.poke()
}

// takeParts returns the message with what is to be told, or nil. st.mu is held.
func (st *stream) takeParts() *control.Shares {
	if st.parts == nil {
		return nil
	}
	m := &control.Shares{}
	for limit, part := range st.parts {
		if len(m.Limits) == control.MaxShares {
			st.poke() // the rest follows
			return m
		}
		delete(st.parts, limit)
		m.Limits = append(m.Limits, control.Share{Limit: limit, Part: part})
	}
	st.parts = nil
	return m
}

// globalLimits are the names of all limits that proxies have together.
func globalLimits(snap *mesh.Snapshot) map[string]bool {
	names := make(map[string]bool)
	add := func(list []policy.RateLimit) {
		for i := range list {
			if list[i].Global {
				names[list[i].Name] = true
			}
		}
	}
	rules := func(s route.Spec) {
		for _, h := range s.Hosts {
			for i := range h.Rules {
				if p := h.Rules[i].Policy; p != nil {
					add(p.Limits)
				}
			}
		}
	}
	for _, svc := range snap.Services {
		for _, p := range svc.Inbound {
			if p != nil {
				add(p.Limits)
			}
		}
		for _, p := range svc.Request {
			if p != nil {
				add(p.Limits)
			}
		}
		for _, s := range svc.Routes {
			rules(s)
		}
		for _, ports := range svc.Consumers {
			for _, s := range ports {
				rules(s)
			}
		}
	}
	for _, g := range snap.Gateways {
		for i := range g.Listeners {
			rules(g.Listeners[i].Routes)
		}
	}
	return names
}
