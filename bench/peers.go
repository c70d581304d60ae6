//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hop is a running proxy, or a pair of them: what stands between the load and
// the origin.
type hop struct {
	name    string
	address string     // where the load goes
	procs   []*process // one, or the outbound and the inbound of a pair
}

func (h *hop) stop() {
	for _, p := range h.procs {
		p.stop()
	}
}

// used adds up what the hop's processes used.
func (h *hop) used() (usage, error) {
	var sum usage
	for _, p := range h.procs {
		u, err := p.used()
		if err != nil {
			return sum, err
		}
		sum.cpu += u.cpu
		sum.switches += u.switches
		sum.user += u.user
		sum.system += u.system
	}
	return sum, nil
}

func (h *hop) memory() (string, error) {
	var all []string
	for _, p := range h.procs {
		m, err := p.memory()
		if err != nil {
			return "", err
		}
		all = append(all, fmt.Sprintf("%.1f", float64(m.total)/1e6))
	}
	return strings.Join(all, " / "), nil
}

// tulleEnv makes Tulle offer the group that HAProxy's OpenSSL 3.0 also has:
// it knows no post-quantum hybrid, and the bench compares like with like. A
// mesh in use keeps Go's default, X25519MLKEM768.
var tulleEnv = []string{"GODEBUG=tlsmlkem=0,tlssecpmlkem=0"}

