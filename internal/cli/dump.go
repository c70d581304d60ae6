package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// proxyDump is what the command line shows of a proxy's dump; -o json has all.
type proxyDump struct {
	Version     string
	ViewVersion uint64 `json:"view_version"`
	NotReady    string `json:"not_ready"`
	Proxy       struct{ Name, Namespace, Role string }
	Control     struct {
		Address       string
		Connected     bool
		Since         time.Time
		Error         string
		IdentityError string `json:"identity_error"`
		SaveError     string `json:"save_error"`
		Rejected      string
		AppReady      bool `json:"app_ready"`
		Draining      bool
		Detail        string
	}
	Identity struct {
		ID       string
		NotAfter time.Time `json:"not_after"`
	}
	Listeners []struct {
		Name, Kind, Address, Protocol, Destination, App string
		Plaintext, HTTPS                                bool
		Routes                                          []dumpRoutes
	}
	Destinations []struct {
		Key, Protocol string
		Absent        bool
		Addresses     []string
		Routes        []dumpRoutes
	}
	Endpoints []struct {
		Key       string
		Endpoints []struct {
			Address, Identity, Workload, Zone string
			Suspect                           bool
		}
	}
	Hosts []struct {
		Name, Service string
		Addresses     []string
	}
	Pools []struct {
		Loop, Pending     int
		Service, Endpoint string
		Latency           float64 `json:"latency_ms"`
		Idle              int     `json:"idle_connections"`
	}
}

type dumpRoutes struct {
	Hostnames []string
	Rules     []struct {
		Name    string
		Matches []struct {
			Path    string
			Prefix  string `json:"path_prefix"`
			Regex   string `json:"path_expression"`
			GRPC    string `json:"grpc_method"`
			Method  string
			Headers map[string]string
			Query   map[string]string
		}
		Filters  []string
		Backends []struct {
			Destination string
			Weight      uint32
		}
		Timeout string
	}
}

// printDump shows what a proxy believes for people.
func (a *app) printDump(dump json.RawMessage) error {
	var d proxyDump
	if err := json.Unmarshal(dump, &d); err != nil {
		return couldNot("-o json shows it as it is", "the proxy's dump: %w", err)
	}
	a.printProxyHead(&d)
	if len(d.Listeners) > 0 {
		fmt.Fprintf(a.Out, "\n%s\n", a.paint.bold("Listeners"))
		t := newTable("NAME", "KIND", "ADDRESS", "PROTOCOL", "PROGRAM", "NOTES")
		for _, l := range d.Listeners {
			var notes []string
			if l.Plaintext {
				notes = append(notes, "plaintext permitted")
			}
			if l.HTTPS {
				notes = append(notes, "HTTPS")
			}
			if l.Destination != "" && !strings.HasSuffix(l.Name, l.Destination) {
				notes = append(notes, "to "+l.Destination)
			}
			t.row(l.Name, l.Kind, l.Address, l.Protocol, orDash(l.App), orDash(strings.Join(notes, ", ")))
		}
		t.write(a.Out)
		for _, l := range d.Listeners {
			a.printRoutes(l.Name, l.Routes)
		}
	}
	a.printDumpedServices(&d)
	if len(d.Hosts) > 0 {
		fmt.Fprintf(a.Out, "\n%s\n", a.paint.bold("Names looked up"))
		t := newTable("NAME", "SERVICE", "ADDRESSES")
		for _, h := range d.Hosts {
			t.row(h.Name, orDash(h.Service), orDash(strings.Join(h.Addresses, ",")))
		}
		t.write(a.Out)
	}
	return nil
}

func (a *app) printProxyHead(d *proxyDump) {
	line := func(name, text string) { fmt.Fprintf(a.Out, "%-13s %s\n", name+":", text) }
	line("Proxy", fmt.Sprintf("%s (%s, version %s)", a.paint.bold(d.Proxy.Name+"."+d.Proxy.Namespace), d.Proxy.Role, d.Version))
	if d.NotReady != "" {
		line("Ready", a.paint.bad("no: "+d.NotReady))
	} else {
		line("Ready", a.paint.good("yes"))
	}
	if d.Identity.ID != "" {
		line("Identity", d.Identity.ID+", "+a.expiry(d.Identity.NotAfter))
	}
	if d.Control.Address != "" {
		state := a.paint.good("connected")
		if !d.Control.Connected {
			state = a.paint.bad("away")
		}
		line("Control", fmt.Sprintf("%s, %s for %s, state %d", d.Control.Address, state, age(a.now().Sub(d.Control.Since)), d.ViewVersion))
	}
	if d.Proxy.Role != "gateway" {
		state := a.paint.good("takes connections")
		if !d.Control.AppReady {
			state = a.paint.bad("doesn't take connections")
		}
		if d.Control.Detail != "" {
			state += " (" + d.Control.Detail + ")"
		}
		line("Program", state)
	}
	if d.Control.Draining {
		line("Draining", a.paint.warn("yes"))
	}
	for _, problem := range []struct{ what, text string }{{"Rejected", d.Control.Rejected}, {"Connection", d.Control.Error},
		{"Certificate", d.Control.IdentityError}, {"State file", d.Control.SaveError}} {
		if problem.text != "" {
			line(problem.what, a.paint.bad(problem.text))
		}
	}
}

