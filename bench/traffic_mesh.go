//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// documents joins YAML documents.
func documents(all ...string) string { return strings.Join(all, "\n---\n") }

// manyMesh are the objects of a gateway on port front before one service,
// "backend", with an endpoint for each port. Further objects follow.
func manyMesh(front int, endpoints []int, more ...string) string {
	parts := strings.Split(edgeMesh, "---\n")
	gateway, routing, service, slice := parts[0], parts[1], parts[2], parts[3]
	all := []string{fmt.Sprintf(gateway, front), fmt.Sprintf(service, "http")}
	own := false // somebody else's routes lead there
	for _, m := range more {
		own = own || strings.Contains(m, "kind: HTTPRoute\n")
	}
	if !own {
		all = append(all, routing)
	}
	for i, at := range endpoints {
		all = append(all, strings.Replace(fmt.Sprintf(slice, at), "{name: backend, labels", fmt.Sprintf("{name: backend-%d, labels", i), 1))
	}
	return documents(append(all, more...)...)
}

// policyObject is a policy of one of Tulle's kinds for the service.
func policyObject(kind, service, spec string) string {
	return fmt.Sprintf(`
apiVersion: tulle.dev/v1alpha1
kind: %s
metadata: {name: bench}
spec:
  targetRefs: [{kind: Service, name: %s}]
%s`, kind, service, spec)
}

// tulleMany starts Tulle as the gateway of manyMesh. name is what tables call it.
func (r *rig) tulleMany(ctx context.Context, name string, endpoints []int, more ...string) (*hop, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	mesh, err := r.file(fmt.Sprintf("many%d/mesh.yaml", ports[0]), manyMesh(ports[0], endpoints, more...))
	if err != nil {
		return nil, err
	}
	state, err := r.view(mesh, "edge", "")
	if err != nil {
		return nil, err
	}
	p, err := r.tulleProxy(name, state)
	return started(ctx, name, ports[0], p, err)
}

// started is a hop of one process, once it listens.
func started(ctx context.Context, name string, front int, p *process, err error) (*hop, error) {
	if err != nil {
		return nil, err
	}
	h := &hop{name: name, address: local(front), procs: []*process{p}}
	if err := p.wait(ctx, h.address); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

// envoyOptions are the parts of a gateway's configuration that the cases differ in.
type envoyOptions struct {
	routes  string // YAML, a list in brackets; empty: one for all
	cluster string // further YAML lines of the cluster, indented by 4
	filters string // further HTTP filters, lines indented by 10
}

// By default Envoy refuses regular expressions that RE2 makes a long program of.
const envoyManyConf = `
layered_runtime: {layers: [{name: static, static_layer: {re2.max_program_size.error_level: 1000}}]}
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: %[1]d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          codec_type: AUTO
          generate_request_id: false
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: %[2]s}]}
          http_filters:
%[3]s          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: back
    type: STATIC
    connect_timeout: 5s
%[4]s    circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]}
    load_assignment: {cluster_name: back, endpoints: [{lb_endpoints: [%[5]s]}]}
`

const envoyAll = `[{match: {prefix: /}, route: {cluster: back, timeout: 0s}}]`

// envoyMany starts Envoy before many endpoints.
func (r *rig) envoyMany(ctx context.Context, name string, endpoints []int, o envoyOptions) (*hop, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	if o.routes == "" {
		o.routes = envoyAll
	}
	var list []string
	for _, at := range endpoints {
		list = append(list, fmt.Sprintf("{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}", at))
	}
	conf, err := r.file(fmt.Sprintf("envoy%d.yaml", ports[0]), fmt.Sprintf(envoyManyConf, ports[0], o.routes, o.filters, o.cluster, strings.Join(list, ", ")))
	if err != nil {
		return nil, err
	}
	p, err := spawn(name, pinned(proxyCPU), nil, r.envoy, "-c", conf, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
	return started(ctx, name, ports[0], p, err)
}

// tullePair starts Tulle's two proxies, multiplexed, with further objects: policies
// of the service "cart", whose program is at port app.
func (r *rig) tullePair(ctx context.Context, name string, app int, more ...string) (*hop, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf(pairMesh, "http", app, ports[0], ports[1], multiplexed.tulle)
	mesh, err := r.file(fmt.Sprintf("policies%d/mesh.yaml", ports[0]), documents(append([]string{text}, more...)...))
	if err != nil {
		return nil, err
	}
	h := &hop{name: name, address: local(ports[1])}
	for i, proxy := range []string{"web", "cart"} {
		state, err := r.view(mesh, proxy, r.identities())
		if err != nil {
			h.stop()
			return nil, err
		}
		p, err := r.tulleProxy(name+"-"+proxy, state)
		if err == nil {
			h.procs = append(h.procs, p)
			err = p.wait(ctx, local(ports[1-i]))
		}
		if err != nil {
			h.stop()
			return nil, err
		}
	}
	return h, nil
}

// origins starts one nginx that answers 100 bytes on n ports.
func (r *rig) origins(ctx context.Context, n int) (*process, []int, error) {
	ports, err := freePorts(n)
	if err != nil {
		return nil, nil, err
	}
	var listen strings.Builder
	for _, p := range ports {
		fmt.Fprintf(&listen, "listen %s; ", local(p))
	}
	p, err := r.nginx(fmt.Sprintf("origins%d", ports[0]), otherCPUs(), fmt.Sprintf(`server { %slocation / { default_type text/plain; return 200 "%s"; } }`, listen.String(), hundred))
	if err != nil {
		return nil, nil, err
	}
	if err := p.wait(ctx, local(ports[n-1])); err != nil {
		p.stop()
		return nil, nil, err
	}
	return p, ports, nil
}

// scripted is full load of requests that take turns.
func (r *rig) scripted(requests []scriptedRequest) (loader, error) {
	var b strings.Builder
	b.WriteString("local all = {}\nlocal i = 0\ninit = function()\n")
	for k, q := range requests {
		fields := ""
		if q.name != "" {
			fields = fmt.Sprintf("[%q] = %q", q.name, q.value)
		}
		fmt.Fprintf(&b, "  all[%d] = wrk.format(\"GET\", %q, {%s})\n", k+1, q.path, fields)
	}
	b.WriteString("end\nrequest = function() i = i % #all + 1; return all[i] end\n")
	path, err := r.file("requests.lua", b.String())
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, address string, length time.Duration) (sample, int64, error) {
		return full(ctx, address, length, "-s", path)
	}, nil
}

// scriptedRequest is one of them, with a header field unless name is empty.
type scriptedRequest struct{ path, name, value string }
