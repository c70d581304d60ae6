package push

import (
	"slices"
	"time"

	"tulle.dev/tulle/internal/control/plan"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/wire/control"
)

const (
	// drainLimit is how long a draining proxy waits for its peers at most, a
	// little less than the proxy itself does.
	drainLimit = 12 * time.Second
	drainTick  = 5 * time.Millisecond
	// othersWait is the time given to the proxies of other replicas.
	othersWait = time.Second
)

func idOf(d identity.TrustDomain, namespace, account string) identity.ID {
	return identity.ID{TrustDomain: d, Namespace: namespace, ServiceAccount: account}
}

// beginDrain starts a drain, once a conversation. It ends with the drain, the
// conversation or the server.
func (s *Server) beginDrain(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.draining || s.stopping {
		return
	}
	st.draining = true
	s.drains.Go(func() { s.drain(st) })
}

// drain tells a proxy that nothing new will be sent to it: once its endpoints
// are out of the snapshot and every proxy that subscribes to them has answered.
func (s *Server) drain(st *stream) {
	deadline := time.Now().Add(drainLimit)
	wait := func(pending func() bool) bool {
		for time.Now().Before(deadline) && pending() {
			select {
			case <-s.stop:
				return false
			case <-st.grpc.Context().Done():
				return false
			case <-time.After(drainTick):
			}
		}
		return true
	}
	if !wait(func() bool { return s.offered(st.key) }) {
		return
	}
	waits := s.subscribers(st)
	if !wait(func() bool { return slices.ContainsFunc(waits, (*waiting).pending) }) {
		return
	}
	if s.registry.others() {
		// Their proxies answer to them; they saw the change when this one did.
		deadline = time.Now().Add(othersWait)
		if !wait(func() bool { return true }) {
			return
		}
	}
	st.mu.Lock()
	st.drained = true
	st.mu.Unlock()
	st.poke()
}

// offered reports whether any endpoint of the workload may still be picked.
func (s *Server) offered(k proxyKey) bool {
	if k.gateway {
		return false // nobody finds a gateway through the mesh
	}
	n, snap := k.Name, s.snapshot.Load()
	w := snap.Workloads[n]
	if w == nil {
		return false
	}
	for i := range w.Ports {
		set := snap.Endpoints[mesh.PortKey{Service: w.Ports[i].Service, Port: w.Ports[i].Port}]
		if set == nil {
			continue
		}
		for j := range set.Endpoints {
			if e := &set.Endpoints[j]; e.Workload == n && (e.Health == mesh.Healthy || e.Health == mesh.Suspect) {
				return true
			}
		}
	}
	return false
}

// waiting is a stream that has to answer up to a mark.
type waiting struct {
	st     *stream
	marked uint64
}

func (w *waiting) pending() bool {
	select {
	case <-w.st.gone:
		return false
	case <-w.st.grpc.Context().Done():
		return false
	default:
	}
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	return w.st.done < w.marked
}

func (s *Server) subscribers(of *stream) []*waiting {
	snap := s.snapshot.Load()
	keys := map[mesh.Name][]string{}
	if w := snap.Workloads[of.key.Name]; w != nil && !of.key.gateway {
		for i := range w.Ports {
			k := mesh.PortKey{Service: w.Ports[i].Service, Port: w.Ports[i].Port}
			keys[k.Service] = append(keys[k.Service], control.KeyEndpointsPart+plan.Key(k))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*waiting
	for n, list := range keys {
		for st, held := range s.index[n] {
			if st != of && slices.ContainsFunc(list, func(k string) bool { return held[k] }) {
				st.mu.Lock()
				out = append(out, &waiting{st, st.marked})
				st.mu.Unlock()
			}
		}
	}
	return out
}
