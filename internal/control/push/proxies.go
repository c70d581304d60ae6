package push

import (
	"slices"
	"strings"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/wire/control"
)

// maxLately bounds how many proxies that are gone are remembered.
const maxLately = 1000

// record is a proxy that is gone, as it was.
type record struct {
	client.Proxy
	bundle uint64 // the version of the roots it had
	root   []byte // key id of the root its certificate is of
}

// describe is called with the server's mu held.
func (st *stream) describe() client.Proxy {
	st.mu.Lock()
	defer st.mu.Unlock()
	expires := st.expires
	if t := st.server.ends[st.identity]; t.After(expires) {
		expires = t
	}
	return client.Proxy{
		Name: st.key.Name.Name, Namespace: st.key.Namespace, Role: st.role(), Identity: st.identity.String(),
		Version: st.hello.Version, UID: st.hello.UID, PID: st.hello.PID, Mode: st.hello.Mode, Zone: st.hello.Zone, Admin: st.hello.Admin,
		Connected: true, Since: st.since, Ready: st.status.Ready, Draining: st.status.Draining, Detail: st.status.Detail,
		CertificateExpires: expires, Sent: st.sent, Acknowledged: st.acked, Rejected: st.reason(), Subscriptions: len(st.subs),
	}
}

// remember keeps a proxy that left, for `check` and `get`. The caller holds mu.
func (s *Server) remember(st *stream) {
	if len(s.lately) >= maxLately {
		var oldest proxyKey
		for k, r := range s.lately {
			if o := s.lately[oldest]; o == nil || r.Since.Before(o.Since) {
				oldest = k
			}
		}
		delete(s.lately, oldest)
	}
	p := st.describe()
	p.Connected, p.Since = false, s.config.Now()
	s.lately[st.key] = &record{p, st.inForce(control.KeyBundle), st.root}
}

// Forget drops a proxy that is gone and won't come back: its object was deleted.
func (s *Server) Forget(n mesh.Name, gateway bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lately, proxyKey{n, gateway})
}

// Proxies lists the connected proxies and those that lately left, by name.
func (s *Server) Proxies() []client.Proxy {
	s.mu.Lock()
	out := make([]client.Proxy, 0, len(s.streams)+len(s.lately))
	for _, st := range s.byName {
		out = append(out, st.describe())
	}
	for _, r := range s.lately {
		out = append(out, r.Proxy)
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b client.Proxy) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// Connected counts the conversations.
func (s *Server) Connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byName)
}

// Suspects lists the workloads that are kept although their lease ended.
func (s *Server) Suspects() []mesh.Name {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	var out []mesh.Name
	for n := range s.registry.suspects {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b mesh.Name) int { return strings.Compare(a.String(), b.String()) })
	return out
}
