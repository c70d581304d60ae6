package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/telemetry"
)

// fakeMesh is a mesh with a shop in it, rich enough that every part of the pages
// has something to show: two namespaces, a gateway, a caller outside, opaque
// TCP, a route with a flaky backend, a proxy that lags and one that is gone.
type fakeMesh struct {
	mu    sync.Mutex
	empty bool // a mesh without anything in it
	down  error
	now   func() time.Time
}

func newFakeMesh() *fakeMesh { return &fakeMesh{now: time.Now} }

func (m *fakeMesh) set(empty bool, down error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.empty, m.down = empty, down
}

func (m *fakeMesh) state() (empty bool, down error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.empty, m.down
}

type fakeService struct {
	name, namespace string
	port            uint16
	protocol        string
	workloads       []string
	rps, success    float64
	p50             float64 // ms
	routes          map[string]int
}

var fakeServices = []fakeService{
	{"web", "default", 8080, "http", []string{"web-1", "web-2"}, 48.2, 1, 6.1, nil},
	{"cart", "default", 8080, "http", []string{"cart-1", "cart-2"}, 31.6, 0.9984, 2.4, nil},
	{"catalogue", "default", 8080, "http", []string{"catalogue-1"}, 96.3, 1, 1.1, nil},
	{"payment", "default", 8080, "http", []string{"payment-1", "payment-2", "payment-3"}, 4.7, 0.997, 18.4, nil},
	{"recommendations", "default", 8080, "http", nil, 0, 0, 0, map[string]int{"recommendations-v1": 80, "recommendations-v2": 20}},
	{"recommendations-v1", "default", 8080, "http", []string{"recommendations-v1"}, 38.4, 1, 3.2, nil},
	{"recommendations-v2", "default", 8080, "http", []string{"recommendations-v2"}, 9.6, 0.934, 11.7, nil},
	{"store", "default", 6379, "tcp", []string{"store-1"}, -1, 0, 0, nil},
	{"ledger", "billing", 8080, "http", []string{"ledger-1", "ledger-2"}, 4.7, 1, 7.9, nil},
	{"invoices", "billing", 8080, "http", []string{"invoices-1"}, 1.2, 0.981, 44, nil},
	{"legacy-tax", "billing", 80, "http", []string{""}, 1.2, 1, 62, nil},
}

func (m *fakeMesh) Status(context.Context) (*client.MeshStatus, error) {
	if _, down := m.state(); down != nil {
		return nil, down
	}
	return &client.MeshStatus{
		Version: "v0.1.0", Started: m.now().Add(-3*time.Hour - 14*time.Minute), PID: 4711, DataDir: "/home/ada/.local/share/tulle",
		TrustDomain: "mesh.local", ClusterDomain: "cluster.local", Snapshot: 42, Listen: "127.0.0.1:9440", Dashboard: "127.0.0.1:9441",
		Store:   client.StoreStatus{Kind: "embedded etcd", Bytes: 21_400_000, Quota: 268_435_456},
		Proxies: 16, Services: len(fakeServices), Workloads: 15,
		RootPin: "sha256:4f1c9e0b7a52d8c3e6f0417b29ad85cc01e7734b6fd2a9830c5b1e64f7a8d290",
	}, nil
}

func (m *fakeMesh) Check(context.Context) (*client.CheckReport, error) {
	empty, down := m.state()
	if down != nil {
		return nil, down
	}
	checks := []client.Check{
		{Category: "Control plane", Description: "the control plane answers", Result: client.Success},
		{Category: "Control plane", Description: "its store answers and has room", Result: client.Success},
		{Category: "Control plane", Description: "metrics of every proxy are scraped", Result: client.Success},
		{Category: "Identity", Description: "the root certificate is valid for more than 30 days", Result: client.Success},
		{Category: "Identity", Description: "the issuing certificate is valid for more than 7 days", Result: client.Success},
	}
	if empty {
		return &client.CheckReport{Result: client.Success, Checks: checks}, nil
	}
	checks = append(checks,
		client.Check{Category: "Proxies", Description: "every proxy is connected", Result: client.Failure, Error: "invoices-1.billing has been gone for 12 min; its last state was ready", Hint: "see whether it still runs: ps -p 5120\nor start it again: tulle run --service invoices --namespace billing --port 8080 -- ./invoices"},
		client.Check{Category: "Proxies", Description: "every proxy has its latest config in force", Result: client.Warning, Error: "ledger-2.billing has version 41 in force, 42 was sent", Hint: "tulle diagnostics proxy ledger-2 -n billing"},
		client.Check{Category: "Proxies", Description: "every proxy runs the control plane's version", Result: client.Success},
		client.Check{Category: "Data path", Description: "every service has an endpoint that may be picked", Result: client.Success},
		client.Check{Category: "Data path", Description: "traffic between services is mutual TLS", Result: client.Warning, Error: "legacy-tax.billing is called in plaintext: it has no proxy", Hint: "tulle run --service legacy-tax --namespace billing --port 80 -- PROGRAM"},
	)
	return &client.CheckReport{Result: client.Failure, Checks: checks}, nil
}

