package dashboard

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/telemetry"
)

// overview is all that the tables and the topology show at one moment. A part
// that can't be had is absent, and problems says why.
type overview struct {
	At       int64              `json:"at"` // Unix milliseconds
	Status   *client.MeshStatus `json:"status"`
	Check    *verdict           `json:"check"`
	Stat     *telemetry.Stat    `json:"stat"`
	Edges    *telemetry.Edges   `json:"edges"`
	Services []service          `json:"services"`
	Proxies  []client.Proxy     `json:"proxies"`
	Problems []string           `json:"problems"`
}

// verdict counts what `check` found.
type verdict struct {
	Result   client.Result `json:"result"`
	Total    int           `json:"total"`
	Errors   int           `json:"errors"`
	Warnings int           `json:"warnings"`
}

// service is a service as the mesh knows it.
type service struct {
	Name      string   `json:"name"`
	Namespace string   `json:"namespace"`
	Ports     []port   `json:"ports"`
	Addresses []string `json:"addresses"`
	// Workloads that serve it, "cart-1.default".
	Workloads []string `json:"workloads"`
	Ready     int      `json:"ready"`
	Total     int      `json:"total"`
	// Routes are where HTTPRoutes send its requests instead of its own endpoints.
	Routes []split `json:"routes"`
}

type port struct {
	Name     string `json:"name"`
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`
}

// split is a backend of a service's or gateway's route.
type split struct {
	Route  string `json:"route"`  // "httproute/default/recommendations"
	Rule   int    `json:"rule"`   // its index
	Match  string `json:"match"`  // in words; "" for all requests
	To     string `json:"to"`     // "recommendations-v1.default"
	Weight int32  `json:"weight"` // relative to the rule's others
}

// The kinds the pages read, by their URLs.
var (
	kindService = client.Resource{Version: "v1", Plural: "services", Namespaced: true}
	routeKinds  = []string{"grpcroute", "httproute", "tcproute", "tlsroute"}
)

// overview gathers every part; one that fails doesn't spoil the others.
func (d *Dashboard) overview(ctx context.Context) *overview {
	o := &overview{At: time.Now().UnixMilli(), Problems: []string{}, Services: []service{}, Proxies: []client.Proxy{}}
	var mu sync.Mutex
	var group errgroup.Group
	part := func(name string, get func() error) {
		group.Go(func() error {
			if err := get(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				o.Problems = append(o.Problems, name+": "+err.Error())
			}
			return nil
		})
	}
	part("control plane", func() (err error) { o.Status, err = d.config.Mesh.Status(ctx); return })
	part("check", func() (err error) { o.Check, err = d.checked(ctx); return })
	part("proxies", func() error {
		list, err := d.config.Mesh.Proxies(ctx)
		if list != nil {
			o.Proxies = list
		}
		return err
	})
	part("services", func() error {
		list, err := d.services(ctx)
		if list != nil {
			o.Services = list
		}
		return err
	})
	part("metrics", func() error {
		stat, edges, err := d.config.Signals.StatAndEdges(ctx, window)
		if err != nil {
			return err
		}
		o.Stat, o.Edges = &stat, &edges
		return nil
	})
	_ = group.Wait() // parts never return errors
	slices.Sort(o.Problems)
	return o
}

// lastCheck keeps a report for checkEvery: looking into every aspect costs more
// than the rest of an overview.
type lastCheck struct {
	mu      sync.Mutex
	at      time.Time
	verdict *verdict
}

func (d *Dashboard) checked(ctx context.Context) (*verdict, error) {
	d.check.mu.Lock()
	defer d.check.mu.Unlock()
	if d.check.verdict != nil && time.Since(d.check.at) < checkEvery {
		return d.check.verdict, nil
	}
	report, err := d.config.Mesh.Check(ctx)
	if err != nil {
		return nil, err
	}
	v := &verdict{Result: report.Result, Total: len(report.Checks)}
	for _, c := range report.Checks {
		switch c.Result {
		case client.Failure:
			v.Errors++
		case client.Warning:
			v.Warnings++
		}
	}
	d.check.at, d.check.verdict = time.Now(), v
	return v, nil
}

// object is the part of a Service or route that is shown.
type object struct {
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Spec struct {
		Ports []struct {
			Name        string  `json:"name"`
			Port        uint16  `json:"port"`
			AppProtocol *string `json:"appProtocol"`
		} `json:"ports"`
		ClusterIPs []string    `json:"clusterIPs"`
		ParentRefs []reference `json:"parentRefs"`
		Hostnames  []string    `json:"hostnames"`
		Rules      []rule      `json:"rules"`
	} `json:"spec"`
}

type reference struct {
	Group     *string `json:"group"`
	Kind      *string `json:"kind"`
	Name      string  `json:"name"`
	Namespace *string `json:"namespace"`
	Port      *int32  `json:"port"`
	Weight    *int32  `json:"weight"`
}

// key is the service or gateway a reference names, seen from a namespace.
func (r reference) key(namespace string) string {
	if r.Namespace != nil {
		namespace = *r.Namespace
	}
	return r.Name + "." + namespace
}

type rule struct {
	Matches []struct {
		Path *struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"path"`
		Method  method       `json:"method"`
		Headers []fieldMatch `json:"headers"`
		Query   []fieldMatch `json:"queryParams"`
	} `json:"matches"`
	BackendRefs []reference `json:"backendRefs"`
}

type fieldMatch struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// words puts is between name and value, and marks an expression as one.
func (f fieldMatch) words(is string) string {
	if f.Type == "RegularExpression" {
		return f.Name + " ~ " + f.Value
	}
	return f.Name + is + f.Value
}

