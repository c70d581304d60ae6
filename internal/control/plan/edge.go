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
			out = append(out, view.Listener{Name: name, Kind: view.Edge, Address: l.Listen, Protocol: view.TCP, AcceptProxy: l.ProxyProtocol,
				TrustedProxies: l.TrustedProxies, TrustedHops: l.TrustedHops})
		}
		to := &out[at]
		to.Inbound = l.Inbound // the same for all listeners of the port
		if !l.TCP {
			to.Protocol = view.HTTP
		}
		to.Routes.Hosts = append(to.Routes.Hosts, l.Routes.Hosts...)
		to.Streams.Hosts = append(to.Streams.Hosts, l.Streams.Hosts...)
		certificates(g, l, to)
	}
	return out
}

// certificates adds a listener's certificates. One that has its port to itself
// shows its first one whatever name is asked for: clients without a name are then
// told by HTTP what is wrong. Where TLS ends for some names of a port only, those
// that are passed through are named too.
func certificates(g *mesh.Gateway, l *mesh.GatewayListener, to *view.Listener) {
	alone, ends := true, false
	for i := range g.Listeners {
		if o := &g.Listeners[i]; o.Listen == l.Listen {
			alone = alone && o.Name == l.Name
			ends = ends || len(o.Certificates) > 0
		}
	}
	if ends && len(l.Certificates) == 0 {
		to.Certificates = append(to.Certificates, view.ServerCertificate{Listener: l.Name, Hostnames: []string{l.Hostname}})
	}
	if alone && len(l.Certificates) == 1 {
		to.Certificate, to.Key = l.Certificates[0].Chain, l.Certificates[0].Key
		return
	}
	for i := range l.Certificates {
		c := view.ServerCertificate{Listener: l.Name, Hostnames: l.Certificates[i].Hostnames, Certificate: l.Certificates[i].Chain, Key: l.Certificates[i].Key}
		if alone && i == 0 {
			c.Hostnames = nil // any name
		}
		to.Certificates = append(to.Certificates, c)
	}
}
