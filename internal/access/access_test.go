package access

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/identity"
)

const domain = "mesh.local"

func id(ns, sa string) identity.ID {
	return identity.ID{TrustDomain: domain, Namespace: ns, ServiceAccount: sa}
}

type fields map[string]string

func (f fields) Field(name string) ([]byte, bool) {
	for k, v := range f {
		if strings.EqualFold(k, name) {
			return []byte(v), true
		}
	}
	return nil, false
}

type claims map[string][]string

func (c claims) Claim(name string, values []string) bool {
	got, ok := c[name]
	if len(values) == 0 {
		return ok
	}
	for _, v := range got {
		for _, want := range values {
			if v == want {
				return true
			}
		}
	}
	return false
}

func compile(t testing.TB, spec Spec) *Table {
	t.Helper()
	table, err := Compile(spec, domain)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func request(method, path string) *Request {
	return &Request{Method: []byte(method), Path: []byte(path), Authority: []byte("payment:8080")}
}

func TestNormal(t *testing.T) {
	for _, c := range []struct {
		path, form string
		odd        bool
	}{
		{"/", "/", false},
		{"/a", "/a", false},
		{"/a/", "/a/", false},
		{"/a/b.c", "/a/b.c", false},
		{"/a%20b", "/a b", false},
		{"/%61dmin", "/admin", false}, // unreserved: the same by RFC 3986, 2.3
		{"//a", "/a", true},
		{"/a//b", "/a/b", true},
		{"/a///", "/a/", true},
		{"/./a", "/a", true},
		{"/a/.", "/a", true},
		{"/a/../b", "/b", true},
		{"/a/b/../../c", "/c", true},
		{"/..", "/", true},
		{"/../../a", "/a", true},
		{"/a/%2e%2e/b", "/b", true},
		{"/a/%2E./b", "/b", true},
		{"/a%2fb", "/a/b", true},
		{"/a%5cb", "/a/b", true},
		{`/a\b`, "/a/b", true},
		{"/x/..%2fadmin", "/admin", true},
		{"/a;x=1/b", "/a/b", true},
		{"/a/..;/b", "/b", true},
		{"/a%3bx/b", "/a/b", true},
		{"/%252e%252e/a", "/%2e%2e/a", true},
		{"/a%", "/a%", true},
		{"/a%g0", "/a%g0", true},
		{"/a%00b", "/a", true},
		{"*", "*", true},
		{"", "", true},
		{"http://x/a", "http://x/a", true},
	} {
		form, odd := normal(nil, []byte(c.path))
		if string(form) != c.form || odd != c.odd {
			t.Errorf("%q: %q odd %v, want %q odd %v", c.path, form, odd, c.form, c.odd)
		}
	}
}

func FuzzNormal(f *testing.F) {
	for _, s := range []string{"/", "//", "/a/../b", "/%2e%2e/", "/a;b/c", `/\..`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		form, odd := normal(nil, []byte(path))
		if !strings.HasPrefix(path, "/") {
			return
		}
		if len(form) == 0 || form[0] != '/' {
			t.Fatalf("%q became %q, not a path", path, form)
		}
		for _, segment := range strings.Split(string(form[1:]), "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%q became %q, which has a dot segment", path, form)
			}
		}
		if strings.Contains(string(form), "//") || strings.ContainsAny(string(form), `\;`) {
			t.Fatalf("%q became %q", path, form)
		}
		if !odd && strings.ContainsRune(path, '%') == false && string(form) != path {
			t.Fatalf("%q became %q and isn't called odd", path, form)
		}
	})
}

