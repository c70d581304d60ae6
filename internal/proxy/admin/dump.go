package admin

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

func (s *Server) json(v any) answer {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return text(500, "can't show this: "+err.Error()+"\n")
	}
	return answer{status: 200, media: "application/json", body: append(b, '\n')}
}

// dump gathers all that the proxy believes. Keys and tokens are not in it.
func (s *Server) dump() map[string]any {
	t := s.config.Live.Table()
	d := map[string]any{
		"version":      s.config.Version,
		"started":      s.started.UTC(),
		"time":         time.Now().UTC(),
		"view_version": t.Version,
		"control":      dumpLink(s.config.Live.Link()),
		"identity":     dumpIdentity(s.config.Live.Credentials(), s.config.Live.Link()),
		"destinations": dumpDestinations(t),
		"endpoints":    dumpEndpoints(t),
		"hosts":        dumpHosts(t),
	}
	if err := s.ready(); err != nil {
		d["not_ready"] = err.Error()
	}
	if t.Proxy != nil {
		d["proxy"] = dumpProxy(t.Proxy)
		d["listeners"] = dumpListeners(t.Proxy)
	}
	s.mu.Lock()
	sections := s.sections
	s.mu.Unlock()
	for _, c := range sections {
		d[c.name] = c.f()
	}
	return d
}

type linkDump struct {
	Address       string    `json:"address,omitempty"`
	Connected     bool      `json:"connected"`
	Since         time.Time `json:"since,omitzero"`
	Error         string    `json:"error,omitempty"`
	IdentityError string    `json:"identity_error,omitempty"`
	SaveError     string    `json:"save_error,omitempty"`
	Rejected      string    `json:"rejected,omitempty"`
	Lookups       int       `json:"lookups"`
	Ready         bool      `json:"app_ready"`
	Draining      bool      `json:"draining"`
	Detail        string    `json:"detail,omitempty"`
}

func dumpLink(k live.Link) linkDump {
	return linkDump{
		Address: k.Address, Connected: k.Connected, Since: k.Since.UTC(), Error: k.Error,
		IdentityError: k.IdentityError, SaveError: k.SaveError, Rejected: k.Rejected, Lookups: k.Lookups,
		Ready: k.Status.Ready, Draining: k.Status.Draining, Detail: k.Status.Detail,
	}
}

type identityDump struct {
	ID        string            `json:"id,omitempty"`
	UniqueID  string            `json:"unique_id,omitempty"`
	Serial    string            `json:"serial,omitempty"`
	NotBefore time.Time         `json:"not_before,omitzero"`
	NotAfter  time.Time         `json:"not_after,omitzero"`
	Chain     int               `json:"chain_length,omitempty"`
	Issuer    string            `json:"issuer,omitempty"`
	Renewal   time.Time         `json:"renewal,omitzero"`
	Roots     uint64            `json:"bundle_version,omitempty"`
	Denied    []string          `json:"denied,omitempty"`
	Bundle    []trustDomainDump `json:"bundle"`
}

type trustDomainDump struct {
	Name  string     `json:"trust_domain"`
	Roots []rootDump `json:"roots"`
}

type rootDump struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	SHA256   string    `json:"sha256"`
}

func dumpIdentity(c *identity.Credentials, k live.Link) identityDump {
	d := identityDump{Bundle: []trustDomainDump{}, Renewal: k.Renewal.UTC(), Roots: k.Roots}
	if s := c.SVID(); s != nil {
		d.ID, d.UniqueID = s.ID.String(), identity.UniqueID(s.Leaf)
		d.Serial = s.Leaf.SerialNumber.Text(16)
		d.NotBefore, d.NotAfter = s.Leaf.NotBefore.UTC(), s.Leaf.NotAfter.UTC()
		d.Chain = len(s.Certificate.Certificate)
		d.Issuer = s.Leaf.Issuer.String()
	}
	b := c.Bundle()
	for _, id := range b.AllDenied() {
		d.Denied = append(d.Denied, id.String())
	}
	domains := b.Domains()
	slices.Sort(domains)
	for _, name := range domains {
		t := trustDomainDump{Name: string(name)}
		for _, root := range b.Roots(name) {
			t.Roots = append(t.Roots, dumpRoot(root))
		}
		d.Bundle = append(d.Bundle, t)
	}
	return d
}

func dumpRoot(c *x509.Certificate) rootDump {
	sum := sha256.Sum256(c.Raw)
	return rootDump{Subject: c.Subject.String(), NotAfter: c.NotAfter.UTC(), SHA256: hex.EncodeToString(sum[:])}
}

type proxyDump struct {
	Name          string            `json:"name"`
	Namespace     string            `json:"namespace"`
	Role          string            `json:"role"`
	Identity      string            `json:"identity,omitempty"`
	TrustDomain   string            `json:"trust_domain,omitempty"`
	ClusterDomain string            `json:"cluster_domain,omitempty"`
	Settings      map[string]string `json:"settings,omitempty"`
	Limits        map[string]uint32 `json:"limits,omitempty"`
	PeerProtocol  string            `json:"peer_protocol,omitempty"`
}

