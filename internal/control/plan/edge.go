package plan

import (
	"fmt"
	"slices"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
)

// edge makes one listener of a proxy for each address and port of a gateway: the
// gateway's listeners that share one differ by hostname, and their tables have no
// hostname in common.
func edge(g *mesh.Gateway) []view.Listener {
	var out []view.Listener
	var names []string
	for i := range g.Listeners {
		l := &g.Listeners[i]
		at := slices.IndexFunc(out, func(o view.Listener) bool { return o.Address == l.Listen })
		if at < 0 {
			name := l.Name
			for n := 2; slices.Contains(names, name); n++ {
				name = fmt.Sprintf("%s-%d", l.Name, n)
			}
			names = append(names, name)
			at = len(out)
			out = append(out, view.Listener{Name: name, Kind: view.Edge, Address: l.Listen, Protocol: view.TCP, AcceptProxy: l.ProxyProtocol})
		}
		to := &out[at]
		if !l.TCP {
			to.Protocol = view.HTTP
		}
		to.Routes.Hosts = append(to.Routes.Hosts, l.Routes.Hosts...)
		to.Streams.Hosts = append(to.Streams.Hosts, l.Streams.Hosts...)
		certificates(g, l, to)
	}
	return out
}

// certificates adds a listener's certificates. Where the listener has its port to
// itself, its first one is shown whatever name is asked for: clients without a
// name are then told by HTTP what is wrong.
func certificates(g *mesh.Gateway, l *mesh.GatewayListener, to *view.Listener) {
	alone := !slices.ContainsFunc(g.Listeners, func(o mesh.GatewayListener) bool { return o.Name != l.Name && o.Listen == l.Listen })
	for i := range l.Certificates {
		c := &l.Certificates[i]
		if i == 0 && (alone || l.Hostname == "*") {
			to.Certificate, to.Key = c.Chain, c.Key
			if alone {
				continue
			}
		}
		to.Certificates = append(to.Certificates, view.ServerCertificate{Listener: l.Name, Hostnames: c.Hostnames, Certificate: c.Chain, Key: c.Key})
	}
}