func TestDecide(t *testing.T) {
	web, cart := Peer{ID: id("shop", "web"), Address: netip.MustParseAddr("10.0.0.1")}, Peer{ID: id("shop", "cart")}
	other := Peer{ID: identity.ID{TrustDomain: "elsewhere", Namespace: "shop", ServiceAccount: "web"}}
	nobody := Peer{Address: netip.MustParseAddr("10.0.0.9")}
	fromWeb := []Source{{ServiceAccounts: []string{"shop/web"}}}
	paths := func(list ...Path) []Operation { return []Operation{{Paths: list}} }
	for _, c := range []struct {
		name string
		spec Spec
		peer Peer
		req  *Request
		want string // "allow RULE", "deny RULE", with "audit RULE" after
	}{
		{"nothing said, allow", Spec{Default: Allow}, nobody, request("GET", "/"), "allow -"},
		{"nothing said, deny", Spec{}, web, request("GET", "/"), "deny -"},
		{"allowed by account", Spec{Rules: []Rule{{Name: "a", Action: Allow, From: fromWeb}}}, web, request("GET", "/"), "allow a"},
		{"another account", Spec{Rules: []Rule{{Name: "a", Action: Allow, From: fromWeb}}}, cart, request("GET", "/"), "deny -"},
		{"the same name in another trust domain", Spec{Rules: []Rule{{Name: "a", Action: Allow, From: fromWeb}}}, other, request("GET", "/"), "deny -"},
		{"no identity", Spec{Rules: []Rule{{Name: "a", Action: Allow, From: fromWeb}}}, nobody, request("GET", "/"), "deny -"},
		{"deny wins", Spec{Default: Allow, Rules: []Rule{{Name: "a", Action: Allow}, {Name: "d", Action: Deny, From: fromWeb}}}, web, request("GET", "/"), "deny d"},
		{"identity prefix", Spec{Rules: []Rule{{Name: "a", Action: Allow, From: []Source{{Identities: []string{"spiffe://mesh.local/ns/shop/*"}}}}}}, cart, request("GET", "/"), "allow a"},
		{"* is not nobody", Spec{Rules: []Rule{{Name: "a", Action: Allow, From: []Source{{Identities: []string{"spiffe://*"}}}}}}, nobody, request("GET", "/"), "deny -"},
		{"network", Spec{Rules: []Rule{{Name: "a", Action: Allow, From: []Source{{Networks: []string{"10.0.0.0/29"}}}}}}, web, request("GET", "/"), "allow a"},
		{"excluded network", Spec{Rules: []Rule{{Name: "a", Action: Allow, From: []Source{{NotNetworks: []string{"10.0.0.0/29"}}}}}}, web, request("GET", "/"), "deny -"},
		{"method", Spec{Rules: []Rule{{Name: "a", Action: Allow, To: []Operation{{Methods: []string{"GET"}}}}}}, web, request("get", "/"), "deny -"},
		{"prefix", Spec{Rules: []Rule{{Name: "a", Action: Allow, To: paths(Path{PathPrefix, "/v1"})}}}, web, request("GET", "/v1/x"), "allow a"},
		{"prefix is of segments", Spec{Rules: []Rule{{Name: "a", Action: Allow, To: paths(Path{PathPrefix, "/v1"})}}}, web, request("GET", "/v10"), "deny -"},
		{"allow and an odd path", Spec{Rules: []Rule{{Name: "a", Action: Allow, To: paths(Path{PathPrefix, "/v1"})}}}, web, request("GET", "/v1/..;/admin"), "deny -"},
		{"allow all paths, odd too", Spec{Rules: []Rule{{Name: "a", Action: Allow}}}, web, request("GET", "//x"), "allow a"},
		{"deny sees through //", Spec{Default: Allow, Rules: []Rule{{Name: "d", To: paths(Path{PathPrefix, "/admin"})}}}, web, request("GET", "//admin/x"), "deny d"},
		{"deny sees through %2e%2e", Spec{Default: Allow, Rules: []Rule{{Name: "d", To: paths(Path{PathPrefix, "/admin"})}}}, web, request("GET", "/x/%2e%2e/admin"), "deny d"},
		{"deny sees through ;", Spec{Default: Allow, Rules: []Rule{{Name: "d", To: paths(Path{PathExact, "/admin"})}}}, web, request("GET", "/admin;x=1"), "deny d"},
		{"deny sees through case", Spec{Default: Allow, Rules: []Rule{{Name: "d", To: paths(Path{PathRegex, "/adm.*"})}}}, web, request("GET", "/ADMIN"), "deny d"},
		{"deny but", Spec{Default: Allow, Rules: []Rule{{Name: "d", To: []Operation{{NotPaths: []Path{{PathPrefix, "/public"}}}}}}}, web, request("GET", "/public/x"), "allow -"},
		{"deny but not by a trick", Spec{Default: Allow, Rules: []Rule{{Name: "d", To: []Operation{{NotPaths: []Path{{PathPrefix, "/public"}}}}}}}, web, request("GET", "/public/../admin"), "deny d"},
		{"deny but in another case", Spec{Default: Allow, Rules: []Rule{{Name: "d", To: []Operation{{NotPaths: []Path{{PathPrefix, "/public"}}}}}}}, web, request("GET", "/PUBLIC/x"), "deny d"},
		{"allow but, by a trick", Spec{Rules: []Rule{{Name: "a", Action: Allow, To: []Operation{{NotPaths: []Path{{PathPrefix, "/admin"}}}}}}}, web, request("GET", "/x/../Admin"), "deny -"},
		{"gRPC method of any service", Spec{Rules: []Rule{{Name: "a", Action: Allow, To: paths(Path{PathMethod, "Get"})}}}, web, request("POST", "/cart.Cart/Get"), "allow a"},
		{"not of three segments", Spec{Rules: []Rule{{Name: "a", Action: Allow, To: paths(Path{PathMethod, "Get"})}}}, web, request("POST", "/x/cart.Cart/Get"), "deny -"},
		{"host", Spec{Rules: []Rule{{Name: "a", Action: Allow, To: []Operation{{Hosts: []string{"Payment"}}}}}}, web, request("GET", "/"), "allow a"},
		{"audit denies nothing", Spec{Default: Allow, Rules: []Rule{{Name: "d", Audit: true}}}, web, request("GET", "/"), "allow - audit d"},
		{"audit of an allow list", Spec{Default: Allow, Rules: []Rule{{Name: "a", Action: Allow, Audit: true, From: fromWeb}}}, cart, request("GET", "/"), "allow - audit -"},
		{"audit of an allow list, on it", Spec{Default: Allow, Rules: []Rule{{Name: "a", Action: Allow, Audit: true, From: fromWeb}}}, web, request("GET", "/"), "allow -"},
	} {
		table := compile(t, c.spec)
		s := table.Session(c.peer)
		var m Scratch
		got := s.Request(c.req, &m)
		if text := tell(table, got); text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
		if got := s.Explain(c.req); tell(table, got.Decision) != c.want {
			t.Errorf("%s: explained as %s", c.name, tell(table, got.Decision))
		}
	}
}

