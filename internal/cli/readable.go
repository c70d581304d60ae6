package cli

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/explain"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// What a view looks like for people: names in place of numbers, no secrets.
type readableView struct {
	Version      uint64                `json:"version"`
	Proxy        readableProxy         `json:"proxy"`
	TrustDomains []string              `json:"trustDomains,omitempty"`
	Signer       string                `json:"signer,omitempty"` // key id of the root that certificates come from
	Denied       []string              `json:"denied,omitempty"`
	Destinations []readableDestination `json:"destinations,omitempty"`
	Endpoints    []readableEndpoints   `json:"endpoints,omitempty"`
	Hosts        []readableHost        `json:"hosts,omitempty"`
}

type readableProxy struct {
	Name        string             `json:"name"`
	Namespace   string             `json:"namespace"`
	Role        string             `json:"role"`
	Identity    string             `json:"identity,omitempty"`
	IdentityDir string             `json:"identityDir,omitempty"`
	Zone        string             `json:"zone,omitempty"`
	Settings    map[string]any     `json:"settings,omitempty"`
	Egress      policyText         `json:"egress,omitempty"`
	AccessLog   string             `json:"accessLog,omitempty"`
	Listeners   []readableListener `json:"listeners,omitempty"`
}

type readableListener struct {
	Name         string                `json:"name"`
	Kind         string                `json:"kind"`
	Address      netip.AddrPort        `json:"address"`
	Protocol     string                `json:"protocol"`
	Destination  string                `json:"destination,omitempty"`
	App          string                `json:"app,omitempty"`
	Plaintext    bool                  `json:"plaintext,omitempty"`
	TLS          bool                  `json:"tls,omitempty"`
	Certificates []readableCertificate `json:"certificates,omitempty"`
	AcceptProxy  bool                  `json:"acceptProxy,omitempty"`
	// Whose word counts about where a request came from.
	TrustedProxies []string         `json:"trustedProxies,omitempty"`
	TrustedHops    uint32           `json:"trustedHops,omitempty"`
	SendProxy      string           `json:"sendProxy,omitempty"`
	Routes         []readableRoutes `json:"routes,omitempty"`
	Streams        []readableRoutes `json:"streams,omitempty"`
	Policy         policyText       `json:"policy,omitempty"`
}

// readableCertificate is a certificate by its names: the chain and key are no
// reading matter.
type readableCertificate struct {
	Listener  string   `json:"listener,omitempty"`
	Hostnames []string `json:"hostnames,omitempty"`
}

type readableDestination struct {
	Key         string           `json:"key"`
	Protocol    string           `json:"protocol"`
	ServerFirst bool             `json:"serverFirst,omitempty"`
	Addresses   []netip.Addr     `json:"addresses,omitempty"`
	Routes      []readableRoutes `json:"routes,omitempty"`
	Streams     []readableRoutes `json:"streams,omitempty"`
	Policy      policyText       `json:"policy,omitempty"`
}

type readableEndpoints struct {
	Key    string             `json:"key"`
	Policy policyText         `json:"policy,omitempty"`
	List   []readableEndpoint `json:"list"`
}

type readableEndpoint struct {
	Address  netip.AddrPort `json:"address"`
	Identity string         `json:"identity,omitempty"`
	UniqueID string         `json:"uniqueID,omitempty"`
	Workload string         `json:"workload,omitempty"`
	Zone     string         `json:"zone,omitempty"`
	Labels   string         `json:"labels,omitempty"`
	Weight   uint32         `json:"weight,omitempty"`
	Suspect  bool           `json:"suspect,omitempty"`
}

