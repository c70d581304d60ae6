package guard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/identity/identitytest"
	"tulle.dev/tulle/internal/proxy/meter"
)

func id(domain, namespace, account string) identity.ID {
	return identity.ID{TrustDomain: identity.TrustDomain(domain), Namespace: namespace, ServiceAccount: account}
}

var web = id("mesh.local", "default", "web")

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func keeper(out *lines) (*Keeper, *meter.Registry) {
	m := meter.New(1, "test")
	k := NewKeeper(m.Shard(0), NewLog(slog.New(slog.NewTextHandler(out, nil))))
	k.Domain = "mesh.local"
	return k, m
}

func compile(t testing.TB, s access.Spec) *access.Table {
	t.Helper()
	table, err := access.Compile(s, "mesh.local")
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func caller(d *Door, peer identity.ID) *Caller {
	c := &Caller{}
	c.Init(d, access.Peer{ID: peer, Address: netip.MustParseAddr("192.0.2.1")}, 0)
	return c
}

func request(method, path string) *access.Request {
	return &access.Request{Method: []byte(method), Path: []byte(path)}
}

func TestNames(t *testing.T) {
	k, _ := keeper(&lines{})
	for want, id := range map[string]identity.ID{
		"": {}, "web.default": web, "web.default@other.example": id("other.example", "default", "web"),
	} {
		if got := k.Name(id); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
}

// TestRulesChange: a caller keeps to the rules of now, without being told.
func TestRulesChange(t *testing.T) {
	k, _ := keeper(&lines{})
	d := k.Door(meter.Inbound, "cart.default:80", false)
	c := caller(d, web)
	deny := compile(t, access.Spec{Default: access.Allow, Rules: []access.Rule{{Name: "d", Action: access.Deny, To: []access.Operation{{Methods: []string{"POST"}}}}}})
	nobody := compile(t, access.Spec{})
	for _, step := range []struct {
		table           *access.Table
		get, post, ends bool // refused, refused, must end
	}{{nil, false, false, false}, {deny, false, true, false}, {nobody, true, true, true}, {deny, false, true, false}, {nil, false, false, false}} {
		d.Update("cart.default:80", step.table, false)
		get, post := c.Ask(request("GET", "/"), nil, 0) != nil, c.Ask(request("POST", "/"), nil, 0) != nil
		if ends := c.Forbidden(false, 0); get != step.get || post != step.post || ends != step.ends {
			t.Errorf("%+v: GET %t, POST %t, ends %t", step, get, post, ends)
		}
		if got := c.Withdrawn(request("POST", "/"), nil, 0); got != step.post {
			t.Errorf("%+v: POST under way withdrawn %t", step, got)
		}
	}
	mesh := identitytest.Bundle(t, identitytest.New(t, "mesh.local"))
	empty, err := identity.NewBundle(nil)
	if err != nil {
		t.Fatal(err)
	}
	cart, stranger := caller(d, id("mesh.local", "default", "cart")), caller(d, identity.ID{})
	for _, step := range []struct {
		bundle            *identity.Bundle
		strict            bool
		web, cart, nobody bool // ends
	}{
		{nil, false, false, false, false},
		{nil, true, false, false, true},
		{mesh, false, false, false, false},
		{mesh.Deny([]identity.ID{web}), true, true, false, true},
		{empty, false, true, true, false}, // the trust domain isn't known any more
	} {
		k.Bundle = step.bundle
		d.Update("cart.default:80", nil, step.strict)
		for _, opaque := range []bool{false, true} {
			if w, ca, n := c.Forbidden(opaque, 0), cart.Forbidden(opaque, 0), stranger.Forbidden(opaque, 0); w != step.web || ca != step.cart || n != step.nobody {
				t.Errorf("%+v: %t %t %t", step, w, ca, n)
			}
		}
	}
}

// TestRoute: a route's rules come beside the listener's.
func TestRoute(t *testing.T) {
	k, m := keeper(&lines{})
	d := k.Door(meter.Edge, "", false)
	c := caller(d, identity.ID{})
	route := compile(t, access.Spec{Rules: []access.Rule{{Name: "read", Action: access.Allow, To: []access.Operation{{Methods: []string{"GET"}}}}}})
	for _, method := range []string{"GET", "POST"} {
		if refused := c.Ask(request(method, "/"), route, 0) != nil; refused != (method == "POST") {
			t.Errorf("%s: refused %t", method, refused)
		}
	}
	d.Update("", compile(t, access.Spec{}), false)
	if c.Ask(request("GET", "/"), route, 0) == nil {
		t.Error("the listener's rules don't count")
	}
	var out strings.Builder
	m.WriteText(&out)
	for _, want := range []string{`decision="allowed",rule="read"} 1`, `decision="denied",rule=""} 2`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
}

// TestLogBound: of a flood only some lines are written, and it is said how many
// aren't; what clients send is written so that it can't be taken for lines.
func TestLogBound(t *testing.T) {
	out := &lines{}
	k, _ := keeper(out)
	d := k.Door(meter.Inbound, "cart.default:80", false)
	d.Update("cart.default:80", compile(t, access.Spec{}), false)
	c := caller(d, web)
	refuse := func(now time.Duration) {
		c.Ask(request("GET", "/\n\x1b"+strings.Repeat("x", 1000)), nil, now).Log("0123", now)
	}
	for range 100 {
		refuse(time.Second)
	}
	if n := strings.Count(out.String(), "\n"); n != maxLines {
		t.Errorf("%d lines, want %d", n, maxLines)
	}
	refuse(2 * time.Second)
	if !strings.Contains(out.String(), "unlogged=90") {
		t.Errorf("nobody says how many aren't written:\n%s", out)
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if len(line) > 700 || strings.Contains(line, "\x1b") {
			t.Errorf("%q", line)
		}
	}
}

// TestLogStops: a log that hangs holds nobody up.
func TestLogStops(t *testing.T) {
	hang := make(chan struct{})
	l := NewLog(slog.New(slog.NewTextHandler(hanging{hang}, nil)))
	l.Start()
	for i := range 10 * queued {
		l.Handshake(time.Duration(i)*time.Second, "cart", "192.0.2.1", "x", fmt.Errorf("y"))
	}
	if l.refused.missed.Load() == 0 {
		t.Error("nothing is said to be missed")
	}
	close(hang)
	l.Stop()
	l.Stop()
}

type hanging struct{ c chan struct{} }

func (h hanging) Write(p []byte) (int, error) { <-h.c; return len(p), nil }

func TestObserved(t *testing.T) {
	k, _ := keeper(&lines{})
	d := k.Door(meter.Inbound, "cart.default:80", true)
	c := caller(d, web)
	for range 3 {
		c.Ask(request("GET", "/shop/items/7"), nil, 0)
	}
	c.Ask(request("GET", "/shop"), nil, 0)
	c.Ask(request("GET", "/"), nil, 0)
	c.Ask(request("BREW", "/pot"), nil, 0)
	c.Ask(request("POST", "/test.Echo/Unary"), nil, 0)
	d.Update("cart.default:80", compile(t, access.Spec{}), false)
	c.Ask(request("GET", "/shop/items"), nil, 0)
	caller(d, identity.ID{}).Enter(0)
	d.Update("cart.default:80", nil, false)
	c.Ask(request("GET", "/shop"), nil, 70*time.Second)
	const now = 100*time.Second + time.Millisecond
	uri := web.String()
	want := []*Observed{
		{"cart.default:80", uri, "GET", "/shop/items", 4, 1, 100},
		{"cart.default:80", uri, "GET", "/shop", 2, 0, 30},
		{"cart.default:80", "", "", "", 1, 1, -1},
		{"cart.default:80", uri, "*", "/pot", 1, 0, 100},
		{"cart.default:80", uri, "GET", "/", 1, 0, 100},
		{"cart.default:80", uri, "POST", "/test.Echo/Unary", 1, 0, 100},
	}
	if diff := cmp.Diff(want, Merge(d.Observed(now))); diff != "" {
		t.Error(diff)
	}
	twice := Merge(d.Observed(now), d.Observed(now+time.Minute))
	if twice[0].Requests != 8 || twice[0].Ago != 100 || len(twice) != len(want) {
		t.Errorf("two loops: %+v", twice)
	}
}

// TestObservedBound: whatever is asked for, little is kept, and nothing is lost.
func TestObservedBound(t *testing.T) {
	k, _ := keeper(&lines{})
	d := k.Door(meter.Inbound, "cart.default:80", true)
	n := 0
	for i := range 100 {
		c := caller(d, id("mesh.local", "default", fmt.Sprint("sa", i)))
		for j := range 100 {
			for _, path := range []string{fmt.Sprint("/a/", j), fmt.Sprint("/", j, "/b"), "/" + strings.Repeat("x", 200) + "/" + strings.Repeat("y", 200)} {
				c.Ask(request("GET", path), nil, 0)
				n++
			}
		}
	}
	list := Merge(d.Observed(0))
	if len(list) > MaxObserved {
		t.Errorf("%d entries", len(list))
	}
	sum := 0
	for _, e := range d.Observed(0) {
		sum += int(e.Requests)
		if len(e.Path) > 2*maxPart {
			t.Errorf("%q is kept", e.Path)
		}
	}
	if sum != n {
		t.Errorf("%d of %d requests are told", sum, n)
	}
	if b, err := json.Marshal(list); err != nil || len(b) > 256<<10 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// thousand is rules about as many callers and paths.
func thousand() access.Spec {
	s := access.Spec{}
	for i := range 1000 {
		s.Rules = append(s.Rules, access.Rule{
			Name: fmt.Sprint("rule", i), Action: access.Action(1 - i%5/4),
			From: []access.Source{{ServiceAccounts: []string{fmt.Sprintf("default/sa%d", i%50)}}},
			To:   []access.Operation{{Methods: []string{"GET", "POST"}, Paths: []access.Path{{Kind: access.PathPrefix, Value: fmt.Sprintf("/v%d/items", i)}}}},
		})
	}
	return s
}

// TestNoAllocation: a request that is let pass costs no memory.
func TestNoAllocation(t *testing.T) {
	k, _ := keeper(&lines{})
	d := k.Door(meter.Inbound, "cart.default:80", true)
	d.Update("cart.default:80", compile(t, thousand()), false)
	c := caller(d, id("mesh.local", "default", "sa1"))
	reqs := []*access.Request{request("GET", "/v1/items/7"), request("POST", "/v51/items/8"), request("GET", "/v101/items")}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		if i++; c.Ask(reqs[i%3], nil, 0) != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAsk(b *testing.B) {
	k, _ := keeper(&lines{})
	d := k.Door(meter.Inbound, "cart.default:80", true)
	d.Update("cart.default:80", compile(b, thousand()), false)
	c := caller(d, id("mesh.local", "default", "sa1"))
	for name, reqs := range map[string][]*access.Request{
		"same":        {request("GET", "/v1/items/7")},
		"alternating": {request("GET", "/v1/items/7"), request("POST", "/v51/items/8"), request("GET", "/v101/items"), request("POST", "/v151/items/x")},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if c.Ask(reqs[i%len(reqs)], nil, 0) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

// BenchmarkSession is what the first request of a connection costs more, or the
// first after a change of rules.
func BenchmarkSession(b *testing.B) {
	table := compile(b, thousand())
	peer := access.Peer{ID: id("mesh.local", "default", "sa1"), Address: netip.MustParseAddr("192.0.2.1")}
	b.ReportAllocs()
	for b.Loop() {
		table.Session(peer)
	}
}

// BenchmarkRefuse is a refusal of which the nearest rule is looked for.
func BenchmarkRefuse(b *testing.B) {
	k, _ := keeper(&lines{})
	d := k.Door(meter.Inbound, "cart.default:80", true)
	d.Update("cart.default:80", compile(b, thousand()), false)
	c := caller(d, id("mesh.local", "default", "sa1"))
	b.ReportAllocs()
	now := time.Duration(0)
	for b.Loop() {
		now += time.Second
		if c.Ask(request("GET", "/elsewhere"), nil, now) == nil {
			b.Fatal("allowed")
		}
	}
}

// Callers of another trust domain get in by a rule and not without.
func TestForeign(t *testing.T) {
	k, _ := keeper(new(lines))
	door := k.Door(meter.Inbound, "cart", false)
	own, foreign := &Caller{}, &Caller{}
	own.Init(door, access.Peer{ID: web}, 0)
	foreign.Init(door, access.Peer{ID: id("partner.example", "default", "web")}, 0)
	rule := func(domains ...string) *access.Table {
		return compile(t, access.Spec{Default: access.Allow, Rules: []access.Rule{{Name: "partner", Action: access.Allow, From: []access.Source{{TrustDomains: domains}}}}})
	}
	for i, c := range []struct {
		table *access.Table
		in    bool
	}{{nil, false}, {compile(t, access.Spec{Default: access.Allow}), false}, {rule("partner.example"), true}, {rule("other.example"), false}, {nil, false}} {
		door.Update("cart", c.table, false)
		r := &access.Request{Method: []byte("GET"), Path: []byte("/")}
		if own.Ask(r, nil, 0) != nil || own.Enter(0) != nil {
			t.Errorf("%d: our own is refused", i)
		}
		if in := foreign.Ask(r, nil, 0) == nil; in != c.in {
			t.Errorf("%d: foreign gets in: %v, want %v", i, in, c.in)
		}
		if in := foreign.Enter(0) == nil; in != c.in {
			t.Errorf("%d: foreign gets in, opaque: %v, want %v", i, in, c.in)
		}
		if out := foreign.Forbidden(true, 0); out == c.in {
			t.Errorf("%d: what is open ends: %v, want %v", i, out, !c.in)
		}
	}
}
