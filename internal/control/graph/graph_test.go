package graph

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

var update = flag.Bool("update", false, "rewrite the expected output of golden tests")

func decode(t testing.TB, file string, data []byte) []Change {
	t.Helper()
	docs, err := object.Decode(file, data)
	if err != nil {
		t.Fatal(err)
	}
	var out []Change
	for _, d := range docs {
		d.Object.SetGeneration(1)
		out = append(out, ChangeOf(withTestFacts(t, withStatus(t, d.Object, data))))
	}
	return out
}

// withStatus lets a test write a workload's status in an annotation: objects
// come without their status.
func withStatus(t testing.TB, o object.Object, _ []byte) object.Object {
	text, ok := o.GetAnnotations()["test/status"]
	if !ok {
		return o
	}
	data, err := object.Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	merged := strings.TrimSuffix(string(data), "}") + `,"status":` + text + "}"
	out, err := object.Unmarshal(object.Of(o), []byte(merged))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// withTestFacts lets a test write what a store or a CA would: test/created is how
// many minutes after noon an object was made, test/certificate for which names a
// Secret has a certificate ("broken": none that is any).
func withTestFacts(t testing.TB, o object.Object) object.Object {
	a := o.GetAnnotations()
	if text, ok := a["test/created"]; ok {
		minutes, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		o.SetCreationTimestamp(metav1.NewTime(time.Date(2026, 1, 1, 12, minutes, 0, 0, time.UTC)))
	}
	if names, ok := a["test/certificate"]; ok {
		s := o.(*corev1.Secret)
		s.Type, s.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": []byte("x"), "tls.key": []byte("y")}
		if names != "broken" {
			s.Data["tls.crt"], s.Data["tls.key"] = certificateFor(t, strings.Split(names, ","))
		}
	}
	return o
}

// certificateFor is the same for the same names, so that golden files are.
func certificateFor(t testing.TB, names []string) (chain, key []byte) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(nil, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// TestGolden builds the mesh of each archive's in.yaml and compares it, and the
// conditions, with what is written there.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			changes := decode(t, a.Files[0].Name, a.Files[0].Data)
			b := NewBuilder("mesh.local")
			r := b.Apply(1, changes)
			compiles(t, r.Snapshot)
			got := txtar.Format(&txtar.Archive{Comment: a.Comment, Files: []txtar.File{a.Files[0],
				{Name: "mesh", Data: []byte(dumpMesh(r.Snapshot))},
				{Name: "conditions", Data: []byte(dumpStatuses(b.Statuses()))}}})
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(txtar.Format(a)), string(got)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestOrderDoesNotMatter applies each archive's objects one by one, in several
// orders, with deletions and repetitions in between: the mesh and the conditions
// must be those of all at once. That is what makes the incremental builder safe.
func TestOrderDoesNotMatter(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		changes := decode(t, file, a.Files[0].Data)
		whole := NewBuilder("mesh.local")
		want := dumpMesh(whole.Apply(1, changes).Snapshot)
		wantStatuses := dumpStatuses(whole.Statuses())
		for seed := range 24 {
			order := permute(changes, seed)
			b := NewBuilder("mesh.local")
			b.Apply(1, nil)
			var last Result
			for i, c := range order {
				last = b.Apply(uint64(i+2), []Change{c})
				if (i+seed)%3 == 0 && i > 0 { // take an earlier one away, and bring it back
					gone := order[(i*7+seed)%i]
					b.Apply(uint64(i+2), []Change{{Ref: gone.Ref}})
					last = b.Apply(uint64(i+2), []Change{gone})
				}
			}
			if d := cmp.Diff(want, dumpMesh(last.Snapshot)); d != "" {
				t.Fatalf("%s, order %d: the mesh differs:\n%s", file, seed, d)
			}
			if d := cmp.Diff(wantStatuses, dumpStatuses(b.Statuses())); d != "" {
				t.Fatalf("%s, order %d: the conditions differ:\n%s", file, seed, d)
			}
			for _, ref := range b.Objects() {
				b.Apply(99, []Change{{Ref: ref}})
			}
			s := b.Snapshot()
			if n := len(s.Services) + len(s.Workloads) + len(s.Gateways) + len(s.Endpoints) + len(b.Statuses()) + len(b.slicesOf) + len(b.workloadsOf) + len(s.Addresses) +
				len(b.byParent) + len(b.byBackend) + len(b.byTarget) + len(b.grantsIn); n != 0 {
				t.Fatalf("%s, order %d: %d things are left when every object is gone", file, seed, n)
			}
		}
	}
}

// compiles checks that the proxy takes every table that was made.
func compiles(t testing.TB, s *mesh.Snapshot) {
	t.Helper()
	try := func(what string, spec route.Spec) {
		if _, err := route.Compile(spec); err != nil {
			t.Errorf("%s: the proxy would refuse the table: %v", what, err)
		}
	}
	guarded := func(what string, g *policy.Guard) {
		if g == nil || g.Access == nil {
			return
		}
		if _, err := access.Compile(*g.Access, "mesh.local"); err != nil {
			t.Errorf("%s: the proxy would refuse the access rules: %v", what, err)
		}
		sent := view.Encode(&view.View{Proxy: view.Proxy{Listeners: []view.Listener{{Inbound: &policy.Inbound{Guard: g}}}}})
		if got, err := view.Decode(sent); err != nil {
			t.Errorf("%s: the proxy wouldn't read the access rules: %v", what, err)
		} else if read := got.Proxy.Listeners[0].Inbound.Guard.Access; !reflect.DeepEqual(g.Access, read) {
			t.Errorf("%s: the proxy would read other access rules:\n%s", what, cmp.Diff(g.Access, read))
		}
	}
	for n, svc := range s.Services {
		for _, in := range svc.Inbound {
			guarded(n.String(), in.Guard)
		}
		tables := []map[uint16]route.Spec{svc.Routes, svc.Streams}
		tables = slices.AppendSeq(tables, maps.Values(svc.Consumers))
		tables = slices.AppendSeq(tables, maps.Values(svc.ConsumerStreams))
		for _, m := range tables {
			for port, spec := range m {
				try(fmt.Sprintf("%s:%d", n, port), spec)
			}
		}
	}
	for n, g := range s.Gateways {
		hosts := map[string]string{}
		for i := range g.Listeners {
			l := &g.Listeners[i]
			try(n.String()+" "+l.Name, l.Routes)
			try(n.String()+" "+l.Name, l.Streams)
			if l.Inbound != nil {
				guarded(n.String()+" "+l.Name, l.Inbound.Guard)
			}
			for _, h := range l.Routes.Hosts {
				for _, r := range h.Rules {
					if r.Policy != nil {
						guarded(r.Name, r.Policy.Guard)
					}
				}
			}
			for _, h := range slices.Concat(l.Routes.Hosts, l.Streams.Hosts) {
				for _, name := range h.Hostnames {
					at := l.Listen.String() + " " + name
					if other := hosts[at]; other != "" && other != l.Name {
						t.Errorf("%s: %s is both in listener %s and in %s", n, at, l.Name, other)
					}
					hosts[at] = l.Name
				}
			}
		}
	}
}

func permute(in []Change, seed int) []Change {
	out := slices.Clone(in)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := len(out) - 1; i > 0; i-- {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		j := int(x % uint64(i+1))
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// TestShortWay: a workload's or a slice's change leaves services, gateways and
// the endpoints of other services untouched, as the very same values.
func TestShortWay(t *testing.T) {
	a, err := txtar.ParseFile("testdata/shop.txtar")
	if err != nil {
		t.Fatal(err)
	}
	changes := decode(t, "shop", a.Files[0].Data)
	b := NewBuilder("mesh.local")
	before := b.Apply(1, changes).Snapshot
	var w Change
	for _, c := range changes {
		if c.Kind == object.Workload && c.Name.Name == "cart-1" {
			w = c
		}
	}
	r := b.Apply(2, []Change{{Ref: w.Ref}})
	if len(r.Changed.Services)+len(r.Changed.Gateways) != 0 || r.Changed.All {
		t.Errorf("changed: %+v", r.Changed)
	}
	if len(r.Changed.Endpoints) != 1 || !r.Changed.Endpoints[mesh.PortKey{Service: mesh.Name{Namespace: "default", Name: "cart"}, Port: 80}] {
		t.Errorf("changed endpoints: %+v", r.Changed.Endpoints)
	}
	for n, s := range before.Services {
		if r.Snapshot.Services[n] != s {
			t.Errorf("service %s was built again", n)
		}
	}
	for n, g := range before.Gateways {
		if r.Snapshot.Gateways[n] != g {
			t.Errorf("gateway %s was built again", n)
		}
	}
	for k, e := range before.Endpoints {
		if same := r.Snapshot.Endpoints[k] == e; same == r.Changed.Endpoints[k] {
			t.Errorf("endpoints of %v: same %v", k, same)
		}
	}
	// The same object again changes nothing.
	b.Apply(3, []Change{w})
	if r := b.Apply(4, []Change{w}); len(r.Changed.Endpoints) != 0 || len(r.Statuses) != 0 {
		t.Errorf("a repetition changed %+v %+v", r.Changed, r.Statuses)
	}
}

func dumpStatuses(all map[Ref]*Status) string {
	var b strings.Builder
	refs := make([]Ref, 0, len(all))
	for r := range all {
		refs = append(refs, r)
	}
	slices.SortFunc(refs, func(a, b Ref) int { return strings.Compare(a.String(), b.String()) })
	conditions := func(indent string, list []Condition) {
		for _, c := range list {
			fmt.Fprintf(&b, "%s%s=%v %s", indent, c.Type, c.True, c.Reason)
			if c.Message != "" {
				fmt.Fprintf(&b, ": %s", c.Message)
			}
			b.WriteByte('\n')
		}
	}
	for _, r := range refs {
		s := all[r]
		fmt.Fprintf(&b, "%s generation %d\n", r, s.Generation)
		conditions("  ", s.Conditions)
		for _, p := range s.Parents {
			fmt.Fprintf(&b, "  parent %s %s\n", *p.Ref.Kind, p.Ref.Name)
			conditions("    ", p.Conditions)
		}
		for _, l := range s.Listeners {
			fmt.Fprintf(&b, "  listener %s attached=%d kinds=%v\n", l.Name, l.Attached, l.Kinds)
			conditions("    ", l.Conditions)
		}
		for _, a := range s.Ancestors {
			fmt.Fprintf(&b, "  for %s %s %s\n", *a.Ref.Kind, a.Ref.Name, val(a.Ref.SectionName, ""))
			conditions("    ", a.Conditions)
		}
	}
	return b.String()
}