type readableHost struct {
	Name      string       `json:"name"`
	Service   string       `json:"service,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Ports     []uint16     `json:"ports,omitempty"`
}

type readableRoutes struct {
	Hostnames []string       `json:"hostnames"`
	Rules     []readableRule `json:"rules"`
}

type readableRule struct {
	Name     string            `json:"name,omitempty"`
	Section  string            `json:"section,omitempty"`
	Matches  []string          `json:"matches,omitempty"`
	Filters  []string          `json:"filters,omitempty"`
	Backends []readableBackend `json:"backends"`
	Timeout  string            `json:"timeout,omitempty"`
	Session  string            `json:"session,omitempty"`
	Policy   policyText        `json:"policy,omitempty"`
}

type readableBackend struct {
	Destination string   `json:"destination"`
	Weight      uint32   `json:"weight"`
	Filters     []string `json:"filters,omitempty"`
}

// policyText is a policy's values by name; without a policy of its own, nothing:
// then the defaults hold.
type policyText map[string]string

func policyOf[P any](p *P, list func(*P) []explain.Field) policyText {
	if p == nil {
		return nil
	}
	out := policyText{}
	for _, f := range list(p) {
		out[f.Name] = f.Value
		if f.Source != "" {
			out[f.Name] += " (" + f.Source + ")"
		}
	}
	return out
}

var (
	listenerKinds = map[view.ListenerKind]string{view.Capture: "capture", view.Explicit: "explicit", view.Forward: "forward",
		view.Inbound: "inbound", view.Edge: "edge", view.Names: "names"}
	protocols     = map[view.Protocol]string{view.Detect: "detect", view.HTTP: "http", view.TCP: "tcp", view.HTTP2: "http2"}
	roles         = map[view.Role]string{view.Sidecar: "sidecar", view.Gateway: "gateway"}
	peerProtocols = map[view.PeerProtocol]string{view.PeerHTTP1: "http1", view.PeerHTTP2: "http2"}
	proxyVersions = map[view.ProxyVersion]string{view.ProxyV1: "v1", view.ProxyV2: "v2"}
)

func readable(v *view.View) readableView {
	p := &v.Proxy
	out := readableView{Version: v.Version, Proxy: readableProxy{Name: p.Name, Namespace: p.Namespace, Role: roles[p.Role],
		Identity: p.Identity, IdentityDir: p.IdentityDir, Zone: p.Zone, Settings: settingsOf(&p.Settings), Egress: policyOf(p.Egress, explain.Egress), AccessLog: accessLogOf(p.AccessLog)},
		Signer: hex.EncodeToString(v.Bundle.Signer), Denied: v.Bundle.Denied}
	for i := range p.Listeners {
		out.Proxy.Listeners = append(out.Proxy.Listeners, listenerOf(&p.Listeners[i]))
	}
	for _, d := range v.Bundle.Domains {
		out.TrustDomains = append(out.TrustDomains, d.Name)
	}
	for _, key := range sortedNames(v.Destinations) {
		d := v.Destinations[key]
		out.Destinations = append(out.Destinations, readableDestination{Key: d.Key, Protocol: protocols[d.Protocol], ServerFirst: d.ServerFirst,
			Addresses: d.Addresses, Routes: routesOf(&d.Routes), Streams: routesOf(&d.Streams), Policy: policyOf(d.Policy, explain.Request)})
	}
	for _, key := range sortedNames(v.Endpoints) {
		set := readableEndpoints{Key: key, Policy: policyOf(v.Endpoints[key].Policy, explain.Upstream), List: []readableEndpoint{}}
		for _, e := range v.Endpoints[key].List {
			set.List = append(set.List, readableEndpoint(e))
		}
		out.Endpoints = append(out.Endpoints, set)
	}
	for _, name := range sortedNames(v.Hosts) {
		if h := v.Hosts[name]; h != nil {
			out.Hosts = append(out.Hosts, readableHost(*h))
		}
	}
	return out
}

func accessLogOf(l policy.AccessLog) string {
	switch {
	case l.Mode == policy.LogFailed:
		return "Failed"
	case l.Mode == policy.LogAll && l.Percent() < 100:
		return fmt.Sprintf("All (%d%%)", l.Percent())
	case l.Mode == policy.LogAll:
		return "All"
	}
	return ""
}

func listenerOf(l *view.Listener) readableListener {
	out := readableListener{Name: l.Name, Kind: listenerKinds[l.Kind], Address: l.Address, Protocol: protocols[l.Protocol],
		Destination: l.Destination, Plaintext: l.Plaintext, TLS: len(l.Certificate) > 0 || len(l.Certificates) > 0,
		AcceptProxy: l.AcceptProxy, TrustedProxies: l.TrustedProxies, TrustedHops: l.TrustedHops, SendProxy: proxyVersions[l.SendProxy],
		Routes: routesOf(&l.Routes), Streams: routesOf(&l.Streams), Policy: policyOf(l.Inbound, explain.Inbound)}
	if l.App.IsValid() {
		out.App = l.App.String()
	}
	for _, c := range l.Certificates {
		out.Certificates = append(out.Certificates, readableCertificate{c.Listener, c.Hostnames})
	}
	return out
}

func routesOf(spec *route.Spec) []readableRoutes {
	var out []readableRoutes
	for _, h := range spec.Hosts {
		one := readableRoutes{Hostnames: h.Hostnames, Rules: []readableRule{}}
		for i := range h.Rules {
			one.Rules = append(one.Rules, ruleOf(&h.Rules[i]))
		}
		out = append(out, one)
	}
	return out
}

func ruleOf(r *route.Rule) readableRule {
	out := readableRule{Name: r.Name, Section: r.Section, Filters: explain.Filters(&r.Filters), Timeout: short(r.Timeout),
		Backends: []readableBackend{}, Policy: policyOf(r.Policy, explain.Request)}
	for i := range r.Matches {
		out.Matches = append(out.Matches, explain.Match(&r.Matches[i]))
	}
	for i := range r.Backends {
		b := &r.Backends[i]
		out.Backends = append(out.Backends, readableBackend{b.Destination, b.Weight, explain.Filters(&b.Filters)})
	}
	if r.Session.Kind != policy.NoSession {
		out.Session = explain.Session(r.Session)
	}
	return out
}

// settingsOf holds what isn't the proxy's default.
func settingsOf(s *view.Settings) map[string]any {
	out := map[string]any{}
	for name, d := range map[string]time.Duration{"connectTimeout": s.ConnectTimeout, "headTimeout": s.HeadTimeout, "idleTimeout": s.IdleTimeout,
		"poolIdle": s.PoolIdle, "streamIdle": s.StreamIdle, "drainTimeout": s.DrainTimeout} {
		if d != 0 {
			out[name] = short(d)
		}
	}
	if s.PeerProtocol != view.PeerDefault {
		out["peerProtocol"] = peerProtocols[s.PeerProtocol]
	}
	if s.MinBodyRate == view.AnyBodyRate {
		out["minBodyRate"] = -1
	} else if s.MinBodyRate != 0 {
		out["minBodyRate"] = s.MinBodyRate
	}
	if s.EndExpired {
		out["expiredConnections"] = "End"
	}
	for name, n := range map[string]uint32{"maxHead": s.MaxHead, "maxFields": s.MaxFields, "maxConnections": s.MaxConnections} {
		if n != 0 {
			out[name] = n
		}
	}
	return out
}