func dumpProxy(p *live.Proxy) proxyDump {
	d := proxyDump{
		Name: p.Name, Namespace: p.Namespace, Role: "sidecar", Identity: p.Identity,
		TrustDomain: p.TrustDomain, ClusterDomain: p.ClusterDomain,
		Settings: map[string]string{}, Limits: map[string]uint32{},
	}
	if p.Role == view.Gateway {
		d.Role = "gateway"
	}
	switch p.Settings.PeerProtocol {
	case view.PeerHTTP1:
		d.PeerProtocol = "http1"
	case view.PeerHTTP2:
		d.PeerProtocol = "http2"
	}
	for name, v := range map[string]time.Duration{
		"connect_timeout": p.Settings.ConnectTimeout, "head_timeout": p.Settings.HeadTimeout,
		"idle_timeout": p.Settings.IdleTimeout, "pool_idle": p.Settings.PoolIdle,
		"stream_idle": p.Settings.StreamIdle, "drain_timeout": p.Settings.DrainTimeout,
	} {
		if v != 0 {
			d.Settings[name] = v.String()
		}
	}
	for name, v := range map[string]uint32{
		"max_head": p.Settings.MaxHead, "max_fields": p.Settings.MaxFields,
		"max_connections": p.Settings.MaxConnections,
	} {
		if v != 0 {
			d.Limits[name] = v
		}
	}
	return d
}

type listenerDump struct {
	Name        string      `json:"name"`
	Kind        string      `json:"kind"`
	Address     string      `json:"address"`
	Protocol    string      `json:"protocol"`
	Destination string      `json:"destination,omitempty"`
	App         string      `json:"app,omitempty"`
	Plaintext   bool        `json:"plaintext,omitempty"`
	AcceptProxy bool        `json:"accept_proxy,omitempty"`
	SendProxy   uint8       `json:"send_proxy,omitempty"` // the version
	HTTPS       bool        `json:"https,omitempty"`
	Routes      []routeHost `json:"routes,omitempty"`
	Streams     []routeHost `json:"streams,omitempty"`
	// Certificate is the first of Certificates.
	Certificate  *listenerCerts  `json:"certificate,omitempty"`
	Certificates []listenerCerts `json:"certificates,omitempty"`
	Access       *accessDump     `json:"access,omitempty"`
}

type listenerCerts struct {
	// Listener is the Gateway listener that the certificate is of.
	Listener string    `json:"listener,omitempty"`
	Names    []string  `json:"names"`
	NotAfter time.Time `json:"not_after"`
}

var kindNames = map[view.ListenerKind]string{
	view.Capture: "capture", view.Explicit: "explicit", view.Forward: "forward",
	view.Inbound: "inbound", view.Edge: "edge", view.Names: "names",
}

func protocolName(p view.Protocol) string {
	switch p {
	case view.HTTP:
		return "http"
	case view.TCP:
		return "tcp"
	case view.HTTP2:
		return "http2"
	}
	return "detect"
}

// accessDump is who may come in, by the names of the rules.
type accessDump struct {
	Default string           `json:"default"`
	Rules   []accessRuleDump `json:"rules"`
}

type accessRuleDump struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	Audit  bool   `json:"audit,omitempty"`
}

func dumpAccess(s *access.Spec) *accessDump {
	d := &accessDump{Default: s.Default.String(), Rules: []accessRuleDump{}}
	for i := range s.Rules {
		r := &s.Rules[i]
		d.Rules = append(d.Rules, accessRuleDump{r.Name, r.Action.String(), r.Audit})
	}
	return d
}

func dumpListeners(p *live.Proxy) []listenerDump {
	list := []listenerDump{}
	for _, l := range p.Listeners {
		d := listenerDump{
			Name: l.Name, Kind: kindNames[l.Kind], Address: l.Address.String(), Protocol: protocolName(l.Protocol),
			Destination: l.Destination, Plaintext: l.Plaintext, AcceptProxy: l.AcceptProxy, SendProxy: uint8(l.SendProxy), HTTPS: l.Certificates != nil,
			Routes: dumpRoutes(&l.Listener.Routes), Streams: dumpRoutes(&l.Listener.Streams),
		}
		if l.App.IsValid() {
			d.App = l.App.String()
		}
		if l.Access != nil {
			d.Access = dumpAccess(l.Inbound.Guard.Access)
		}
		for served, pair := range l.Certificates.All() {
			if leaf := pair.Leaf; leaf != nil {
				c := listenerCerts{Listener: served.Listener, Names: leaf.DNSNames, NotAfter: leaf.NotAfter.UTC()}
				if d.Certificate == nil {
					d.Certificate = &c
				}
				d.Certificates = append(d.Certificates, c)
			}
		}
		list = append(list, d)
	}
	return list
}

type routeHost struct {
	Hostnames []string   `json:"hostnames"`
	Rules     []ruleDump `json:"rules"`
}

type ruleDump struct {
	Name     string        `json:"name,omitempty"`
	Matches  []matchDump   `json:"matches,omitempty"`
	Filters  []string      `json:"filters,omitempty"`
	Backends []backendDump `json:"backends"`
	Timeout  string        `json:"timeout,omitempty"`
}

