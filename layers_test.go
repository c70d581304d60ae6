package tulle_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// layer is a rule about who may import whom. Paths are within this module,
// or whole for other modules; "x/..." is x and what is below it; "std" is the
// standard library.
type layer struct {
	// of are the packages the rule is about.
	of []string
	// except are those of them that it isn't about.
	except []string
	// may lists what they import beside the packages of the rule itself; nil
	// leaves it open.
	may []string
	// never lists what they don't, whatever may says.
	never []string
	// tests says the rule holds for the tests too.
	tests bool
	// why is printed with a violation.
	why string
}

var (
	nouns = []string{"internal/mesh", "internal/identity", "internal/access", "internal/policy", "internal/route", "internal/view"}
	heavy = []string{"net/http/...", "google.golang.org/grpc/...", "github.com/prometheus/...", "go.etcd.io/...", "k8s.io/...", "sigs.k8s.io/...",
		"golang.org/x/net/http2", "github.com/spf13/..."}
)

var layers = []layer{
	{of: []string{"internal/mesh", "internal/identity", "internal/access", "internal/policy", "internal/route"}, may: []string{"std"}, never: []string{"net/http/...", "os/exec"},
		why: "the nouns are shared by the proxy, the control plane and the CLI: values and rules, standard library only"},
	{of: []string{"internal/view"}, may: []string{"std", "internal/access", "internal/policy", "internal/route", "internal/identity", "internal/wire/pb", "google.golang.org/protobuf/encoding/protowire"},
		why: "a view is a noun with a codec"},
	{of: []string{"internal/wire/..."}, may: []string{"std", "internal/view", "golang.org/x/net/http2/hpack", "google.golang.org/protobuf/encoding/protowire"},
		never: []string{"net/http/...", "os", "sync/..."},
		why:   "codecs turn bytes into frames and back: no sockets, goroutines or clocks; the caller passes the time"},
	{of: []string{"internal/proxy/...", "cmd/tulle-proxy"}, may: slices.Concat([]string{"std", "internal/wire/...", "golang.org/x/sys/...", "golang.org/x/net/dns/dnsmessage", "internal/run/sockets"}, nouns),
		never: slices.Concat(heavy, []string{"internal/control/...", "internal/ca/...", "internal/telemetry/...", "internal/cli/...", "internal/dashboard/..."}),
		why:   "the data plane is small: it speaks its protocols itself and knows the control plane only by its wire format"},
	{of: []string{"internal/proxy/balance", "internal/proxy/eject", "internal/proxy/probe", "internal/proxy/meter", "internal/proxy/limit", "internal/proxy/overload", "internal/proxy/poll", "internal/proxy/loop", "internal/proxy/mtls", "internal/proxy/sniff", "internal/proxy/listen"},
		never: []string{"internal/proxy", "internal/proxy/l7http", "internal/proxy/l4", "internal/proxy/dial", "internal/proxy/live", "internal/proxy/admin"},
		why:   "what the protocols are built from doesn't know them: only internal/proxy sees all of it"},
	{of: []string{"internal/proxy/l7http", "internal/proxy/dial"}, never: []string{"internal/proxy", "internal/proxy/admin", "internal/proxy/live"},
		why: "a protocol is handed what it needs by internal/proxy"},
	{of: []string{"internal/...", "cmd/..."}, except: []string{"internal/proxy/sim"}, never: []string{"internal/proxy/sim"},
		why: "the simulation is for tests"},
	{of: []string{"internal/control/graph", "internal/control/plan", "internal/control/share"}, never: []string{"net/http/...", "os", "os/exec", "log/slog", "sync/...", "math/rand/...", "google.golang.org/grpc/...", "go.etcd.io/..."},
		why: "objects to model, model to view: pure functions without I/O, clocks, logs or goroutines"},
	{of: []string{"internal/control/plan"}, never: []string{"k8s.io/...", "sigs.k8s.io/...", "internal/control/object", "internal/control/store"},
		why: "plan sees the mesh's own nouns, never Kubernetes types"},
	{of: []string{"internal/ca"}, may: slices.Concat([]string{"std", "golang.org/x/time/rate"}, nouns), why: "the CA knows identities and nothing of who transports them"},
	{of: []string{"internal/signer", "internal/peer", "cmd/tulle-signer"}, may: []string{"std", "golang.org/x/time/rate", "golang.org/x/sys/unix", "github.com/miekg/pkcs11", "internal/ca", "internal/identity"}, never: heavy,
		why: "what holds the CA's keys is small"},
	{of: []string{"internal/mesh", "internal/identity", "internal/route", "internal/view", "internal/wire/...", "internal/proxy/...", "internal/ca/...", "internal/telemetry/..."},
		never: []string{"k8s.io/...", "sigs.k8s.io/..."},
		why:   "Kubernetes' types stay where objects are read, stored and shown"},
	{of: []string{"internal/control/...", "internal/cli/...", "internal/dashboard/...", "internal/ca/...", "internal/run/...", "internal/proxy/...", "internal/telemetry", "internal/telemetry/ingest"},
		never: []string{"github.com/prometheus/..."},
		why:   "only internal/telemetry/tsdb and the queries over it know Prometheus: its packages pull in much more than they are for"},
	{of: []string{"internal/mesh", "internal/control/graph", "internal/control/plan", "internal/control/push", "internal/control/object", "internal/control/status", "internal/cli/...", "internal/dashboard/...", "internal/telemetry/...", "internal/proxy/..."},
		never: []string{"go.etcd.io/..."}, why: "only internal/control/store knows etcd"},
	{of: []string{"internal/dashboard/..."}, never: []string{"internal/control", "internal/control/store", "internal/control/graph", "internal/control/plan", "internal/control/push"},
		why: "the dashboard asks the control plane's API, as anybody may"},
	{of: []string{"examples/shop/..."}, may: []string{"std"}, tests: false, why: "the sample application knows nothing of Tulle"},
	{of: []string{"internal/..."}, except: []string{"internal/identity/identitytest"}, never: []string{"cmd/...", "test/...", "bench/...", "testing", "internal/identity/identitytest"}, why: "nothing imports a main or test machinery"},
	{of: []string{"..."}, never: []string{"math/rand", "io/ioutil", "github.com/stretchr/...", "github.com/pkg/errors", "github.com/golang/protobuf/..."}, tests: true,
		why: "math/rand/v2 is seeded well; the standard library and go-cmp are enough for tests"},
	{of: []string{"internal/...", "cmd/..."}, except: []string{"internal/proxy/sim/..."}, never: []string{"internal/proxy/sim/..."}, why: "the simulation is for tests"},
}

