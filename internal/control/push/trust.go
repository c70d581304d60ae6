package push

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// Trusting is how far a proxy has followed a change of the roots.
type Trusting struct {
	Proxy   mesh.Name
	Gateway bool
	// Connected proxies are asked; of one that is gone what is known is from when
	// it left.
	Connected bool
	// Bundle says that the newest roots are in force there.
	Bundle bool
	// Root is the key id of the root that its certificate is of.
	Root []byte
	// Ends is when its certificate does: from then on it is nobody.
	Ends time.Time
}

// bundle is the roots as proxies are told: the CA's, those of other meshes, and who
// is denied.
func (s *Server) bundle(snap *mesh.Snapshot) *view.Bundle {
	b := s.config.CA.Bundle()
	if s.config.Foreign != nil {
		b.Domains = append(b.Domains, s.config.Foreign()...)
	}
	if snap != nil {
		b.Denied = snap.Settings.Denied
	}
	return &b
}

// denied says whether an identity is trusted no more.
func denied(snap *mesh.Snapshot, id identity.ID) bool {
	if snap == nil {
		return false
	}
	_, found := slices.BinarySearch(snap.Settings.Denied, id.String())
	return found
}

// Trust says how far each proxy is, by name; those whose certificate has ended
// are nobody and not listed.
func (s *Server) Trust() []Trusting {
	want := encode(control.Resource{Key: control.KeyBundle, Bundle: s.bundle(s.snapshot.Load())}, nil).version
	now := s.config.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Trusting
	for _, st := range s.byName {
		out = append(out, st.trusting(want))
	}
	for key, r := range s.lately {
		if r.CertificateExpires.After(now) {
			out = append(out, Trusting{Proxy: key.Name, Gateway: key.gateway, Bundle: r.bundle == want, Root: r.root, Ends: r.CertificateExpires})
		}
	}
	slices.SortFunc(out, func(a, b Trusting) int { return strings.Compare(a.Proxy.String(), b.Proxy.String()) })
	return out
}

// trusting is called with the server's mu held.
func (st *stream) trusting(want uint64) Trusting {
	p := st.describe()
	return Trusting{Proxy: st.key.Name, Gateway: st.key.gateway, Connected: true,
		Bundle: st.inForce(control.KeyBundle) == want, Root: st.root, Ends: p.CertificateExpires}
}

// inForce is the version of a resource that the proxy has said to have taken, 0
// when it hasn't.
func (st *stream) inForce(key string) uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	sub := st.subs[key]
	if sub == nil || st.rejected[key] != "" || slices.Contains(st.alone, key) || st.flight != nil && slices.Contains(st.flight.keys, key) {
		return 0
	}
	return sub.version
}

// SignedBy reports whether the proxy's certificate is of a root.
func (t *Trusting) SignedBy(root []byte) bool { return bytes.Equal(t.Root, root) }
