package cli

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"encoding/json"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/plan"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// throwAwayTTL is the life of an SVID that `view --identity` writes.
const throwAwayTTL = 24 * time.Hour

func (a *app) viewCommand() *cobra.Command {
	var files []string
	var proxy, state, identityDir, output string
	c := &cobra.Command{
		Use:   "view -f FILE|DIR... --proxy NAME",
		Short: "Show what one proxy would be told, with no control plane",
		Long: `Turns files of objects into what one proxy (a Workload's or a Gateway's) would be
told, and shows it, or writes it to a state file from which tulle-proxy runs alone.

--identity DIR makes an identity for it from a throw-away CA kept in DIR, so that
proxies from the same DIR speak mutual TLS. It is for trying and testing only.`,
		Example: `  tulle view -f examples/edge/mesh.yaml --proxy edge
  tulle view -f examples/edge/mesh.yaml --proxy edge --state edge.state
  tulle-proxy --state edge.state`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkFormat(output, formatTable, formatJSON, formatYAML); err != nil {
				return err
			}
			documents, err := a.read(files)
			if err != nil {
				return err
			}
			v, err := render(documents, proxy)
			if err != nil {
				return err
			}
			if identityDir != "" {
				if err := giveIdentity(v, identityDir); err != nil {
					return err
				}
			}
			if state != "" {
				if err := view.Save(state, v); err != nil {
					return couldNot("", "%w", err)
				}
				if output == formatTable {
					fmt.Fprintf(a.Err, "wrote %s; run it with: tulle-proxy --state %s\n", state, state)
					return nil
				}
			}
			if output == formatTable {
				output = formatYAML
			}
			data, err := json.Marshal(readable(v))
			if err != nil {
				return err
			}
			return printData(a.Out, output, data)
		},
	}
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "`FILE` or directory with objects, - for standard input; may be repeated")
	c.Flags().StringVar(&proxy, "proxy", "", "`NAME` of the Workload or Gateway, or NAME.NAMESPACE")
	c.Flags().StringVar(&state, "state", "", "`FILE` to write the state to")
	c.Flags().StringVar(&identityDir, "identity", "", "`DIRECTORY` of a throw-away CA and the identities made from it")
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: yaml or json (default yaml, nothing with --state)")
	_ = c.MarkFlagRequired("filename")
	_ = c.MarkFlagRequired("proxy")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json")
	a.namespaceFlag(c)
	completeFormats(c, formatJSON, formatYAML)
	return c
}

// render plans one proxy's view from documents alone.
func render(documents []object.Document, proxy string) (*view.View, error) {
	domain := object.DefaultTrustDomain
	var changes []graph.Change
	for _, d := range documents {
		object.Default(d.Object)
		if m, ok := d.Object.(*v1alpha1.Mesh); ok && m.Spec.TrustDomain != "" {
			domain = m.Spec.TrustDomain
		}
		changes = append(changes, graph.ChangeOf(d.Object))
	}
	builder := graph.NewBuilder(identity.TrustDomain(domain))
	result := builder.Apply(1, changes)
	name, err := plan.Find(result.Snapshot, proxy)
	if err != nil {
		return nil, wrong("", "%w", err)
	}
	if problems := refused(result, name); len(problems) > 0 {
		return nil, wrong("", "%s", strings.Join(problems, "\n"))
	}
	return plan.Full(result.Snapshot, name), nil
}

// refused lists what is wrong with the proxy's own object.
func refused(result graph.Result, name mesh.Name) []string {
	var all []string
	for ref, status := range result.Statuses {
		if ref.Name != name || ref.Kind != object.Workload && ref.Kind != object.Gateway {
			continue
		}
		for _, c := range status.Conditions {
			if !c.True {
				all = append(all, fmt.Sprintf("%s: %s: %s", ref, c.Type, c.Message))
			}
		}
	}
	return all
}

// giveIdentity makes the proxy's SVID in dir and tells the view where it is.
func giveIdentity(v *view.View, dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return couldNot("", "%w", err)
	}
	id, err := identity.Parse(v.Proxy.Identity)
	if err != nil {
		return wrong("", "the proxy's identity: %w", err)
	}
	authority, err := ca.ThrowAway(abs, id.TrustDomain)
	if err != nil {
		return couldNot("", "%w", err)
	}
	if err := authority.WriteIdentity(abs, v.Proxy.Name, id, throwAwayTTL); err != nil {
		return couldNot("", "make an identity in %s: %w", dir, err)
	}
	if _, err := os.Stat(filepath.Join(abs, identity.BundleFile)); err != nil {
		return couldNot("", "%w", err)
	}
	v.Bundle, v.Proxy.IdentityDir = authority.Bundle(), abs
	return nil
}

// What a view looks like for people: names in place of numbers, no secrets.
type readableView struct {
	Version      uint64                `json:"version"`
	Proxy        readableProxy         `json:"proxy"`
	TrustDomains []string              `json:"trustDomains,omitempty"`
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
	Settings    map[string]any     `json:"settings,omitempty"`
	Listeners   []readableListener `json:"listeners,omitempty"`
}

