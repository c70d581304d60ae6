package live

import (
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// implied returns the resources that a destination makes necessary: the
// endpoints of its routes' backends, or its own when it has no route.
func implied(d *view.Destination) []string {
	var keys []string
	if len(d.Routes.Hosts) == 0 && len(d.Streams.Hosts) == 0 {
		keys = append(keys, EndpointsKey(d.Key))
	}
	for b := range destinations(&d.Routes) {
		keys = append(keys, EndpointsKey(b))
	}
	for b := range destinations(&d.Streams) {
		keys = append(keys, EndpointsKey(b))
	}
	return keys
}

// destinations calls yield with each place that a route's requests may go to,
// copies included.
func destinations(routes *route.Spec) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		ok := true
		give := func(key string) {
			if ok && key != "" {
				ok = yield(key)
			}
		}
		mirrors := func(f *route.Filters) {
			for i := range f.Mirrors {
				give(f.Mirrors[i].Destination)
			}
		}
		for i := range routes.Hosts {
			for j := range routes.Hosts[i].Rules {
				r := &routes.Hosts[i].Rules[j]
				mirrors(&r.Filters)
				for k := range r.Backends {
					give(r.Backends[k].Destination)
					mirrors(&r.Backends[k].Filters)
				}
			}
		}
	}
}

// implied returns the resources that the proxy's own listeners make necessary:
// of an Edge listener's backends also what they speak, and the policy for them.
func (p *Proxy) implied() []string {
	var keys []string
	both := func(key string) { keys = append(keys, DestinationKey(key), EndpointsKey(key)) }
	for _, l := range p.Listeners {
		l.externals(both)
		switch l.Kind {
		case view.Explicit, view.Edge:
			if l.Destination != "" {
				both(l.Destination)
			}
			for key := range destinations(&l.Listener.Routes) {
				both(key)
			}
			for key := range destinations(&l.Listener.Streams) {
				both(key)
			}
		}
	}
	return keys
}
