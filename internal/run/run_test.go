package run

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/run/namespace"
)

func TestServiceVariables(t *testing.T) {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "redis-master"}}
	s.Spec.Ports = []corev1.ServicePort{{Port: 6379}, {Name: "web-admin", Port: 80}}
	want := []string{
		"REDIS_MASTER_SERVICE_HOST=127.0.0.1",
		"REDIS_MASTER_SERVICE_PORT=41001",
		"REDIS_MASTER_PORT=tcp://127.0.0.1:41001",
		"REDIS_MASTER_PORT_6379_TCP=tcp://127.0.0.1:41001",
		"REDIS_MASTER_PORT_6379_TCP_ADDR=127.0.0.1",
		"REDIS_MASTER_PORT_6379_TCP_PORT=41001",
		"REDIS_MASTER_PORT_6379_TCP_PROTO=tcp",
		"REDIS_MASTER_SERVICE_PORT_WEB_ADMIN=41002",
		"REDIS_MASTER_PORT_80_TCP=tcp://127.0.0.1:41002",
		"REDIS_MASTER_PORT_80_TCP_ADDR=127.0.0.1",
		"REDIS_MASTER_PORT_80_TCP_PORT=41002",
		"REDIS_MASTER_PORT_80_TCP_PROTO=tcp",
	}
	if diff := cmp.Diff(want, serviceVariables(s, []uint16{41001, 41002})); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}

func TestProxyVariables(t *testing.T) {
	for _, test := range []struct{ have, want string }{
		{"", "localhost,127.0.0.1,::1"},
		{"no_proxy=intranet, .example", "localhost,127.0.0.1,::1,intranet,.example"},
		{"NO_PROXY=localhost,other", "localhost,127.0.0.1,::1,other"},
	} {
		got := proxyVariables("127.0.0.1:3128", []string{"HOME=/", test.have})
		want := []string{"http_proxy=http://127.0.0.1:3128", "HTTP_PROXY=http://127.0.0.1:3128", "no_proxy=" + test.want, "NO_PROXY=" + test.want}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with %q (-want +got):\n%s", test.have, diff)
		}
	}
}