type matchDump struct {
	Path    string            `json:"path,omitempty"`
	Prefix  string            `json:"path_prefix,omitempty"`
	Regex   string            `json:"path_expression,omitempty"`
	GRPC    string            `json:"grpc_method,omitempty"`
	Method  string            `json:"method,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Query   map[string]string `json:"query,omitempty"`
}

type backendDump struct {
	Destination string `json:"destination"`
	Weight      uint32 `json:"weight"`
}

func dumpRoutes(s *route.Spec) []routeHost {
	var hosts []routeHost
	for _, h := range s.Hosts {
		d := routeHost{Hostnames: h.Hostnames, Rules: []ruleDump{}}
		for _, r := range h.Rules {
			d.Rules = append(d.Rules, dumpRule(&r))
		}
		hosts = append(hosts, d)
	}
	return hosts
}

func dumpRule(r *route.Rule) ruleDump {
	d := ruleDump{Name: r.Name, Backends: []backendDump{}}
	if r.Timeout != 0 {
		d.Timeout = r.Timeout.String()
	}
	for _, b := range r.Backends {
		d.Backends = append(d.Backends, backendDump{b.Destination, b.Weight})
	}
	for _, m := range r.Matches {
		x := matchDump{Method: m.Method}
		switch m.Path.Kind {
		case route.PathExact:
			x.Path = m.Path.Value
		case route.PathPrefix:
			x.Prefix = m.Path.Value
		case route.PathRegex:
			x.Regex = m.Path.Value
		case route.PathGRPCMethod:
			x.GRPC = m.Path.Value
		}
		x.Headers, x.Query = dumpFields(m.Headers), dumpFields(m.Query)
		d.Matches = append(d.Matches, x)
	}
	f := &r.Filters
	for _, does := range []struct {
		there bool
		name  string
	}{{f.Redirect != nil, "redirect"}, {f.CORS != nil, "cors"}, {f.Request != nil, "request header"}, {f.Response != nil, "response header"},
		{f.Rewrite != nil, "rewrite"}, {len(f.Mirrors) > 0, "mirror"}} {
		if does.there {
			d.Filters = append(d.Filters, does.name)
		}
	}
	return d
}

// dumpFields marks expressions with "~ ".
func dumpFields(list []route.Field) map[string]string {
	var out map[string]string
	for _, f := range list {
		if out == nil {
			out = make(map[string]string, len(list))
		}
		value := f.Value
		if f.Regex {
			value = "~ " + value
		}
		out[f.Name] = value
	}
	return out
}

type destinationDump struct {
	Key       string      `json:"key"`
	Absent    bool        `json:"absent,omitempty"`
	Protocol  string      `json:"protocol"`
	Addresses []string    `json:"addresses,omitempty"`
	Routes    []routeHost `json:"routes,omitempty"`
	Streams   []routeHost `json:"streams,omitempty"`
}

func dumpDestinations(t *live.Table) []*destinationDump {
	list := []*destinationDump{}
	for key, d := range t.Destinations() {
		x := &destinationDump{Key: key, Absent: d.Absent, Protocol: protocolName(d.Protocol), Routes: dumpRoutes(&d.Destination.Routes), Streams: dumpRoutes(&d.Destination.Streams)}
		for _, a := range d.Addresses {
			x.Addresses = append(x.Addresses, a.String())
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b *destinationDump) int { return cmp.Compare(a.Key, b.Key) })
	return list
}

type endpointsDump struct {
	Key  string         `json:"key"`
	List []endpointDump `json:"endpoints"`
}

type endpointDump struct {
	Address  string `json:"address"`
	Identity string `json:"identity,omitempty"`
	UniqueID string `json:"unique_id,omitempty"`
	Workload string `json:"workload,omitempty"`
	Zone     string `json:"zone,omitempty"`
	Weight   uint32 `json:"weight"`
	Suspect  bool   `json:"suspect,omitempty"`
}

func dumpEndpoints(t *live.Table) []*endpointsDump {
	list := []*endpointsDump{}
	for key, e := range t.AllEndpoints() {
		x := &endpointsDump{Key: key, List: []endpointDump{}}
		for _, p := range e.List {
			x.List = append(x.List, endpointDump{
				Address: p.Address.String(), Identity: p.Identity, UniqueID: p.UniqueID, Workload: p.Workload,
				Zone: p.Zone, Weight: max(p.Weight, 1), Suspect: p.Suspect,
			})
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b *endpointsDump) int { return cmp.Compare(a.Key, b.Key) })
	return list
}

type hostDump struct {
	Name      string   `json:"name"`
	Service   string   `json:"service,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	Ports     []uint16 `json:"ports,omitempty"`
}

func dumpHosts(t *live.Table) []*hostDump {
	list := []*hostDump{}
	for name, h := range t.Hosts() {
		x := &hostDump{Name: name, Service: h.Service, Ports: h.Ports}
		for _, a := range h.Addresses {
			x.Addresses = append(x.Addresses, a.String())
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b *hostDump) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
