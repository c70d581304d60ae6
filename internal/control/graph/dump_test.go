package graph

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
)

func dumpMesh(s *mesh.Snapshot) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	st := s.Settings
	p("settings %s %s ttl=%s plaintext=%v %+v", st.TrustDomain, st.ClusterDomain, st.CertificateTTL, st.Plaintext, st.Proxy)
	for _, n := range sortedKeys(s.Services) {
		svc := s.Services[n]
		p("service %s %v", n, svc.Addresses)
		for _, port := range svc.Ports {
			p("  port %d %s target=%d %s", port.Port, port.Name, port.Target, protocolName(port.Protocol))
			dumpTable(p, "routes", svc.Routes, port.Port)
			dumpTable(p, "streams", svc.Streams, port.Port)
			for _, ns := range slices.Sorted(maps.Keys(svc.Consumers)) {
				dumpTable(p, "routes for "+ns, svc.Consumers[ns], port.Port)
			}
			for _, ns := range slices.Sorted(maps.Keys(svc.ConsumerStreams)) {
				dumpTable(p, "streams for "+ns, svc.ConsumerStreams[ns], port.Port)
			}
			if r := svc.Request[port.Port]; r != nil {
				p("    request %s", show(r, policy.DefaultRequest))
			}
			if u := svc.Upstream[port.Port]; u != nil {
				p("    upstream %s", show(u, policy.DefaultUpstream))
			}
			if m := svc.MutualTLS[port.Port]; m != 0 {
				p("    mutual TLS %s", [...]string{"", "strict", "permissive", "off"}[m])
			}
			if i := svc.Inbound[port.Port]; i != nil {
				p("    inbound %s", show(i, &policy.Inbound{}))
			}
			dumpSources(p, "    ", svc.Sources[port.Port])
			if set := s.Endpoints[mesh.PortKey{Service: n, Port: port.Port}]; set != nil {
				for _, e := range set.Endpoints {
					labels := ""
					if e.Labels != "" {
						labels = " labels=" + e.Labels
					}
					p("    endpoint %s %s identity=%q workload=%s zone=%q%s", e.Address, [...]string{"healthy", "suspect", "unhealthy", "draining"}[e.Health], e.Identity, e.Workload, e.Zone, labels)
				}
			}
		}
	}
	for _, n := range sortedKeys(s.Workloads) {
		w := s.Workloads[n]
		p("workload %s %s at %s", n, w.Identity, w.Address)
		for _, port := range w.Ports {
			p("  serves %s:%d app=%s mesh=%v %s", port.Service, port.Port, port.App, port.Mesh, protocolName(port.Protocol))
		}
		for _, o := range w.Outbound {
			p("  outbound %s -> %s:%d", o.Listen, o.To.Service, o.To.Port)
		}
		if len(w.Capture)+len(w.Forward)+len(w.Names) > 0 {
			p("  capture=%v forward=%v names=%v", w.Capture, w.Forward, w.Names)
		}
	}
	for _, n := range sortedKeys(s.Gateways) {
		g := s.Gateways[n]
		p("gateway %s %s", n, g.Identity)
		for _, l := range g.Listeners {
			p("  listener %s %s host=%s", l.Name, l.Listen, l.Hostname)
			for _, c := range l.Certificates {
				p("    certificate of %s for %v", namesOf(c.Chain, "*"), c.Hostnames)
			}
			if l.Inbound != nil {
				p("    inbound %s", show(l.Inbound, &policy.Inbound{}))
			}
			dumpRoutes(p, "    ", l.Routes)
			if l.TCP {
				p("    streams")
				dumpRoutes(p, "    ", l.Streams)
			}
			dumpSources(p, "    ", g.Sources[l.Name])
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(s.Egress)) {
		e := s.Egress[ns]
		p("egress of %q by %s allow=%v audit=%v", ns, e.From, e.Allow, e.Audit)
		for i := range e.Destinations {
			d := &e.Destinations[i]
			p("  %s hosts=%v networks=%v ports=%v callers=%v refused=%v", d.Name, d.Hosts, d.Networks, d.Ports, d.Callers, d.Refused)
			if d.TLS != nil {
				p("    TLS name=%q roots=%d certificate of %v", d.TLS.ServerName, len(d.TLS.Roots), namesOf(d.TLS.Certificate, "*"))
			}
		}
	}
	return b.String()
}

