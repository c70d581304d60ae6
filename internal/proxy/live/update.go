package live

import (
	"fmt"
	"strings"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// compileView makes a table of a whole view.
func compileView(v *view.View, used func(key string) *usage) (*Table, *identity.Bundle, error) {
	bundle, err := compileBundle(&v.Bundle)
	if err != nil {
		return nil, nil, fmt.Errorf("bundle: %w", err)
	}
	t := &Table{Version: v.Version}
	set := func(r control.Resource) error { return t.apply(&r, used(r.Key)) }
	if err := set(control.Resource{Key: control.KeyProxy, Proxy: &v.Proxy}); err != nil {
		return nil, nil, err
	}
	for key, d := range v.Destinations {
		if err := set(control.Resource{Key: DestinationKey(key), Destination: d}); err != nil {
			return nil, nil, err
		}
	}
	for key, e := range v.Endpoints {
		if err := set(control.Resource{Key: EndpointsKey(key), Endpoints: e}); err != nil {
			return nil, nil, err
		}
	}
	for name, h := range v.Hosts {
		if err := set(control.Resource{Key: HostKey(name), Host: h}); err != nil {
			return nil, nil, err
		}
	}
	for key, version := range v.Versions {
		if t.has(key) || !strings.Contains(key, "/") {
			continue
		}
		if err := set(control.Resource{Key: key, Version: version, Absent: true}); err != nil {
			return nil, nil, err
		}
	}
	return t, bundle, nil
}

// has reports whether the table has an answer for a resource.
func (t *Table) has(key string) bool {
	switch kind, name := splitResource(key); kind {
	case control.KeyDestinationPart:
		_, ok := t.destinations.get(name)
		return ok
	case control.KeyEndpointsPart:
		_, ok := t.endpoints.get(name)
		return ok
	case control.KeyHostPart:
		if addr, err := parseAddr(name); err == nil {
			_, ok := t.addrs.get(addr)
			return ok
		}
		_, ok := t.hosts.get(name)
		return ok
	}
	return false
}

// update puts all of an Update into force, or none of it.
func (l *Live) update(u *control.Update) error {
	l.updating.Lock()
	defer l.updating.Unlock()

	next := *l.Table()
	next.Version = u.Version
	var bundle *view.Bundle
	var compiled *identity.Bundle
	applied := make([]*control.Resource, 0, len(u.Resources))
	for i := range u.Resources {
		r := &u.Resources[i]
		var used *usage
		switch r.Key {
		case control.KeyProxy:
		case control.KeyBundle:
			if r.Bundle == nil {
				return fmt.Errorf("%s: has no bundle", r.Key)
			}
			var err error
			if compiled, err = compileBundle(r.Bundle); err != nil {
				return fmt.Errorf("%s: %w", r.Key, err)
			}
			bundle = r.Bundle
		default:
			l.mu.Lock()
			interest := l.interest[r.Key]
			l.mu.Unlock()
			if interest == nil {
				continue // not wanted any more
			}
			used = interest.used
		}
		if err := next.apply(r, used); err != nil {
			return err
		}
		applied = append(applied, r)
	}

	// From here on nothing can fail.
	if compiled != nil {
		l.credentials.SetBundle(compiled)
	}
	l.table.Store(&next)
	if l.meter != nil {
		l.meter.SetViewVersion(next.Version)
	}
	l.mu.Lock()
	if bundle != nil {
		l.bundle = bundle
		l.bundleChanged = true
		l.noteSigner(bundle)
	}
	var done []func()
	for _, r := range applied {
		done = append(done, l.answer(r, &next)...)
	}
	onChange := l.onChange
	l.mu.Unlock()

	for _, f := range onChange {
		f(&next)
	}
	for _, f := range done {
		f()
	}
	wake(l.dirty)
	return nil
}

// answer notes that a resource is in the table, asks for what follows from it,
// and returns the functions of the look-ups that need not wait any longer. l.mu
// is held.
func (l *Live) answer(r *control.Resource, t *Table) (done []func()) {
	if r.Key == control.KeyProxy || r.Key == control.KeyBundle {
		l.own[r.Key] = r.Version
		if r.Key == control.KeyProxy {
			for _, key := range t.Proxy.implied() {
				l.want(key)
			}
			l.learnRole(t)
		}
		return nil
	}
	i := l.interest[r.Key]
	if i == nil {
		return nil
	}
	waiters := i.waiters
	i.answered, i.absent, i.late, i.version, i.waiters = true, r.Absent, false, r.Version, nil
	if r.Destination != nil {
		for _, key := range implied(r.Destination) {
			l.want(key)
			for _, w := range waiters {
				w.keys = append(w.keys, key)
				l.await(w, key)
			}
		}
	}
	for _, w := range waiters {
		if w.left--; w.left == 0 {
			if f := w.finish(); f != nil {
				done = append(done, f)
			}
		}
	}
	return done
}

// learnRole notes what the control plane says this proxy is. A gateway that
// didn't say so begins again as one: the control plane keeps the two apart. l.mu
// is held.
func (l *Live) learnRole(t *Table) {
	if role := t.Proxy.Role; role == view.Gateway && l.role != role {
		l.role = role
		if l.endSession != nil {
			l.endSession(errAgain)
		}
	}
}