// prepare finds the programs, starts the origin and prints what runs where.
func (r *rig) prepare(ctx context.Context) error {
	type program struct{ name, hint string }
	need := []program{{"wrk", "apt-get install wrk"}, {"nginx", "apt-get install nginx"}}
	if r.has("haproxy") {
		need = append(need, program{"haproxy", "apt-get install haproxy"})
	}
	r.findEnvoy()
	if r.has("tulle") {
		need = append(need, program{r.tulle, "make build"}, program{r.proxy, "make build"})
	}
	for _, n := range need {
		if _, err := exec.LookPath(n.name); err != nil {
			return fmt.Errorf("%s is missing: %s", n.name, n.hint)
		}
	}
	var err error
	if r.tulle, err = filepath.Abs(r.tulle); err != nil {
		return err
	}
	if r.proxy, err = filepath.Abs(r.proxy); err != nil {
		return err
	}
	r.versions()
	if r.openssl, err = r.file("openssl.cnf", opensslConf); err != nil {
		return err
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	r.address = fmt.Sprintf("127.0.0.1:%d", ports[0])
	body := strings.Repeat("0123456789", 10)
	r.origin, err = r.nginx("origin", otherCPUs(), fmt.Sprintf(`server { listen %s; location / { default_type text/plain; return 200 "%s"; } }`, r.address, body))
	if err != nil {
		return err
	}
	return r.origin.wait(ctx, r.address)
}

// versions prints the machine and the programs.
func (r *rig) versions() {
	var u unix.Utsname
	unix.Uname(&u)
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^model name\s*:\s*(.*)$`).FindSubmatch(b); m != nil {
			model = string(m[1])
		}
	}
	fmt.Printf("%s, %d CPUs, Linux %s\n", model, runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]))
	first := func(args ...string) string {
		out, _ := exec.Command(args[0], args[1:]...).CombinedOutput()
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	fmt.Println(first("nginx", "-v"))
	fmt.Println(first("wrk", "-v"))
	if r.has("haproxy") {
		out, _ := exec.Command("haproxy", "-vv").CombinedOutput()
		line, _, _ := strings.Cut(string(out), "\n")
		fmt.Println(line)
		if m := regexp.MustCompile(`Running on OpenSSL version : (.*)`).FindSubmatch(out); m != nil {
			fmt.Printf("  with %s\n", m[1])
		}
	}
	if r.has("envoy") {
		fmt.Println("envoy", strings.TrimSpace(regexp.MustCompile(`^.*version: [0-9a-f]+/`).ReplaceAllString(first(r.envoy, "--version"), "")))
	}
	if r.has("tulle") {
		fmt.Println(first(r.proxy, "--version"))
	}
	fmt.Printf("%d rounds of %v; proxies on CPU %d, load and origin elsewhere; %s\n\n", r.rounds, r.length, proxyCPU, time.Now().UTC().Format("2006-01-02"))
}

// file writes a file into the run's folder and returns its path.
func (r *rig) file(name, text string) (string, error) {
	p := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return "", err
	}
	return p, os.WriteFile(p, []byte(text), 0o600)
}

// nginx starts one nginx of one process with the given servers.
func (r *rig) nginx(name string, cpus *unix.CPUSet, servers string) (*process, error) {
	dir := filepath.Join(r.dir, name)
	conf, err := r.file(name+"/nginx.conf", fmt.Sprintf(`
daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log stderr error;
events { worker_connections 30000; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; keepalive_time 24h; tcp_nodelay on;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  %[2]s
}`, dir, servers))
	if err != nil {
		return nil, err
	}
	return spawn(name, cpus, nil, "nginx", "-p", dir, "-c", conf, "-e", "stderr")
}

// relay starts this program as a relay: see relay.go.
func (r *rig) relay(address, origin string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return spawn(relayCommand, pinned(proxyCPU), nil, self, relayCommand, address, origin)
}

const haproxyDefaults = `
global
  nbthread 1
  maxconn 12000
  no strict-limits
  tune.ssl.cachesize 0
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-server-options ssl-min-ver TLSv1.3 no-tls-tickets
  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
defaults
  mode http
  http-reuse always
  timeout client 1h
  timeout server 1h
  timeout connect 5s
  timeout http-keep-alive 1h
`

// HAProxy's no-tls-tickets is about TLS 1.2: in 1.3 OpenSSL then sends another
// kind of ticket. This asks OpenSSL itself for none.
const opensslConf = `
openssl_conf = conf
[conf]
ssl_conf = ssl
[ssl]
system_default = system
[system]
NumTickets = 0
`

// haproxy starts HAProxy listening with bind and sending to server. Of options
// each is a line of the section "defaults".
func (r *rig) haproxy(name, bind, server string, options ...string) (*process, error) {
	conf, err := r.file(name+".cfg", haproxyDefaults+"  "+strings.Join(options, "\n  ")+fmt.Sprintf(`
frontend f
  bind %s
  default_backend b
backend b
  server s %s
`, bind, server))
	if err != nil {
		return nil, err
	}
	return spawn(name, pinned(proxyCPU), []string{"OPENSSL_CONF=" + r.openssl}, "haproxy", "-db", "-f", conf)
}

// view has Tulle render one proxy's state file.
func (r *rig) view(mesh, proxy string, identity string) (string, error) {
	state := filepath.Join(r.dir, filepath.Base(filepath.Dir(mesh))+"-"+proxy+".state")
	args := []string{"view", "-f", mesh, "--proxy", proxy, "--state", state}
	if identity != "" {
		args = append(args, "--identity", identity)
	}
	out, err := exec.Command(r.tulle, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("tulle %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return state, nil
}

func (r *rig) tulleProxy(name, state string) (*process, error) {
	return spawn(name, pinned(proxyCPU), tulleEnv, r.proxy, "--state", state, "--loops", "1")
}

// edgeMesh and pairMesh are examples/edge and examples/pair with other ports.
const edgeMesh = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: tulle
  addresses: [{type: IPAddress, value: 127.0.0.1}]
  listeners: [{name: http, port: %d, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: backend, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: backend}
spec:
  ports: [{name: http, port: 80, appProtocol: %s}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{name: http, port: %d}]
endpoints: [{addresses: [127.0.0.1]}]
`

const pairMesh = `
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  selector: {app: cart}
  ports: [{name: http, port: 8080, appProtocol: %s}]
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: cart, labels: {app: cart}}
spec:
  address: 127.0.0.1
  serviceAccount: cart
  ports: [{service: cart, port: 8080, appPort: %d, meshPort: %d}]
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: web, labels: {app: web}}
spec:
  address: 127.0.0.1
  serviceAccount: web
  outbound: [{service: cart, port: 8080, listen: "127.0.0.1:%d"}]
---
apiVersion: tulle.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec:
  settings: {peerProtocol: %s}
`

func port(address string) int {
	var n int
	fmt.Sscanf(address[strings.LastIndexByte(address, ':')+1:], "%d", &n)
	return n
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// plain starts one named proxy in front of the origin, and waits for it.
func (r *rig) plain(ctx context.Context, name string) (*hop, error) {
	return r.oneHop(ctx, name, r.address, false)
}

// oneHop starts one named proxy in front of a server, to which it speaks
// HTTP/1.1, or HTTP/2 from its first byte on.
func (r *rig) oneHop(ctx context.Context, name, origin string, http2 bool) (*hop, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	h := &hop{name: name, address: local(ports[0])}
	var p *process
	switch name {
	case "haproxy":
		p, err = r.haproxy("haproxy", h.address+haproxyProto(http2), origin+haproxyProto(http2))
	case "envoy":
		p, err = r.envoyProxy("envoy", ports[0], port(origin), nil, nil, http2)
	case "nginx":
		p, err = r.nginx("nginx", pinned(proxyCPU), fmt.Sprintf(
			`upstream o { server %s; keepalive 64; keepalive_requests 1000000000; keepalive_timeout 1h; }
  server { listen %s; location / { proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection ""; } }`, origin, h.address))
	case relayCommand:
		p, err = r.relay(h.address, origin)
	case "tulle":
		var mesh, state string
		if mesh, err = r.file(fmt.Sprintf("edge%d/mesh.yaml", ports[0]), fmt.Sprintf(edgeMesh, ports[0], appProtocol(http2), port(origin))); err != nil {
			return nil, err
		}
		if state, err = r.view(mesh, "edge", ""); err != nil {
			return nil, err
		}
		p, err = r.tulleProxy("tulle", state)
	}
	if err != nil {
		return nil, err
	}
	h.procs = []*process{p}
	if err := p.wait(ctx, h.address); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

// identities is where the certificates of both pairs are: the same files.
func (r *rig) identities() string { return filepath.Join(r.dir, "ids") }

// form is what a pair's proxies speak between them, inside mutual TLS.
type form struct {
	name string
	// tulle is the Mesh object's peerProtocol; bind and server are added to
	// HAProxy's lines.
	tulle, bind, server string
	// http2 says that the client and the server speak HTTP/2 as well.
	http2 bool
	// origin is the server; empty for the run's own.
	origin string
}

// appProtocol is what a Service object says of its port.
func appProtocol(http2 bool) string {
	if http2 {
		return "kubernetes.io/h2c"
	}
	return "http"
}

// haproxyProto is added to a line of HAProxy's that has no TLS.
func haproxyProto(http2 bool) string {
	if http2 {
		return " proto h2"
	}
	return ""
}

var (
	// between is HTTP/1.1 on connections that carry one exchange at a time.
	between = form{name: "HTTP/1.1", tulle: "http1"}
	// multiplexed is HTTP/2, many exchanges on a connection.
	multiplexed = form{name: "HTTP/2", tulle: "http2", bind: " alpn h2,http/1.1", server: " alpn h2"}
	// allAlong is HTTP/2 from the client to the server.
	allAlong = form{name: "HTTP/2", tulle: "http2", bind: " alpn h2,http/1.1", server: " alpn h2", http2: true}
)

// pair starts two proxies with mutual TLS between them. The address where the
// inbound one accepts is inbound; the outbound one dials dials, which is the
// same but for an inspection.
func (r *rig) pair(ctx context.Context, name string, f form, inbound, dials int) (*hop, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	h := &hop{name: name, address: local(ports[0])}
	var out, in *process
	ids := r.identities()
	origin := r.address
	switch {
	case f.origin != "":
		origin = f.origin
	case f.http2:
		origin = r.address2
	}
	proto := haproxyProto(f.http2)
	switch name {
	case "haproxy":
		in, err = r.haproxy("haproxy-in", fmt.Sprintf("%s ssl crt %s ca-file %s verify required curves X25519%s", local(inbound), filepath.Join(ids, "cart-both.pem"), filepath.Join(ids, "bundle.pem"), f.bind), origin+proto)
		if err == nil {
			out, err = r.haproxy("haproxy-out", h.address+proto, fmt.Sprintf("%s ssl crt %s ca-file %s verify required%s", local(dials), filepath.Join(ids, "web-both.pem"), filepath.Join(ids, "bundle.pem"), f.server))
		}
	case "envoy":
		end := func(who, alpn string) *envoyTLS {
			return &envoyTLS{filepath.Join(ids, who+".pem"), filepath.Join(ids, who+"-key.pem"), filepath.Join(ids, "bundle.pem"), alpn, ""}
		}
		alpn := "[http/1.1]"
		if f.server != "" {
			alpn = "[h2]"
		}
		if in, err = r.envoyProxy("envoy-in", inbound, port(origin), end("cart", "[h2, http/1.1]"), nil, f.http2); err == nil {
			out, err = r.envoyProxy("envoy-out", ports[0], dials, nil, end("web", alpn), f.server != "")
		}
	case "tulle":
		var mesh, state string
		if mesh, err = r.file(fmt.Sprintf("pair%d/mesh.yaml", inbound), fmt.Sprintf(pairMesh, appProtocol(f.http2), port(origin), inbound, ports[0], f.tulle)); err != nil {
			return nil, err
		}
		if state, err = r.view(mesh, "cart", ids); err != nil {
			return nil, err
		}
		if in, err = r.tulleProxy("tulle-in", state); err != nil {
			return nil, err
		}
		if mesh, err = r.file(fmt.Sprintf("pair%d/mesh.yaml", dials), fmt.Sprintf(pairMesh, appProtocol(f.http2), port(origin), dials, ports[0], f.tulle)); err == nil {
			if state, err = r.view(mesh, "web", ids); err == nil {
				out, err = r.tulleProxy("tulle-out", state)
			}
		}
	default:
		return nil, errors.New("no pair of " + name)
	}
	if in != nil {
		h.procs = append(h.procs, in)
	}
	if out != nil {
		h.procs = append([]*process{out}, h.procs...)
	}
	if err == nil {
		err = in.wait(ctx, local(inbound))
	}
	if err == nil {
		err = out.wait(ctx, h.address)
	}
	if err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}