func (m *fakeMesh) Proxies(context.Context) ([]client.Proxy, error) {
	empty, down := m.state()
	if down != nil || empty {
		return nil, down
	}
	var list []client.Proxy
	add := func(name, namespace, role, mode string) *client.Proxy {
		list = append(list, client.Proxy{
			Name: name, Namespace: namespace, Role: role, Identity: "spiffe://mesh.local/ns/" + namespace + "/sa/" + name,
			Version: "v0.1.0", UID: fmt.Sprintf("7c9e6679-%04d", len(list)), PID: uint64(5100 + len(list)), Mode: mode,
			Connected: true, Since: m.now().Add(-time.Duration(20+len(list)*7) * time.Minute), Ready: true,
			CertificateExpires: m.now().Add(24*time.Hour - time.Duration(20+len(list)*41)*time.Minute), Sent: 42, Acknowledged: 42, Subscriptions: 3 + len(list)%9,
		})
		return &list[len(list)-1]
	}
	for _, s := range fakeServices {
		for _, w := range s.workloads {
			if w == "" {
				continue
			}
			p := add(w, s.namespace, "sidecar", "netns")
			switch w {
			case "ledger-2":
				p.Acknowledged, p.Zone = 41, "west"
			case "invoices-1":
				p.Connected, p.Ready, p.Since = false, false, m.now().Add(-12*time.Minute)
			case "payment-3":
				p.Draining = true
			case "cart-2":
				p.Mode, p.Rejected = "explicit", "listener inbound-8080: address 127.0.0.1:7085: already in use by process 6200"
			}
		}
	}
	p := add("edge", "default", "gateway", "")
	p.Subscriptions = 2
	add("load", "default", "sidecar", "netns")
	return list, nil
}

