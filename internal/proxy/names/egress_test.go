package names

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"net/netip"

	"golang.org/x/net/dns/dnsmessage"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
)

// TestWithheld: a name that nothing may call isn't asked for, as a question can
// carry what a call could; the answer says that it is a policy's doing.
func TestWithheld(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy policy.Egress
		asked  string
		kind   dnsmessage.Type
		want   dnsmessage.RCode
		result result
	}{
		{"allowed", policy.Egress{}, "example.com.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, forwarded},
		{"in capitals", policy.Egress{}, "EXAMPLE.com.", dnsmessage.TypeA, dnsmessage.RCodeNameError, forwarded},
		// (this resolver knows it in small letters only)
		{"any type", policy.Egress{}, "example.com.", dnsmessage.TypeHTTPS, dnsmessage.RCodeSuccess, forwarded},
		{"another name", policy.Egress{}, "secret.evil.example.", dnsmessage.TypeTXT, dnsmessage.RCodeNameError, withheld},
		{"below an exact one", policy.Egress{}, "secret.example.com.", dnsmessage.TypeA, dnsmessage.RCodeNameError, withheld},
		{"one label", policy.Egress{}, "evil.", dnsmessage.TypeA, dnsmessage.RCodeNameError, withheld},
		{"an odd name", policy.Egress{}, "a b.evil.example.", dnsmessage.TypeA, dnsmessage.RCodeNameError, withheld},
		{"an address", policy.Egress{}, "1.2.0.192.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, withheld},
		{"another class", policy.Egress{}, "evil.example.", dnsmessage.TypeA, dnsmessage.RCodeNameError, withheld},
		{"a service", policy.Egress{}, "cart.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, fromMesh},
		{"all but some", policy.Egress{Allow: true}, "big.evil.example.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, forwarded},
		{"looking on", policy.Egress{Audit: true}, "big.evil.example.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, forwarded},
	} {
		up := newResolver(t)
		test.policy.Destinations = []policy.EgressDestination{{Name: "example", Hosts: []string{"example.com"}, Ports: []uint16{443}}}
		name, h := host("cart", "cart.default", "240.240.0.5")
		l, err := live.Static(&view.View{
			Proxy: view.Proxy{Name: "web", Namespace: "default", Role: view.Sidecar, ClusterDomain: "cluster.local", Egress: &test.policy},
			Hosts: map[string]*view.Host{name: h}}, "", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte("nameserver "+up.addr.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		m := meter.New(1, "test")
		s := New(Config{Live: l, Resolv: path, Meter: m})
		t.Cleanup(s.Close)
		_, addr, err := s.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		got := exchange(t, addr, ask(test.asked, test.kind, func(m *dnsmessage.Message) {
			var h dnsmessage.ResourceHeader
			h.SetEDNS0(1232, dnsmessage.RCodeSuccess, false)
			m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}})
			if test.name == "another class" {
				m.Questions[0].Class = dnsmessage.ClassCHAOS
			}
		}))
		if truncated := got.Truncated && got.RCode == dnsmessage.RCodeSuccess; got.RCode != test.want && !truncated {
			t.Errorf("%s: %v, want %v", test.name, got.RCode, test.want)
		}
		if n := s.counts[test.result].Load(); n != 1 {
			t.Errorf("%s: %d such answers, want 1", test.name, n)
		}
		if n := s.counts[audited].Load(); (n == 1) != test.policy.Audit {
			t.Errorf("%s: %d counted as audit", test.name, n)
		}
		var text string
		for _, a := range got.Additionals {
			if o, ok := a.Body.(*dnsmessage.OPTResource); ok && len(o.Options) == 1 && o.Options[0].Code == 15 {
				text = string(o.Options[0].Data)
			}
		}
		if (text == "\x00\x0f") != (test.result == withheld) {
			t.Errorf("%s: the extended error is %q", test.name, text)
		}
	}
	var b strings.Builder
	m := meter.New(1, "test")
	New(Config{Meter: m})
	if m.WriteText(&b); !strings.Contains(b.String(), `tulle_names_queries_total{result="denied"} 0`) {
		t.Errorf("the metrics say\n%s", b.String())
	}
}