func tell(t *Table, d Decision) string {
	name := func(i int32) string {
		if i < 0 {
			return "-"
		}
		return t.Rule(i)
	}
	s := d.Action.String() + " " + name(d.Rule)
	if d.Audit {
		s += " audit " + name(d.AuditRule)
	}
	return s
}

func TestHeadersAndClaims(t *testing.T) {
	table := compile(t, Spec{Rules: []Rule{{Name: "a", Action: Allow,
		To:   []Operation{{Headers: []Header{{Name: "X-Env", Values: []string{"prod", "stage-*"}}, {Name: "X-Debug", Not: true}}}},
		When: []Claim{{Name: "iss", Values: []string{"https://idp"}}, {Name: "realm.groups", Values: []string{"admins"}}}}}})
	s := table.Session(Peer{})
	ok := claims{"iss": {"https://idp"}, "realm.groups": {"users", "admins"}}
	for _, c := range []struct {
		f    fields
		c    Claims
		want string
	}{
		{fields{"x-env": "prod"}, ok, ""},
		{fields{"x-env": "stage-7"}, ok, ""},
		{fields{"x-env": "stage"}, ok, "header X-Env"},
		{fields{}, ok, "header X-Env"},
		{fields{"x-env": "prod", "x-debug": "1"}, ok, "header X-Debug"},
		{fields{"x-env": "prod"}, nil, "claim iss"},
		{fields{"x-env": "prod"}, claims{"iss": {"https://idp"}}, "claim realm.groups"},
	} {
		r := request("GET", "/")
		r.Fields, r.Claims = c.f, c.c
		got := s.Explain(r)
		if (got.Action == Allow) != (c.want == "") || got.Clause != c.want {
			t.Errorf("%v %v: %s, clause %q, want %q", c.f, c.c, got.Action, got.Clause, c.want)
		}
	}
}