func TestLayers(t *testing.T) {
	for _, p := range list(t) {
		name := short(p.ImportPath)
		for _, l := range layers {
			if !l.covers(name) || slices.ContainsFunc(l.except, func(e string) bool { return match(e, name) }) {
				continue
			}
			imports := p.Imports
			if l.tests {
				imports = slices.Concat(imports, p.TestImports, p.XTestImports)
			}
			for _, i := range imports {
				if reason := l.violates(short(i)); reason != "" {
					t.Errorf("%s imports %s%s: %s", name, short(i), reason, l.why)
				}
			}
		}
	}
}

// TestLayersApply: a rule about packages that are gone, or misspelt, checks
// nothing.
func TestLayersApply(t *testing.T) {
	for _, l := range layers {
		for _, pattern := range l.of {
			if !slices.ContainsFunc(list(t), func(p pkg) bool { return match(pattern, short(p.ImportPath)) }) {
				t.Errorf("a rule is about %s, and there is no such package", pattern)
			}
		}
	}
}

func (l layer) covers(name string) bool {
	return slices.ContainsFunc(l.of, func(pattern string) bool { return match(pattern, name) })
}

func (l layer) violates(i string) string {
	matches := func(pattern string) bool { return match(pattern, i) }
	if slices.ContainsFunc(l.never, matches) {
		return " (never)"
	}
	if l.may == nil || l.covers(i) || slices.ContainsFunc(l.may, matches) {
		return ""
	}
	return " (not in its list)"
}

// match says whether a path is the pattern's.
func match(pattern, name string) bool {
	switch {
	case pattern == "std":
		first, _, _ := strings.Cut(name, "/")
		return !strings.Contains(first, ".") && !slices.Contains([]string{"internal", "cmd", "examples", "bench", "test", "api"}, first)
	case pattern == "...":
		return true
	case strings.HasSuffix(pattern, "/..."):
		root := strings.TrimSuffix(pattern, "/...")
		return name == root || strings.HasPrefix(name, root+"/")
	}
	return path.Clean(pattern) == name
}

// TestPure: the nouns, the codecs and the path from objects to views read no
// clock, start nothing and wait for nothing: the caller passes the time.
func TestPure(t *testing.T) {
	impure := regexp.MustCompile(`\btime\.(Now|Sleep|After|AfterFunc|NewTimer|NewTicker|Tick|Since|Until)\(|^\s*go (func\b|\w+[.(])`)
	pure := []string{"internal/mesh", "internal/access", "internal/policy", "internal/route", "internal/view", "internal/wire/...", "internal/control/graph", "internal/control/plan"}
	for _, p := range list(t) {
		if !slices.ContainsFunc(pure, func(pattern string) bool { return match(pattern, short(p.ImportPath)) }) {
			continue
		}
		for _, f := range p.GoFiles {
			b, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for line := range strings.Lines(string(b)) {
				n++
				if m := impure.FindString(line); m != "" && !strings.HasPrefix(strings.TrimSpace(line), "//") {
					t.Errorf("%s/%s:%d: %s in a pure package: the caller passes the time and runs it", short(p.ImportPath), f, n, strings.TrimSpace(m))
				}
			}
		}
	}
}