func (m *fakeMesh) ProxyDump(_ context.Context, namespace, name string) (json.RawMessage, error) {
	if name == "invoices-1" {
		return nil, errors.New("invoices-1.billing is not connected: dial unix /run/tulle/invoices-1/admin.sock: connect: connection refused")
	}
	now := m.now().UTC()
	return json.Marshal(map[string]any{ // as internal/proxy/admin writes it
		"version": "v0.1.0", "time": now, "view_version": 42,
		"control":  map[string]any{"address": "unix:/home/ada/.local/share/tulle/proxy.sock", "connected": true, "since": now.Add(-34 * time.Minute), "lookups": 7, "app_ready": true, "draining": false},
		"identity": map[string]any{"id": "spiffe://mesh.local/ns/" + namespace + "/sa/" + name, "serial": "5e2190aa17", "not_before": now.Add(-2 * time.Hour), "not_after": now.Add(22 * time.Hour), "chain_length": 2, "bundle": []map[string]any{{"trust_domain": "mesh.local", "roots": []map[string]any{{"subject": "CN=mesh.local root", "not_after": now.Add(80000 * time.Hour), "sha256": "4f1c9e0b7a52d8c3"}}}}},
		"proxy":    map[string]any{"name": name, "namespace": namespace, "role": "sidecar", "trust_domain": "mesh.local", "cluster_domain": "cluster.local", "settings": map[string]any{}},
		"listeners": []map[string]any{
			{"name": "capture", "kind": "capture", "address": "127.0.0.1:15001", "protocol": "detect"},
			{"name": "names", "kind": "names", "address": "127.0.0.1:15053", "protocol": "detect"},
			{"name": "inbound-8080", "kind": "inbound", "address": "127.0.0.1:41877", "protocol": "http", "destination": name + "." + namespace + ":8080", "app": "127.0.0.1:7085"},
		},
		"destinations": []map[string]any{
			{"key": "catalogue.default:8080", "protocol": "http", "addresses": []string{"240.240.0.3", "fd74:756c:6c65::3"}},
			{"key": "payment.default:8080", "protocol": "http", "addresses": []string{"240.240.0.4", "fd74:756c:6c65::4"}},
			{"key": "recommendations.default:8080", "protocol": "http", "addresses": []string{"240.240.0.5"}, "routes": []map[string]any{{"hostnames": []string{"*"}, "rules": []map[string]any{{"name": "httproute/default/recommendations#0", "backends": []map[string]any{{"destination": "recommendations-v1.default:8080", "weight": 80}, {"destination": "recommendations-v2.default:8080", "weight": 20}}}}}}},
		},
		"endpoints": []map[string]any{
			{"key": "catalogue.default:8080", "endpoints": []map[string]any{{"address": "127.0.0.1:41022", "identity": "spiffe://mesh.local/ns/default/sa/catalogue", "workload": "catalogue-1.default", "weight": 1}}},
			{"key": "payment.default:8080", "endpoints": []map[string]any{
				{"address": "127.0.0.1:41055", "identity": "spiffe://mesh.local/ns/default/sa/payment", "workload": "payment-1.default", "weight": 1},
				{"address": "127.0.0.1:41056", "identity": "spiffe://mesh.local/ns/default/sa/payment", "workload": "payment-2.default", "weight": 1},
			}},
		},
		"hosts": []map[string]any{{"name": "catalogue", "service": "catalogue.default", "addresses": []string{"240.240.0.3"}, "ports": []int{8080}}, {"name": "example.org", "addresses": []string{}}},
		"pools": []any{},
	})
}

func (m *fakeMesh) Endpoints(_ context.Context, service string) (*client.Endpoints, error) {
	for _, s := range fakeServices {
		if s.name+"."+s.namespace != service {
			continue
		}
		out := &client.Endpoints{Service: service, Addresses: []string{"240.240.0.7", "fd74:756c:6c65::7"}, Ports: []client.EndpointPort{{Port: s.port, Endpoints: []client.Endpoint{}}}}
		for i, w := range s.workloads {
			e := client.Endpoint{Address: fmt.Sprintf("127.0.0.1:%d", 41000+10*len(s.name)+i), Health: "healthy", Weight: 1}
			if w != "" {
				e.Workload, e.Identity = w+"."+s.namespace, "spiffe://mesh.local/ns/"+s.namespace+"/sa/"+s.name
			}
			switch w {
			case "payment-3":
				e.Health = "draining"
			case "ledger-2":
				e.Zone = "west"
			case "invoices-1":
				e.Health = "suspect"
			}
			out.Ports[0].Endpoints = append(out.Ports[0].Endpoints, e)
		}
		return out, nil
	}
	return nil, &client.Status{Code: http.StatusNotFound, Reason: client.ReasonNotFound, Message: "service " + service + " not found"}
}

func (m *fakeMesh) List(_ context.Context, r client.Resource, _ string) (*client.List, error) {
	empty, down := m.state()
	if down != nil {
		return nil, down
	}
	out := new(client.List)
	if empty || r.Plural != "services" && r.Plural != "httproutes" {
		return out, nil
	}
	for i, s := range fakeServices {
		metadata := map[string]any{"name": s.name, "namespace": s.namespace}
		if r.Plural == "services" {
			raw, err := json.Marshal(map[string]any{"metadata": metadata, "spec": map[string]any{
				"clusterIPs": []string{fmt.Sprintf("240.240.0.%d", i+1), fmt.Sprintf("fd74:756c:6c65::%x", i+1)},
				"ports":      []map[string]any{{"name": "main", "port": s.port, "appProtocol": s.protocol}},
			}})
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, raw)
		} else if s.routes != nil {
			var backends []map[string]any
			for _, name := range []string{"recommendations-v1", "recommendations-v2"} {
				backends = append(backends, map[string]any{"name": name, "port": 8080, "weight": s.routes[name]})
			}
			raw, err := json.Marshal(map[string]any{"metadata": metadata, "spec": map[string]any{
				"parentRefs": []map[string]any{{"group": "", "kind": "Service", "name": s.name, "port": 8080}},
				"rules":      []map[string]any{{"backendRefs": backends}},
			}})
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, raw)
		}
	}
	return out, nil
}