// A connection whose requests can't be seen: no way around a rule about them.
func TestConnection(t *testing.T) {
	admin := []Operation{{Paths: []Path{{PathPrefix, "/admin"}}}}
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Default: Allow, Rules: []Rule{{Name: "d", To: admin}}}, "deny d"},
		{Spec{Default: Allow, Rules: []Rule{{Name: "d", To: admin, AllowUnenforceable: true}}}, "allow -"},
		{Spec{Rules: []Rule{{Name: "a", Action: Allow, To: admin}}}, "deny -"},
		{Spec{Rules: []Rule{{Name: "a", Action: Allow, To: []Operation{{ServerNames: []string{"*.db"}}}}}}, "allow a"},
		{Spec{Rules: []Rule{{Name: "a", Action: Allow, To: []Operation{{ServerNames: []string{"x.web"}}}}}}, "deny -"},
		{Spec{Rules: []Rule{{Name: "a", Action: Allow, When: []Claim{{Name: "sub"}}}}}, "deny -"},
		{Spec{Rules: []Rule{{Name: "a", Action: Allow}}}, "allow a"},
	} {
		table := compile(t, c.spec)
		if got := tell(table, table.Session(Peer{ID: id("a", "b"), ServerName: "x.db"}).Connection()); got != c.want {
			t.Errorf("%+v: %s, want %s", c.spec, got, c.want)
		}
	}
}

func TestExplainNearest(t *testing.T) {
	table := compile(t, Spec{Rules: []Rule{
		{Name: "other", Action: Allow, From: []Source{{Namespaces: []string{"ops"}}}},
		{Name: "read", Action: Allow, From: []Source{{ServiceAccounts: []string{"shop/web"}}}, To: []Operation{{Methods: []string{"GET"}, Paths: []Path{{PathPrefix, "/v1"}}}}},
	}})
	for _, c := range []struct {
		peer   Peer
		req    *Request
		nearby string
		clause string
	}{
		{Peer{ID: id("shop", "web")}, request("GET", "/v2"), "read", "path"},
		{Peer{ID: id("shop", "web")}, request("GET", "/v1/../v1/x"), "read", "path, which isn't in its plain form"},
		{Peer{ID: id("shop", "web")}, request("POST", "/v1"), "read", "method"},
		{Peer{}, request("GET", "/v1"), "read", "service account (the caller proves no identity)"},
		{Peer{ID: id("shop", "web")}, nil, "read", "requests, which can't be seen on an opaque connection"},
	} {
		got := table.Session(c.peer).Explain(c.req)
		if got.Nearest != c.nearby && !(c.peer.ID.IsZero() && got.Nearest == "other") || c.nearby == got.Nearest && got.Clause != c.clause {
			t.Errorf("%v: nearest %s, clause %q, want %s, %q", c.req, got.Nearest, got.Clause, c.nearby, c.clause)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	to := func(p Path) Spec { return Spec{Rules: []Rule{{Name: "r", To: []Operation{{Paths: []Path{p}}}}}} }
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{to(Path{PathRegex, "("}), "rules[0] (r).to[0].paths[0]"},
		{to(Path{PathRegex, strings.Repeat("a", 2000)}), "2000 bytes"},
		{to(Path{PathExact, "/a/../b"}), `write it in its plain form, "/b"`},
		{to(Path{PathExact, "a"}), "plain form"},
		{to(Path{PathMethod, "a/b"}), "without a slash"},
		{to(Path{9, "/"}), "kind 9"},
		{Spec{Rules: []Rule{{From: []Source{{Identities: []string{"web"}}}}}}, "from[0].identities"},
		{Spec{Rules: []Rule{{From: []Source{{Identities: []string{"spiffe://*/x*"}}}}}}, "from[0].identities"},
		{Spec{Rules: []Rule{{From: []Source{{ServiceAccounts: []string{"web"}}}}}}, "NAMESPACE/NAME"},
		{Spec{Rules: []Rule{{From: []Source{{Networks: []string{"10.0.0.1"}}}}}}, "from[0].networks[0]"},
		{Spec{Rules: make([]Rule, MaxRules+1)}, "at most"},
	} {
		if _, err := Compile(c.spec, domain); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.spec, err, c.want)
		}
	}
}

