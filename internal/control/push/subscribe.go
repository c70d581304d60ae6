package push

import (
	"tulle.dev/tulle/internal/control/plan"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/wire/control"
)

func (s *Server) subscribe(st *stream, keys []string) bool {
	snap := s.snapshot.Load()
	s.mu.Lock()
	st.mu.Lock()
	defer s.mu.Unlock()
	defer st.mu.Unlock()
	for _, key := range keys {
		if st.subs[key] != nil {
			continue
		}
		if len(st.subs) >= maxSubscriptions {
			return false
		}
		sub := &subscription{version: st.held[key]}
		delete(st.held, key)
		st.subs[key] = sub
		st.dirty[key] = true
		st.marked++
		if key == control.KeyProxy || key == control.KeyBundle {
			continue
		}
		sub.service = plan.ServiceOf(snap, st.key.Namespace, key)
		if snap.Services[sub.service] == nil && !endsInPort(key) {
			sub.service = mesh.Name{} // an unknown host: any new service may be it
		}
		if s.index[sub.service] == nil {
			s.index[sub.service] = map[*stream]map[string]bool{}
		}
		if s.index[sub.service][st] == nil {
			s.index[sub.service][st] = map[string]bool{}
		}
		s.index[sub.service][st][key] = true
	}
	st.poke()
	return true
}

func endsInPort(key string) bool {
	return len(key) > len(control.KeyHostPart) && key[:len(control.KeyHostPart)] != control.KeyHostPart
}

func (s *Server) unsubscribe(st *stream, keys []string) {
	s.mu.Lock()
	st.mu.Lock()
	defer s.mu.Unlock()
	defer st.mu.Unlock()
	for _, key := range keys {
		sub := st.subs[key]
		if sub == nil || key == control.KeyProxy || key == control.KeyBundle {
			continue
		}
		s.unindex(st, key, sub.service)
		delete(st.subs, key)
		delete(st.dirty, key)
		delete(st.rejected, key)
	}
}

// reindex follows a host look-up whose service changed. The caller holds neither lock.
func (s *Server) reindex(st *stream, snap *mesh.Snapshot, key string) {
	if endsInPort(key) || key == control.KeyProxy || key == control.KeyBundle {
		return
	}
	service := plan.ServiceOf(snap, st.key.Namespace, key)
	if snap.Services[service] == nil {
		service = mesh.Name{}
	}
	s.mu.Lock()
	st.mu.Lock()
	defer s.mu.Unlock()
	defer st.mu.Unlock()
	sub := st.subs[key]
	if sub == nil || sub.service == service {
		return
	}
	s.unindex(st, key, sub.service)
	sub.service = service
	if s.index[service] == nil {
		s.index[service] = map[*stream]map[string]bool{}
	}
	if s.index[service][st] == nil {
		s.index[service][st] = map[string]bool{}
	}
	s.index[service][st][key] = true
}
