package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed is every package outside the standard library that the proxy links.
// A new line here is a decision: it costs memory beside every workload.
var allowed = []string{
	"golang.org/x/net/dns/dnsmessage",
	"golang.org/x/sys/unix",
	"google.golang.org/protobuf/encoding/protowire",
	"google.golang.org/protobuf/internal/detrand",
	"google.golang.org/protobuf/internal/errors",

	"tulle.dev/tulle/cmd/tulle-proxy",
	"tulle.dev/tulle/internal/access",
	"tulle.dev/tulle/internal/identity",
	"tulle.dev/tulle/internal/policy",
	"tulle.dev/tulle/internal/route",
	"tulle.dev/tulle/internal/run/sockets", // the proxy's half of tulle run's hand-over
	"tulle.dev/tulle/internal/view",
}

// allowedUnder are folders whose packages may all be linked.
var allowedUnder = []string{
	"tulle.dev/tulle/internal/proxy",
	"tulle.dev/tulle/internal/wire/",
}

// forbidden are packages of the standard library that cost more than they bring.
var forbidden = map[string]string{
	"net/http":      "1 MB of memory; wire/h1 and wire/h2 are our own",
	"html/template": "only a dashboard needs it",
	"text/template": "only a dashboard needs it",
	"database/sql":  "there is nothing to store",
	"go/types":      "it drags the compiler in",
	"os/exec":       "the proxy starts no program",
	"plugin":        "the proxy loads no code",
	"expvar":        "it drags net/http in",
	"testing":       "it belongs to tests",
}

func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-pgo=off", "-deps", "-f", "{{.ImportPath}} {{.Standard}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	linked := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		path, standard, _ := strings.Cut(strings.TrimSpace(line), " ")
		linked[path] = true
		if why, bad := forbidden[path]; bad {
			t.Errorf("the proxy links %s: %s", path, why)
		}
		if standard == "true" || slices.Contains(allowed, path) {
			continue
		}
		if !slices.ContainsFunc(allowedUnder, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
			t.Errorf("the proxy links %s, which is not on the list in deps_test.go", path)
		}
	}
	for _, path := range allowed {
		if !linked[path] {
			t.Errorf("%s is on the list in deps_test.go and not linked any more: take it off", path)
		}
	}
	if linked["tulle.dev/tulle/internal/proxy/sim"] {
		t.Error("the proxy links its simulation")
	}
}