// naive states the rules directly.
func naive(spec Spec, p Peer, r *Request) string {
	form, odd := normal(nil, r.Path)
	low := strings.ToLower(string(form))
	path := func(q Path, folded bool) bool {
		f, v := string(form), q.Value
		if folded {
			f = low
			if q.Kind != PathRegex {
				v = strings.ToLower(v)
			}
		} else if odd {
			return false
		}
		switch q.Kind {
		case PathExact:
			return f == v
		case PathPrefix:
			v = strings.TrimSuffix(v, "/")
			return f == v || strings.HasPrefix(f, v+"/")
		case PathMethod:
			parts := strings.Split(f, "/")
			return len(parts) == 3 && parts[1] != "" && parts[2] == v
		}
		if folded {
			v = "(?i)^(?:" + v + ")$"
		} else {
			v = "^(?:" + v + ")$"
		}
		return regexp.MustCompile(v).MatchString(f)
	}
	met := func(rule Rule) bool {
		from := len(rule.From) == 0
		for _, s := range rule.From {
			fits := true
			if len(s.ServiceAccounts) > 0 {
				fits = p.ID.TrustDomain == domain && anyOf(s.ServiceAccounts, p.ID.Namespace+"/"+p.ID.ServiceAccount)
			}
			if len(s.Namespaces) > 0 {
				fits = fits && p.ID.TrustDomain == domain && anyOf(s.Namespaces, p.ID.Namespace)
			}
			from = from || fits
		}
		to := len(rule.To) == 0
		for _, o := range rule.To {
			fits := len(o.Methods) == 0 || anyOf(o.Methods, string(r.Method))
			some := len(o.Paths) == 0
			for _, q := range o.Paths {
				some = some || path(q, rule.Action == Deny)
			}
			fits = fits && some
			for _, q := range o.NotPaths {
				fits = fits && !path(q, rule.Action == Allow)
			}
			to = to || fits
		}
		return from && to
	}
	var denied, allowed, auditDeny, auditAllow bool
	shadow := spec.Default
	for _, rule := range spec.Rules {
		if rule.Audit && rule.Action == Allow {
			shadow = Deny
		}
		if !met(rule) {
			continue
		}
		switch {
		case rule.Action == Deny && rule.Audit:
			auditDeny = true
		case rule.Action == Deny:
			denied = true
		case rule.Audit:
			auditAllow = true
		default:
			allowed = true
		}
	}
	foreign := p.ID.TrustDomain == "other"
	if denied || !allowed && (spec.Default == Deny || foreign && spec.Foreign == Deny) {
		return "deny"
	}
	if auditDeny || !allowed && !auditAllow && shadow == Deny {
		return "allow audit"
	}
	return "allow"
}

func TestAgainstNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	path := func() Path {
		k := PathKind(rng.IntN(4))
		switch k {
		case PathRegex:
			return Path{k, pick("/a.*", "/b/[0-9]+", "/.*/Get")}
		case PathMethod:
			return Path{k, pick("Get", "b")}
		}
		return Path{k, pick("/", "/a", "/a/b", "/A/b", "/b/1", "/a/b/c")}
	}
	ids := []identity.ID{id("n1", "a"), id("n1", "b"), id("n2", "a"), {}, {TrustDomain: "other", Namespace: "n1", ServiceAccount: "a"}}
	for range 3000 {
		spec := Spec{Default: Action(rng.IntN(2)), Foreign: Action(rng.IntN(2))}
		for i := range rng.IntN(6) {
			r := Rule{Name: fmt.Sprint(i), Action: Action(rng.IntN(2)), Audit: rng.IntN(3) == 0}
			for range rng.IntN(3) {
				if rng.IntN(2) == 0 {
					r.From = append(r.From, Source{ServiceAccounts: []string{pick("n1/a", "n2/a")}})
				} else {
					r.From = append(r.From, Source{Namespaces: []string{pick("n1", "n2")}})
				}
			}
			for range rng.IntN(3) {
				var o Operation
				if rng.IntN(3) == 0 {
					o.Methods = []string{pick("GET", "POST")}
				}
				for range rng.IntN(3) {
					o.Paths = append(o.Paths, path())
				}
				if rng.IntN(4) == 0 {
					o.NotPaths = append(o.NotPaths, path())
				}
				r.To = append(r.To, o)
			}
			spec.Rules = append(spec.Rules, r)
		}
		table := compile(t, spec)
		for range 10 {
			p := Peer{ID: ids[rng.IntN(len(ids))]}
			r := request(pick("GET", "POST"), pick("/", "/a", "/a/b", "/A", "/a//b", "/x/../a", "/b/1", "/a/Get", "/a/b/c/d", "/%61", "/a;x/b", "*"))
			var m Scratch
			d := table.Session(p).Request(r, &m)
			got := d.Action.String()
			if d.Audit {
				got += " audit"
			}
			if want := naive(spec, p, r); got != want {
				t.Fatalf("%s %s from %s: %s, want %s\n%+v", r.Method, r.Path, p.ID, got, want, spec)
			}
		}
	}
}