func TestMerge(t *testing.T) {
	got := merge([]string{"A=1", "B=2", "A=3"}, []string{"B=4", "C=5"})
	if diff := cmp.Diff([]string{"A=3", "B=4", "C=5"}, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestOutboundAddress(t *testing.T) {
	for _, test := range []struct{ control, want string }{
		{"unix:/run/tulle/proxy.sock", "127.0.0.1"},
		{"127.0.0.1:9440", "127.0.0.1"},
		{"[::1]:9440", "::1"},
	} {
		got, err := OutboundAddress(test.control)
		if err != nil && strings.HasPrefix(test.control, "[") {
			continue // no IPv6 here
		}
		if err != nil || got != netip.MustParseAddr(test.want) {
			t.Errorf("%s: %v, %v; want %s", test.control, got, err, test.want)
		}
	}
	if _, err := OutboundAddress("nonsense"); err == nil {
		t.Error("no port: want an error")
	}
}

func TestResolvConf(t *testing.T) {
	mesh := []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local"}
	for _, test := range []struct{ host, want string }{
		{"", "nameserver 192.0.0.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n"},
		{"# by hand\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.com lan\n",
			"nameserver 192.0.0.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local example.com lan\noptions edns0 trust-ad\n"},
		{"domain example.com\nnameserver 192.0.2.1\nnameserver 192.0.2.2", "nameserver 192.0.0.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local example.com\n"},
	} {
		if diff := cmp.Diff(test.want, resolvConf(test.host, slices.Clone(mesh))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.host, diff)
		}
	}
}

func TestParseMode(t *testing.T) {
	for _, m := range []string{"auto", "netns", "explicit"} {
		if got, err := ParseMode(m); err != nil || string(got) != m {
			t.Errorf("%s: %v, %v", m, got, err)
		}
	}
	for _, m := range []string{"", "Auto", "redirect"} {
		if got, err := ParseMode(m); err == nil {
			t.Errorf("%q: %v, want an error", m, got)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, test := range []struct {
		exit namespace.Exit
		want int
	}{{namespace.Exit{}, 0}, {namespace.Exit{Code: 7}, 7}, {namespace.Exit{Code: -1, Signal: 15}, 143}} {
		if got := exitCode(test.exit); got != test.want {
			t.Errorf("%+v: %d, want %d", test.exit, got, test.want)
		}
	}
}

// A directory has one workload at a time; a suggested name makes way.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	first := &Config{Name: "cart", Namespace: "default", Suggested: true, DataDir: dir}
	held, err := first.lock()
	if err != nil || first.Name != "cart" {
		t.Fatalf("first: %q, %v", first.Name, err)
	}
	defer held.Close()
	second := &Config{Name: "cart", Namespace: "default", Suggested: true, DataDir: dir}
	other, err := second.lock()
	if err != nil || second.Name != "cart-2" {
		t.Errorf("second: %q, %v; want cart-2", second.Name, err)
	}
	other.Close()
	third := &Config{Name: "cart", Namespace: "default", DataDir: dir}
	if f, err := third.lock(); err == nil || !strings.Contains(err.Error(), "running already") {
		t.Errorf("by name: %v, want that it runs already", err)
		f.Close()
	}
	elsewhere := &Config{Name: "cart", Namespace: "shop", DataDir: dir}
	f, err := elsewhere.lock()
	if err != nil {
		t.Errorf("another namespace: %v", err)
	}
	f.Close()
	if info, err := os.Stat(first.dir()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v; want 0700", info, err)
	}
}

func TestFreePorts(t *testing.T) {
	free := new(freePorts)
	defer free.release()
	seen := map[uint16]bool{}
	for range 50 {
		port, err := free.take(loopback)
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Errorf("port %d twice", port)
		}
		seen[port] = true
	}
	if _, err := free.take(netip.MustParseAddr("192.0.2.1")); err == nil {
		t.Error("an address that isn't ours: want an error")
	}
}

// TestProxyProtocol: the workload says of its port what header its program is sent,
// and its validation takes that.
func TestProxyProtocol(t *testing.T) {
	c := &Config{Name: "mail", Namespace: "default", Address: netip.MustParseAddr("127.0.0.1"), ServiceAccount: "mail",
		Ports: []Port{{Service: "mail", Port: 25, App: 2525, Protocol: "tcp", ProxyProtocol: "v2"}, {Service: "mail", Port: 80, App: 8080}}}
	free := new(freePorts)
	defer free.release()
	w, err := c.workload(Explicit, nil, nil, "", free)
	if err != nil {
		t.Fatal(err)
	}
	if p := w.Spec.Ports; len(p) != 2 || p[0].ProxyProtocol != "v2" || p[1].ProxyProtocol != "" {
		t.Errorf("ports: %+v", p)
	}
	if issues := object.Validate(w); len(issues) > 0 {
		t.Errorf("not valid: %v", issues)
	}
}

// TestWorkloadProtocol: whatever may be said of a port is said of the workload
// in a word that its validation takes.
func TestWorkloadProtocol(t *testing.T) {
	want := map[string]string{"http": "http", "http2": "http2", "kubernetes.io/h2c": "http2", "grpc": "http2", "tcp": "tcp"}
	for _, p := range append(Protocols, "") {
		if got := workloadProtocol(p); got != want[p] {
			t.Errorf("workloadProtocol(%q) = %q, want %q", p, got, want[p])
		}
	}
}

func TestProxyNamed(t *testing.T) {
	for dir, want := range map[string]string{"web": "web", "web.shop": "web.shop", "default_edge": "edge", "shop_edge": "edge.shop"} {
		if got := proxyNamed(dir); got != want {
			t.Errorf("directory %s is of %s, want %s", dir, got, want)
		}
	}
}