// fakeSignals are the numbers of fakeServices, with a slow wave in the charts.
type fakeSignals struct{ mesh *fakeMesh }

func num(v float64) *float64 { return &v }

func fakeNumbers(rps, success, p50, mutual float64) telemetry.Signals {
	s := telemetry.Signals{MutualTLS: num(mutual), TCPConnections: num(0), ReceivedBytes: num(rps * 212), SentBytes: num(rps * 1840)}
	s.RPS, s.SuccessRate = num(rps), num(success)
	s.Latency = telemetry.Latency{P50: num(p50), P95: num(p50 * 2.1), P99: num(p50 * 3.4)}
	return s
}

func (f fakeSignals) Stat(context.Context, time.Duration) (telemetry.Stat, error) {
	empty, down := f.mesh.state()
	out := telemetry.Stat{Window: "1m", Services: []telemetry.Service{}}
	if down != nil || empty {
		return out, down
	}
	for _, s := range fakeServices {
		n := telemetry.Service{Name: s.name, Namespace: s.namespace, Meshed: telemetry.Meshed{Ready: len(s.workloads), Total: len(s.workloads)}}
		switch {
		case s.rps < 0:
			n.Signals = telemetry.Signals{MutualTLS: num(1), TCPConnections: num(4), ReceivedBytes: num(8400), SentBytes: num(51_200)}
		case s.name == "legacy-tax":
			n.Signals = fakeNumbers(s.rps, s.success, s.p50, 0)
		case s.rps > 0:
			n.Signals = fakeNumbers(s.rps, s.success, s.p50, 1)
		}
		out.Services = append(out.Services, n)
	}
	return out, nil
}

func (f fakeSignals) Edges(context.Context, time.Duration) (telemetry.Edges, error) {
	empty, down := f.mesh.state()
	out := telemetry.Edges{Window: "1m", Edges: []telemetry.Edge{}}
	if down != nil || empty {
		return out, down
	}
	edge := func(from, fromNamespace, to, toNamespace string, s telemetry.Signals) {
		protocol := "http"
		if s.RPS == nil {
			protocol = "tcp"
		}
		out.Edges = append(out.Edges, telemetry.Edge{From: telemetry.Peer{Name: from, Namespace: fromNamespace}, To: telemetry.Peer{Name: to, Namespace: toNamespace}, Protocol: protocol, Signals: s})
	}
	tcp := telemetry.Signals{MutualTLS: num(1), TCPConnections: num(2), ReceivedBytes: num(4200), SentBytes: num(25_600)}
	edge("load", "default", "web", "default", fakeNumbers(2.1, 1, 6.4, 1))
	edge("edge", "default", "web", "default", fakeNumbers(46.1, 1, 6.9, 1))
	edge("web-1", "default", "catalogue", "default", fakeNumbers(48.0, 1, 1.3, 1))
	edge("web-2", "default", "catalogue", "default", fakeNumbers(48.3, 1, 1.3, 1))
	edge("web-1", "default", "cart", "default", fakeNumbers(15.8, 0.9984, 2.6, 1))
	edge("web-2", "default", "cart", "default", fakeNumbers(15.8, 0.9984, 2.6, 1))
	edge("web-1", "default", "recommendations-v1", "default", fakeNumbers(19.1, 1, 3.4, 1))
	edge("web-2", "default", "recommendations-v1", "default", fakeNumbers(19.3, 1, 3.4, 1))
	edge("web-1", "default", "recommendations-v2", "default", fakeNumbers(4.8, 0.934, 12.1, 1))
	edge("web-2", "default", "recommendations-v2", "default", fakeNumbers(4.8, 0.934, 12.2, 1))
	edge("cart-1", "default", "store", "default", tcp)
	edge("cart-2", "default", "store", "default", tcp)
	edge("cart-1", "default", "payment", "default", fakeNumbers(2.4, 0.997, 19, 1))
	edge("cart-2", "default", "payment", "default", fakeNumbers(2.3, 0.997, 19, 1))
	edge("payment-1", "default", "ledger", "billing", fakeNumbers(2.4, 1, 8.3, 1))
	edge("payment-2", "default", "ledger", "billing", fakeNumbers(2.3, 1, 8.3, 1))
	edge("ledger-1", "billing", "invoices", "billing", fakeNumbers(1.2, 0.981, 45, 1))
	edge("invoices-1", "billing", "legacy-tax", "billing", fakeNumbers(1.2, 1, 63, 0))
	edge("payment-1", "default", "", "", telemetry.Signals{RPS: num(2.3), SuccessRate: num(1), Latency: telemetry.Latency{P50: num(81), P95: num(140), P99: num(190)}, TCPConnections: num(0), ReceivedBytes: num(900), SentBytes: num(2100)})
	edge("", "", "catalogue", "default", fakeNumbers(0.3, 1, 0.9, 0))
	return out, nil
}