// thousand are rules as a large service may have: most by path, some by method or
// header alone.
func thousand() Spec {
	var spec Spec
	for i := range 1000 {
		r := Rule{Name: fmt.Sprint(i), Action: Allow}
		switch {
		case i%10 < 6:
			r.From = []Source{{ServiceAccounts: []string{fmt.Sprintf("shop/s%d", i%20)}}}
			r.To = []Operation{{Methods: []string{"GET"}, Paths: []Path{{PathExact, fmt.Sprintf("/v1/items/%d", i)}}}}
		case i%10 < 9:
			r.To = []Operation{{Paths: []Path{{PathPrefix, fmt.Sprintf("/v1/tree/%d", i)}}}}
		default:
			r.From = []Source{{Namespaces: []string{fmt.Sprintf("n%d", i)}}}
			r.Action = Deny
		}
		spec.Rules = append(spec.Rules, r)
	}
	return spec
}

func TestDoesNotAllocate(t *testing.T) {
	s := compile(t, thousand()).Session(Peer{ID: id("shop", "s5")})
	var m Scratch
	r := request("GET", "/v1/tree/998/deep/er")
	if n := testing.AllocsPerRun(100, func() { s.Request(r, &m) }); n != 0 {
		t.Errorf("%v allocations a decision, want 0", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	s := compile(b, thousand()).Session(Peer{ID: id("shop", "s5")})
	for name, path := range map[string]string{"exact": "/v1/items/985", "prefix": "/v1/tree/998/deep/er", "none": "/v1/nothing/of/this/kind"} {
		b.Run(name, func(b *testing.B) {
			var m Scratch
			r := request("GET", path)
			b.ReportAllocs()
			for b.Loop() {
				s.Request(r, &m)
			}
		})
	}
}

func BenchmarkSession(b *testing.B) {
	t := compile(b, thousand())
	b.ReportAllocs()
	for b.Loop() {
		t.Session(Peer{ID: id("shop", "s5")})
	}
}

// The default is for the mesh's own callers.
func TestForeign(t *testing.T) {
	stranger := Peer{ID: identity.ID{TrustDomain: "other", Namespace: "n1", ServiceAccount: "a"}}
	open := Spec{Default: Allow}
	named := Spec{Default: Allow, Rules: []Rule{{Name: "partner", Action: Allow, From: []Source{{TrustDomains: []string{"other"}}}}}}
	for _, c := range []struct {
		name string
		spec Spec
		peer Peer
		want Action
	}{
		{"own, by default", open, Peer{ID: id("n1", "a")}, Allow},
		{"nobody, by default", open, Peer{}, Allow},
		{"foreign, by default", open, stranger, Deny},
		{"foreign, let in by default", Spec{Default: Allow, Foreign: Allow}, stranger, Allow},
		{"foreign, no wider than the default", Spec{Default: Deny, Foreign: Allow}, stranger, Deny},
		{"foreign and named", named, stranger, Allow},
		{"own beside that", named, Peer{ID: id("n1", "a")}, Allow},
		{"foreign, of the same account", Spec{Default: Allow, Rules: []Rule{{Name: "x", Action: Allow, From: []Source{{ServiceAccounts: []string{"n1/a"}}}}}}, stranger, Deny},
	} {
		s := compile(t, c.spec).Session(c.peer)
		var m Scratch
		if got := s.Request(request("GET", "/"), &m); got.Action != c.want {
			t.Errorf("%s: %v, want %v", c.name, got.Action, c.want)
		}
		if got := s.Connection(); got.Action != c.want {
			t.Errorf("%s, opaque: %v, want %v", c.name, got.Action, c.want)
		}
	}
	if text := compile(t, open).Session(stranger).Explain(request("GET", "/")).String(); !strings.Contains(text, "another trust domain") {
		t.Error(text)
	}
}
