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

func checkRule(r *route.Rule) error {
	if err := checkFilters(&r.Filters); err != nil {
		return fmt.Errorf("filters.%w", err)
	}
	for i := range r.Backends {
		b := &r.Backends[i]
		if b.Destination != "" { // else answered 500
			if err := checkKey(b.Destination); err != nil {
				return fmt.Errorf("backends[%d].destination: %w", i, err)
			}
		}
		if err := checkFilters(&b.Filters); err != nil {
			return fmt.Errorf("backends[%d].filters.%w", i, err)
		}
	}
	return nil
}

// checkFilters refuses what would make other messages of those that pass.
func checkFilters(f *route.Filters) error {
	if err := checkModifier(f.Request); err != nil {
		return fmt.Errorf("request.%w", err)
	}
	if err := checkModifier(f.Response); err != nil {
		return fmt.Errorf("response.%w", err)
	}
	for i, m := range f.Mirrors {
		if m.Destination == "" {
			continue // nothing is sent
		}
		if err := checkKey(m.Destination); err != nil {
			return fmt.Errorf("mirrors[%d].destination: %w", i, err)
		}
	}
	return nil
}

func checkModifier(m *route.Modifier) error {
	if m == nil {
		return nil
	}
	for _, list := range [][]route.Value{m.Set, m.Add} {
		for _, v := range list {
			if !route.Writable(v.Name) {
				return fmt.Errorf("set or add: field %q may not be written by a filter", v.Name)
			}
			if !route.ValidValue(v.Value) {
				return fmt.Errorf("set or add: the value of %q holds what may not stand in a field", v.Name)
			}
		}
	}
	for _, name := range m.Remove {
		if !route.Writable(name) {
			return fmt.Errorf("remove: field %q may not be taken away by a filter", name)
		}
	}
	return nil
}