type readableListener struct {
	Name        string           `json:"name"`
	Kind        string           `json:"kind"`
	Address     netip.AddrPort   `json:"address"`
	Protocol    string           `json:"protocol"`
	Destination string           `json:"destination,omitempty"`
	App         string           `json:"app,omitempty"`
	Plaintext   bool             `json:"plaintext,omitempty"`
	TLS         bool             `json:"tls,omitempty"`
	Routes      []readableRoutes `json:"routes,omitempty"`
}

type readableDestination struct {
	Key       string           `json:"key"`
	Protocol  string           `json:"protocol"`
	Addresses []netip.Addr     `json:"addresses,omitempty"`
	Routes    []readableRoutes `json:"routes,omitempty"`
}

type readableEndpoints struct {
	Key  string             `json:"key"`
	List []readableEndpoint `json:"list"`
}

type readableEndpoint struct {
	Address  netip.AddrPort `json:"address"`
	Identity string         `json:"identity,omitempty"`
	Workload string         `json:"workload,omitempty"`
	Zone     string         `json:"zone,omitempty"`
	Weight   uint32         `json:"weight,omitempty"`
	Suspect  bool           `json:"suspect,omitempty"`
}

type readableHost struct {
	Name      string       `json:"name"`
	Service   string       `json:"service,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Ports     []uint16     `json:"ports,omitempty"`
}

var (
	listenerKinds = map[view.ListenerKind]string{view.Capture: "capture", view.Explicit: "explicit", view.Forward: "forward",
		view.Inbound: "inbound", view.Edge: "edge", view.Names: "names"}
	protocols = map[view.Protocol]string{view.Detect: "detect", view.HTTP: "http", view.TCP: "tcp"}
	roles     = map[view.Role]string{view.Sidecar: "sidecar", view.Gateway: "gateway"}
)

func readable(v *view.View) readableView {
	p := &v.Proxy
	out := readableView{Version: v.Version, Proxy: readableProxy{Name: p.Name, Namespace: p.Namespace, Role: roles[p.Role],
		Identity: p.Identity, IdentityDir: p.IdentityDir, Settings: settingsOf(&p.Settings)}}
	for _, l := range p.Listeners {
		one := readableListener{Name: l.Name, Kind: listenerKinds[l.Kind], Address: l.Address, Protocol: protocols[l.Protocol],
			Destination: l.Destination, Plaintext: l.Plaintext, TLS: len(l.Certificate) > 0, Routes: routesOf(&l.Routes)}
		if l.App.IsValid() {
			one.App = l.App.String()
		}
		out.Proxy.Listeners = append(out.Proxy.Listeners, one)
	}
	for _, d := range v.Bundle.Domains {
		out.TrustDomains = append(out.TrustDomains, d.Name)
	}
	for _, key := range sortedNames(v.Destinations) {
		d := v.Destinations[key]
		out.Destinations = append(out.Destinations, readableDestination{Key: d.Key, Protocol: protocols[d.Protocol], Addresses: d.Addresses, Routes: routesOf(&d.Routes)})
	}
	for _, key := range sortedNames(v.Endpoints) {
		set := readableEndpoints{Key: key, List: []readableEndpoint{}}
		for _, e := range v.Endpoints[key].List {
			set.List = append(set.List, readableEndpoint{e.Address, e.Identity, e.Workload, e.Zone, e.Weight, e.Suspect})
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

type readableRoutes struct {
	Hostnames []string       `json:"hostnames"`
	Rules     []readableRule `json:"rules"`
}

type readableRule struct {
	Name     string            `json:"name,omitempty"`
	Matches  []string          `json:"matches,omitempty"`
	Backends []readableBackend `json:"backends"`
	Timeout  string            `json:"timeout,omitempty"`
}

type readableBackend struct {
	Destination string `json:"destination"`
	Weight      uint32 `json:"weight"`
}

func routesOf(spec *route.Spec) []readableRoutes {
	var out []readableRoutes
	for _, h := range spec.Hosts {
		one := readableRoutes{Hostnames: h.Hostnames}
		for _, r := range h.Rules {
			rule := readableRule{Name: r.Name, Timeout: short(r.Timeout)}
			for _, m := range r.Matches {
				rule.Matches = append(rule.Matches, matchText(&m))
			}
			for _, b := range r.Backends {
				rule.Backends = append(rule.Backends, readableBackend{b.Destination, b.Weight})
			}
			one.Rules = append(one.Rules, rule)
		}
		out = append(out, one)
	}
	return out
}

// matchText writes a match as "GET /cart/* X-Version=2".
func matchText(m *route.Match) string {
	var parts []string
	if m.Method != "" {
		parts = append(parts, m.Method)
	}
	switch m.Path.Kind {
	case route.PathExact:
		parts = append(parts, m.Path.Value)
	case route.PathPrefix:
		parts = append(parts, strings.TrimSuffix(m.Path.Value, "/")+"/*")
	}
	for _, h := range m.Headers {
		parts = append(parts, h.Name+"="+h.Value)
	}
	if len(parts) == 0 {
		return "*"
	}
	return strings.Join(parts, " ")
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
	for name, n := range map[string]uint32{"maxHead": s.MaxHead, "maxFields": s.MaxFields, "maxConnections": s.MaxConnections} {
		if n != 0 {
			out[name] = n
		}
	}
	return out
}
