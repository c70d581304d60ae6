package plan

import (
	"fmt"
	"slices"
	"strings"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// Find returns the workload or gateway that a person means by "cart",
// "cart.shop" or "shop/cart", or says which there are.
func Find(s *mesh.Snapshot, name string) (mesh.Name, error) {
	var all []mesh.Name
	for n := range s.Workloads {
		all = append(all, n)
	}
	for n := range s.Gateways {
		if s.Workloads[n] == nil {
			all = append(all, n)
		}
	}
	var found []mesh.Name
	var names []string
	for _, n := range all {
		if name == n.Name || name == n.String() || name == n.Namespace+"/"+n.Name {
			found = append(found, n)
		}
		names = append(names, n.String())
	}
	slices.Sort(names)
	const most = 10
	if len(names) > most {
		names = append(names[:most], "…")
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return mesh.Name{}, fmt.Errorf("proxy %q: several have that name, say which: %s", name, strings.Join(names, ", "))
	case len(names) == 0:
		return mesh.Name{}, fmt.Errorf("proxy %q: there is no Workload and no Gateway", name)
	}
	return mesh.Name{}, fmt.Errorf("proxy %q: there is no Workload or Gateway of that name, there are: %s", name, strings.Join(names, ", "))
}

// Full is everything a proxy may need, for one that runs from a file: the
// destinations of its listeners and of their routes, and with a listener that
// may lead anywhere (Capture, Forward, Names) all services. Bundle is left to
// the caller. The proxy must exist (see Find).
func Full(s *mesh.Snapshot, name mesh.Name) *view.View {
	p := Proxy(s, name, 0)
	v := &view.View{Version: s.Version, Proxy: *p,
		Destinations: map[string]*view.Destination{}, Endpoints: map[string]*view.Endpoints{}, Hosts: map[string]*view.Host{}}
	var need func(key string)
	filters := func(f *route.Filters) {
		for _, m := range f.Mirrors {
			need(m.Destination)
		}
	}
	limits := func(list []policy.RateLimit) {
		for i := range list {
			if s := list[i].Service; s != nil {
				need(s.Destination)
			}
		}
	}
	guard := func(g *policy.Guard) {
		if g != nil && g.External != nil {
			need(g.External.Destination)
		}
	}
	routes := func(spec *route.Spec) {
		for _, h := range spec.Hosts {
			for i := range h.Rules {
				filters(&h.Rules[i].Filters)
				if p := h.Rules[i].Policy; p != nil {
					guard(p.Guard)
					limits(p.Limits)
				}
				for j := range h.Rules[i].Backends {
					need(h.Rules[i].Backends[j].Destination)
					filters(&h.Rules[i].Backends[j].Filters)
				}
			}
		}
	}
	need = func(key string) {
		if _, ok := v.Endpoints[key]; ok || key == "" {
			return
		}
		e := Endpoints(s, key)
		if e == nil {
			return
		}
		v.Endpoints[key] = e
		if d := Destination(s, name.Namespace, key); d != nil {
			v.Destinations[key] = d
			routes(&d.Routes)
			routes(&d.Streams)
		}
	}
	everywhere := false
	for i := range p.Listeners {
		l := &p.Listeners[i]
		if l.Inbound != nil {
			guard(l.Inbound.Guard)
			limits(l.Inbound.Limits)
		}
		switch l.Kind {
		case view.Explicit:
			need(l.Destination)
		case view.Edge:
			routes(&l.Routes)
			routes(&l.Streams)
		case view.Capture, view.Forward, view.Names:
			everywhere = true
		}
	}
	if !everywhere {
		return v
	}
	for n, svc := range s.Services {
		for _, port := range svc.Ports {
			need(Key(mesh.PortKey{Service: n, Port: port.Port}))
		}
		names := []string{n.String(), n.String() + ".svc", n.String() + ".svc." + s.Settings.ClusterDomain}
		if n.Namespace == name.Namespace {
			names = append(names, n.Name)
		}
		for _, a := range svc.Addresses {
			names = append(names, a.String())
		}
		for _, h := range names {
			v.Hosts[h] = Host(s, name.Namespace, h)
		}
	}
	return v
}