// method is an HTTPRoute's method, "GET", or a GRPCRoute's, "shop.Cart/Add".
type method string

func (m *method) UnmarshalJSON(data []byte) error {
	if data[0] != '{' {
		return json.Unmarshal(data, (*string)(m))
	}
	var grpc struct{ Type, Service, Method string }
	if err := json.Unmarshal(data, &grpc); err != nil {
		return err
	}
	all := "…"
	if grpc.Type == "RegularExpression" {
		all = ".*"
	}
	*m = method(cmp.Or(grpc.Service, all) + "/" + cmp.Or(grpc.Method, all))
	if grpc.Type == "RegularExpression" {
		*m = "~ " + *m
	}
	return nil
}

// words says what a rule matches; "" when it is every request.
func (r rule) words() string {
	var any []string
	for _, m := range r.Matches {
		var all []string
		if m.Method != "" {
			all = append(all, string(m.Method))
		}
		if m.Path != nil && (m.Path.Type == "Exact" || m.Path.Value != "/") {
			value := m.Path.Value
			switch m.Path.Type {
			case "Exact":
			case "RegularExpression":
				value = "~ " + value
			default:
				value = strings.TrimSuffix(value, "/") + "/…"
			}
			all = append(all, value)
		}
		for _, q := range m.Query {
			all = append(all, "?"+q.words("="))
		}
		for _, h := range m.Headers {
			all = append(all, h.words(": "))
		}
		if len(all) == 0 {
			return ""
		}
		any = append(any, strings.Join(all, " "))
	}
	return strings.Join(any, " or ")
}

func (d *Dashboard) objects(ctx context.Context, kind client.Resource) ([]object, error) {
	list, err := d.config.Mesh.List(ctx, kind, "")
	if err != nil {
		return nil, err
	}
	out := make([]object, len(list.Items))
	for i, raw := range list.Items {
		if err := json.Unmarshal(raw, &out[i]); err != nil {
			return nil, fmt.Errorf("%s %d: %w", kind.Plural, i, err)
		}
	}
	return out, nil
}

// services joins the objects with their endpoints and routes.
func (d *Dashboard) services(ctx context.Context) ([]service, error) {
	objects, err := d.objects(ctx, kindService)
	if err != nil {
		return nil, err
	}
	splits, err := d.splits(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]service, len(objects))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i, o := range objects {
		s := service{Name: o.Metadata.Name, Namespace: o.Metadata.Namespace, Ports: []port{}, Addresses: o.Spec.ClusterIPs, Workloads: []string{}}
		if s.Addresses == nil {
			s.Addresses = []string{}
		}
		for _, p := range o.Spec.Ports {
			shown := port{Name: p.Name, Port: p.Port, Protocol: "detected"}
			if p.AppProtocol != nil {
				shown.Protocol = *p.AppProtocol
			}
			s.Ports = append(s.Ports, shown)
		}
		key := s.Name + "." + s.Namespace
		s.Routes = splits["Service/"+key]
		if s.Routes == nil {
			s.Routes = []split{}
		}
		group.Go(func() error {
			endpoints, err := d.config.Mesh.Endpoints(groupCtx, key)
			if client.IsNotFound(err) {
				err = nil // deleted meanwhile
			}
			if err == nil && endpoints != nil {
				s.count(endpoints)
			}
			list[i] = s
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b service) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list, nil
}

// count adds up endpoints and names the workloads behind them, once each.
func (s *service) count(e *client.Endpoints) {
	workloads := map[string]bool{}
	for _, p := range e.Ports {
		for _, endpoint := range p.Endpoints {
			s.Total++
			if endpoint.Health == "healthy" || endpoint.Health == "suspect" {
				s.Ready++
			}
			if endpoint.Workload != "" {
				workloads[endpoint.Workload] = true
			}
		}
	}
	s.Workloads = append(s.Workloads, slices.Sorted(maps.Keys(workloads))...)
}

// splits lists the backends of every route, by "Service/NAME.NAMESPACE" or
// "Gateway/NAME.NAMESPACE" of its parents.
func (d *Dashboard) splits(ctx context.Context) (map[string][]split, error) {
	out := make(map[string][]split)
	for _, kind := range routeKinds {
		routes, err := d.objects(ctx, client.Resource{Group: "gateway.networking.k8s.io", Version: "v1", Plural: kind + "s", Namespaced: true})
		if err != nil {
			return nil, err
		}
		for _, route := range routes {
			route.splits(kind, out)
		}
	}
	return out, nil
}

// splits adds the backends of a route.
func (o *object) splits(kind string, out map[string][]split) {
	namespace := o.Metadata.Namespace
	for _, parent := range o.Spec.ParentRefs {
		of := "Gateway"
		if parent.Kind != nil {
			of = *parent.Kind
		}
		key := of + "/" + parent.key(namespace)
		for i, rule := range o.Spec.Rules {
			match := rule.words()
			switch kind {
			case "tcproute":
				match = "every connection"
			case "tlsroute":
				match = "connections for " + cmp.Or(strings.Join(o.Spec.Hostnames, ", "), "any name")
			}
			for _, backend := range rule.BackendRefs {
				weight := int32(1)
				if backend.Weight != nil {
					weight = *backend.Weight
				}
				out[key] = append(out[key], split{
					Route: kind + "/" + namespace + "/" + o.Metadata.Name, Rule: i, Match: match,
					To: backend.key(namespace), Weight: weight,
				})
			}
		}
	}
}
