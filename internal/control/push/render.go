package push

import (
	"hash/fnv"
	"strings"
	"sync"

	"tulle.dev/tulle/internal/control/plan"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

func keyOf(k mesh.PortKey) string { return plan.Key(k) }

// rendered is a resource, encoded once for every proxy that holds it.
type rendered struct {
	source  any // the part of the snapshot it was made of
	greets  bool
	version uint64
	bytes   []byte
}

// maxCached bounds the cache; it starts again empty when it is full.
const maxCached = 50_000

// cache keeps rendered resources. One is valid as long as the snapshot still
// has the very value it was made of: values are shared between snapshots.
type cache struct {
	mu    sync.Mutex
	items map[string]rendered
}

// render encodes one resource for a proxy. Its version is a hash of its
// contents, so that it means the same after a restart and on every replica.
func (s *Server) render(snap *mesh.Snapshot, st *stream, key string) (rendered, bool) {
	switch key {
	case control.KeyProxy:
		role := view.Sidecar
		if st.key.gateway {
			role = view.Gateway
		}
		p := plan.Proxy(snap, st.key.Name, role)
		if p == nil {
			// Its object went away: no listeners, but the same identity.
			p = &view.Proxy{Name: st.key.Name.Name, Namespace: st.key.Namespace, Role: role, Identity: st.identity.String(),
				TrustDomain: string(snap.Settings.TrustDomain), ClusterDomain: snap.Settings.ClusterDomain}
		}
		if p.Zone == "" {
			p.Zone = st.hello.Zone
		}
		return encode(control.Resource{Key: key, Proxy: p}, nil), true
	case control.KeyBundle:
		return encode(control.Resource{Key: key, Bundle: s.bundle(snap)}, nil), true
	}
	name := key
	if rest, ok := strings.CutPrefix(key, control.KeyHostPart); ok && !strings.Contains(rest, ".") {
		name = st.key.Namespace + "\x00" + key // looked up in the proxy's namespace
	}
	if strings.HasPrefix(key, control.KeyDestinationPart) && plan.OwnView(snap.Services[plan.ServiceOf(snap, st.key.Namespace, key)], st.key.Namespace) {
		name = st.key.Namespace + "\x00" + key // that namespace has routes of its own to it
	}
	source := sourceOf(snap, st.key.Namespace, key)
	greets := s.greetings.of(key)
	s.cache.mu.Lock()
	r, ok := s.cache.items[name]
	s.cache.mu.Unlock()
	if ok && r.source == source && r.greets == greets {
		return r, true
	}
	resource, ok := plan.Resource(snap, st.key.Namespace, key)
	if !ok {
		return rendered{}, false
	}
	if d := resource.Destination; d != nil && greets && d.Protocol == view.Detect && len(d.Routes.Hosts) == 0 && len(d.Streams.Hosts) == 0 {
		d.ServerFirst = true
	}
	r = encode(resource, source)
	r.greets = greets
	s.cache.mu.Lock()
	if s.cache.items == nil || len(s.cache.items) >= maxCached {
		s.cache.items = map[string]rendered{}
	}
	s.cache.items[name] = r
	s.cache.mu.Unlock()
	return r, true
}

// sourceOf is what a resource is made of: a pointer that changes when it does.
func sourceOf(snap *mesh.Snapshot, namespace, key string) any {
	if rest, ok := strings.CutPrefix(key, control.KeyEndpointsPart); ok {
		k, _ := plan.ParseKey(rest)
		return snap.Endpoints[k]
	}
	return snap.Services[plan.ServiceOf(snap, namespace, key)]
}

func encode(r control.Resource, source any) rendered {
	r.Version = 0
	h := fnv.New64a()
	h.Write(control.AppendResource(nil, &r))
	r.Version = h.Sum64()
	if r.Version == 0 {
		r.Version = 1
	}
	return rendered{source: source, version: r.Version, bytes: control.AppendResource(nil, &r)}
}
