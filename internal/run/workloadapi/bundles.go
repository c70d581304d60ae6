package workloadapi

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// askEvery is how old trust bundles may be that are answered with: however many
// callers there are, the control plane is asked no more often.
const askEvery = 2 * time.Second

// Bundles are the trust bundles that a workload is told of.
type Bundles struct {
	// Documents are SPIFFE bundle documents by trust domain, the workload's own among
	// them.
	Documents map[string][]byte
	// Denied are SPIFFE ids that aren't believed all the same.
	Denied []string
}

// trusted is Bundles, read. Immutable.
type trusted struct {
	domain  string            // our own, as a SPIFFE id
	roots   map[string][]byte // DER, one after another, by the domain's SPIFFE id
	jwt     map[string]*jwtbundle.Bundle
	set     *spiffebundle.Set
	denied  map[string]bool
	foreign map[string][]byte // roots without our own
}

func read(own string, b *Bundles) (*trusted, error) {
	t := &trusted{domain: "spiffe://" + own, roots: map[string][]byte{}, jwt: map[string]*jwtbundle.Bundle{}, set: spiffebundle.NewSet(), denied: map[string]bool{}}
	for name, doc := range b.Documents {
		td, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return nil, err
		}
		parsed, err := spiffebundle.Parse(td, doc)
		if err != nil {
			return nil, fmt.Errorf("the trust bundle of %s: %w", name, err)
		}
		var roots [][]byte
		for _, c := range parsed.X509Authorities() {
			roots = append(roots, c.Raw)
		}
		if len(roots) > 0 {
			t.roots[td.IDString()] = bytes.Join(roots, nil)
		}
		t.jwt[td.IDString()] = parsed.JWTBundle()
		t.set.Add(parsed)
	}
	if t.roots[t.domain] == nil {
		return nil, fmt.Errorf("the trust bundles hold no root of %s", own)
	}
	t.foreign = maps.Clone(t.roots)
	delete(t.foreign, t.domain)
	for _, id := range b.Denied {
		t.denied[id] = true
	}
	return t, nil
}

// sameRoots says that X.509-SVIDs are judged alike.
func (t *trusted) sameRoots(o *trusted) bool {
	return o != nil && maps.EqualFunc(t.roots, o.roots, bytes.Equal)
}

// sameKeys says that JWT-SVIDs are judged alike.
func (t *trusted) sameKeys(o *trusted) bool {
	return o != nil && maps.EqualFunc(t.jwt, o.jwt, (*jwtbundle.Bundle).Equal)
}

// bundles returns the trust bundles as of askEvery ago or later. With an error come
// those that were known last, nil when none ever were.
func (s *Server) bundles(ctx context.Context) (*trusted, error) {
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return s.last(), ctx.Err()
	}
	if time.Since(s.asked) < askEvery {
		return s.last(), s.askError
	}
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	b, err := s.issuer.Bundles(ctx)
	var t *trusted
	if err == nil {
		t, err = read(string(s.id.TrustDomain), b)
	}
	s.asked, s.askError = time.Now(), err
	if ctx.Err() != nil {
		s.asked = time.Time{} // the caller's haste is no answer
	}
	if err != nil {
		return s.last(), err
	}
	s.mu.Lock()
	s.known = t
	s.mu.Unlock()
	return t, nil
}

// last is what was known last.
func (s *Server) last() *trusted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known
}