func (f fakeSignals) StatAndEdges(ctx context.Context, window time.Duration) (telemetry.Stat, telemetry.Edges, error) {
	stat, err := f.Stat(ctx, window)
	if err != nil {
		return stat, telemetry.Edges{}, err
	}
	edges, err := f.Edges(ctx, window)
	return stat, edges, err
}

func (f fakeSignals) Chart(_ context.Context, c telemetry.Chart) (telemetry.Series, error) {
	span := c.Span
	if span == 0 {
		span = 15 * time.Minute
	}
	out := telemetry.Series{Times: []float64{}, Lines: []telemetry.Line{}}
	const n = 120
	step := span / n
	end := f.mesh.now().Truncate(time.Second)
	for i := range n + 1 {
		out.Times = append(out.Times, float64(end.Add(-span+time.Duration(i)*step).Unix()))
	}
	line := func(name string, around, seed float64) {
		l := telemetry.Line{Name: name}
		for i := range out.Times {
			t := float64(i)
			if i < 8 { // it began later
				l.Values = append(l.Values, nil)
				continue
			}
			l.Values = append(l.Values, num(around*(1+0.12*math.Sin(t/9+seed)+0.07*math.Sin(t/2.3+2*seed)+0.04*math.Sin(t*1.7+seed))))
		}
		out.Lines = append(out.Lines, l)
	}
	if c.Subject == "services" {
		for i, s := range fakeServices {
			if s.rps > 0 {
				line(s.name+"."+s.namespace, s.rps, float64(i))
			}
		}
		return out, nil
	}
	rps, p50, success := 20.0, 4.0, 1.0
	for _, s := range fakeServices {
		if s.name == c.Of.Name && s.rps > 0 {
			rps, p50, success = s.rps, s.p50, s.success
		}
	}
	switch c.Name {
	case "requests":
		if c.Subject == "proxy" {
			line("inbound", rps, 1)
			line("outbound", rps*1.8, 2)
		} else {
			line("success", rps*success, 1)
			line("failure", rps*(1-success), 4)
		}
	case "latency":
		line("p50", p50, 1)
		line("p95", p50*2.1, 2)
		line("p99", p50*3.4, 3)
	case "success_rate":
		line("success_rate", 1, 3)
		for i, v := range out.Lines[0].Values {
			if v != nil {
				out.Lines[0].Values[i] = num(min(1, 1-(1-success)*(1+0.8*math.Sin(float64(i)/5))))
			}
		}
	case "bytes":
		line("received", rps*212, 1)
		line("sent", rps*1840, 1.2)
	case "connections":
		if c.Subject == "service" {
			line("open", 4, 1)
			break
		}
		line("inbound", 8, 1)
		line("outbound", 12, 2)
	case "memory":
		line("resident", 9.2e6, 0.5)
	default:
		return telemetry.Series{}, &telemetry.InvalidError{Reason: "chart " + c.Name + " is not known"}
	}
	return out, nil
}