// printDumpedServices shows each destination's endpoints with what the proxy
// measured of them, all its loops together: the slowest's latency, sums of the
// rest.
func (a *app) printDumpedServices(d *proxyDump) {
	type load struct {
		latency       float64
		pending, idle int
	}
	loads := map[string]load{}
	for _, p := range d.Pools {
		l := loads[p.Service+" "+p.Endpoint]
		loads[p.Service+" "+p.Endpoint] = load{max(l.latency, p.Latency), l.pending + p.Pending, l.idle + p.Idle}
	}
	if len(d.Endpoints) > 0 {
		fmt.Fprintf(a.Out, "\n%s\n", a.paint.bold("Endpoints it may call"))
		t := newTable("SERVICE", "ENDPOINT", "WORKLOAD", "IDENTITY", "LATENCY", "PENDING", "IDLE")
		for _, e := range d.Endpoints {
			if len(e.Endpoints) == 0 {
				t.row(e.Key, a.paint.bad("none"), "-", "-", "-", "-", "-")
			}
			for _, one := range e.Endpoints {
				identity := orDash(one.Identity)
				if one.Identity == "" {
					identity = a.paint.warn("none (plaintext)")
				}
				address := one.Address
				if one.Suspect {
					address += " " + a.paint.warn("(suspect)")
				}
				row := []string{e.Key, address, orDash(one.Workload), identity, "-", "-", "-"}
				if l, ok := loads[e.Key+" "+one.Address]; ok {
					row[4], row[5], row[6] = milliseconds(&l.latency), strconv.Itoa(l.pending), strconv.Itoa(l.idle)
				}
				t.row(row...)
			}
		}
		t.write(a.Out)
	}
	for _, e := range d.Destinations {
		a.printRoutes(e.Key, e.Routes)
	}
}

func (a *app) printRoutes(of string, routes []dumpRoutes) {
	if len(routes) == 0 {
		return
	}
	fmt.Fprintf(a.Out, "\n%s\n", a.paint.bold("Routes of "+of))
	t := newTable("HOSTNAMES", "MATCHES", "BACKENDS", "TIMEOUT", "FROM")
	for _, h := range routes {
		for _, r := range h.Rules {
			var matches, backends []string
			for _, m := range r.Matches {
				parts := []string{}
				for _, part := range []string{m.Method, m.Path} {
					if part != "" {
						parts = append(parts, part)
					}
				}
				if m.Prefix != "" {
					parts = append(parts, strings.TrimSuffix(m.Prefix, "/")+"/*")
				}
				if m.Regex != "" {
					parts = append(parts, "~ "+m.Regex)
				}
				if m.GRPC != "" {
					parts = append(parts, "*/"+m.GRPC)
				}
				for _, name := range sortedNames(m.Query) {
					parts = append(parts, "?"+name+"="+m.Query[name])
				}
				for _, name := range sortedNames(m.Headers) {
					parts = append(parts, name+"="+m.Headers[name])
				}
				if len(parts) == 0 {
					parts = []string{"*"}
				}
				matches = append(matches, strings.Join(parts, " "))
			}
			for _, b := range r.Backends {
				if b.Destination != "" {
					backends = append(backends, fmt.Sprintf("%s=%d", b.Destination, b.Weight))
				}
			}
			if len(r.Filters) > 0 {
				backends = append(backends, "("+strings.Join(r.Filters, ", ")+")")
			}
			t.row(strings.Join(h.Hostnames, ","), orDash(strings.Join(matches, " | ")), orDash(strings.Join(backends, " ")), orDash(r.Timeout), orDash(r.Name))
		}
	}
	t.write(a.Out)
}

func (a *app) diagnosticsConnections() *cobra.Command {
	c := &cobra.Command{
		Use:               "connections PROXY",
		Short:             "The connections that a proxy's clients have open",
		Example:           `  tulle diagnostics connections web`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeProxies,
	}
	a.namespaceFlag(c)
	ask := func(q *question) (json.RawMessage, error) {
		namespace, name := a.proxyName(q.args[0])
		data, err := q.conn.ProxyConnections(q.ctx, namespace, name)
		return data, noProxy(err, namespace, name)
	}
	return asks(a, c, ask, func(_ *question, data json.RawMessage) error { return a.printConnections(data) },
		formatJSON, formatYAML)
}

// printConnections shows open connections: of each list of the answer a table,
// its columns as the proxy names them.
func (a *app) printConnections(data json.RawMessage) error {
	var answer map[string]any
	if err := json.Unmarshal(data, &answer); err != nil {
		return couldNot("-o json shows it as it is", "the proxy's connections: %w", err)
	}
	fmt.Fprintf(a.Out, "%v open\n", orZero(answer["open"]))
	for _, kind := range sortedNames(answer) {
		list, ok := answer[kind].([]any)
		if !ok || len(list) == 0 {
			continue
		}
		seen := map[string]bool{}
		for _, item := range list {
			m, _ := item.(map[string]any)
			for key := range m {
				seen[key] = true
			}
		}
		keys := sortedNames(seen)
		if i := slices.Index(keys, "peer"); i > 0 { // who, first
			keys = slices.Insert(slices.Delete(keys, i, i+1), 0, "peer")
		}
		header := make([]string, len(keys))
		for i, key := range keys {
			header[i] = strings.ToUpper(strings.TrimSuffix(key, "_bytes"))
		}
		fmt.Fprintf(a.Out, "\n%s\n", a.paint.bold(kind))
		t := newTable(header...)
		for _, item := range list {
			m, _ := item.(map[string]any)
			row := make([]string, len(keys))
			for i, key := range keys {
				switch v := m[key].(type) {
				case nil:
					row[i] = "-"
				case float64:
					row[i] = strconv.FormatFloat(v, 'f', -1, 64)
				default:
					row[i] = fmt.Sprint(v)
				}
			}
			t.row(row...)
		}
		t.write(a.Out)
	}
	return nil
}

func orZero(v any) any {
	if v == nil {
		return 0
	}
	return v
}