func dumpTable(p func(string, ...any), what string, tables map[uint16]route.Spec, port uint16) {
	if spec, ok := tables[port]; ok {
		p("    %s", what)
		dumpRoutes(p, "    ", spec)
	}
}

func dumpSources(p func(string, ...any), indent string, list []mesh.FieldSource) {
	for _, s := range list {
		rule := ""
		if s.Rule != "" {
			rule = " of " + s.Rule
		}
		p("%s%s%s = %s (%s)", indent, s.Field, rule, s.Value, s.From)
	}
}

func protocolName(p mesh.Protocol) string {
	return [...]string{"detect", "http", "tcp", "http2"}[p]
}

func dumpRoutes(p func(string, ...any), indent string, spec route.Spec) {
	for _, h := range spec.Hosts {
		p("%shost %v", indent, h.Hostnames)
		for _, r := range h.Rules {
			line := r.Name
			if r.Section != "" {
				line += " (" + r.Section + ")"
			}
			if r.Timeout != 0 {
				line += " timeout=" + r.Timeout.String()
			}
			p("%s  %s", indent, line)
			for _, m := range r.Matches {
				p("%s    match%s", indent, matchText(&m))
			}
			if text := show(&r.Filters, &route.Filters{}); text != "" {
				p("%s    filters %s", indent, text)
			}
			if r.Session != (policy.Session{}) {
				p("%s    session %s", indent, show(&r.Session, &policy.Session{}))
			}
			if r.Policy != nil {
				p("%s    policy %s", indent, show(r.Policy, policy.DefaultRequest))
			}
			for _, k := range r.Backends {
				p("%s", strings.TrimRight(fmt.Sprintf("%s    to %q weight %d %s", indent, k.Destination, k.Weight, show(&k.Filters, &route.Filters{})), " "))
			}
		}
	}
}

func matchText(m *route.Match) string {
	out := " " + [...]string{"any", "exact ", "prefix ", "regex ", "grpc method "}[m.Path.Kind] + m.Path.Value
	if m.Method != "" {
		out += " " + m.Method
	}
	for i, list := range [][]route.Field{m.Headers, m.Query} {
		for _, f := range list {
			out += " " + [...]string{"header", "query"}[i] + " " + f.Name + map[bool]string{true: "~", false: "="}[f.Regex] + f.Value
		}
	}
	return out
}

// show writes the fields of a struct that differ from another one's.
func show(value, base any) string {
	return strings.Join(differing("", reflect.ValueOf(value).Elem(), reflect.ValueOf(base).Elem()), " ")
}

func differing(path string, v, base reflect.Value) []string {
	if reflect.DeepEqual(v.Interface(), base.Interface()) {
		return nil
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		return []string{path + "=" + v.Interface().(time.Time).UTC().Format(time.RFC3339)}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		if inner := differing(path, v.Elem(), reflect.Zero(v.Type().Elem())); inner != nil {
			return inner
		}
		return []string{path + "={}"}
	case v.Kind() == reflect.Struct:
		var out []string
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if path != "" {
				name = path + "." + name
			}
			out = append(out, differing(name, v.Field(i), base.Field(i))...)
		}
		return out
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		var out []string
		for i := range v.Len() {
			item := differing(fmt.Sprintf("%s[%d]", path, i), v.Index(i), reflect.Zero(v.Type().Elem()))
			if item == nil {
				item = []string{fmt.Sprintf("%s[%d]={}", path, i)}
			}
			out = append(out, item...)
		}
		return out
	}
	return []string{fmt.Sprintf("%s=%v", path, v.Interface())}
}
