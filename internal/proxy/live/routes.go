package live

import (
	"fmt"

	"tulle.dev/tulle/internal/route"
)

// This file compiles routes. Its errors begin with a field path, as those of
// compile.go do.

func compileRoutes(spec route.Spec) (*route.Table, error) {
	t, err := route.Compile(spec)
	if err != nil {
		return nil, fmt.Errorf("routes.%w", err)
	}
	for i := range spec.Hosts {
		for j := range spec.Hosts[i].Rules {
			if err := checkRule(&spec.Hosts[i].Rules[j]); err != nil {
				return nil, fmt.Errorf("routes.hosts[%d].rules[%d].%w", i, j, err)
			}
		}
	}
	return t, nil
}

func compileStreams(spec route.Spec) (*Streams, error) {
	if len(spec.Hosts) == 0 {
		return nil, nil
	}
	t, err := route.Compile(spec)
	if err != nil {
		return nil, fmt.Errorf("streams.%w", err)
	}
	s := &Streams{Table: t}
	for i, h := range spec.Hosts {
		for _, name := range h.Hostnames {
			s.ByName = s.ByName || name != "*"
		}
		for j := range h.Rules {
			r := &h.Rules[j]
			if len(r.Matches) > 0 {
				return nil, fmt.Errorf("streams.hosts[%d].rules[%d].matches: there are some, and nothing to look at but the name", i, j)
			}
			if err := checkRule(r); err != nil {
				return nil, fmt.Errorf("streams.hosts[%d].rules[%d].%w", i, j, err)
			}
		}
	}
	return s, nil
}

// checkRule refuses what route doesn't look at: where the requests go.
func checkRule(r *route.Rule) error {
	if err := checkMirrors(&r.Filters); err != nil {
		return fmt.Errorf("filters.%w", err)
	}
	for i := range r.Backends {
		b := &r.Backends[i]
		if b.Destination != "" { // else answered 500
			if err := checkKey(b.Destination); err != nil {
				return fmt.Errorf("backends[%d].destination: %w", i, err)
			}
		}
		if err := checkMirrors(&b.Filters); err != nil {
			return fmt.Errorf("backends[%d].filters.%w", i, err)
		}
	}
	return nil
}

func checkMirrors(f *route.Filters) error {
	for i := range f.Mirrors {
		if key := f.Mirrors[i].Destination; key != "" { // else nothing is sent
			if err := checkKey(key); err != nil {
				return fmt.Errorf("mirrors[%d].destination: %w", i, err)
			}
		}
	}
	return nil
}
