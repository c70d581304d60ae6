package egress

import (
	"net/netip"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/policy"
)

func compile(t testing.TB, e policy.Egress) *Table {
	t.Helper()
	table, err := Compile(&e)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

var example = policy.Egress{Destinations: []policy.EgressDestination{
	{Name: "api", Hosts: []string{"api.example"}, Ports: []uint16{80, 443}},
	{Name: "wild", Hosts: []string{"*.example"}, Ports: []uint16{443}},
	{Name: "late", Hosts: []string{"api.example", "other.test"}, Ports: []uint16{443, 8443}},
	{Name: "db", Networks: []string{"198.51.100.0/24", "2001:db8::/32"}, Ports: []uint16{5432}},
}}

func TestPlace(t *testing.T) {
	table := compile(t, example)
	for _, test := range []struct {
		name string
		port uint16
		want string
	}{
		{"api.example", 443, "api"}, {"api.example", 80, "api"}, {"api.example", 8443, "late"}, {"api.example", 22, ""},
		{"x.example", 443, "wild"}, {"x.y.example", 443, "wild"}, {"example", 443, ""}, {"x.example", 80, ""},
		{"notexample", 443, ""}, {"x.notexample", 443, ""}, {"api.example.test", 443, ""}, {"other.test", 443, "late"}, {"x.other.test", 443, ""},
	} {
		got := ""
		if p := table.Place(test.name, test.port); p != nil {
			got = p.Name
		}
		if got != test.want {
			t.Errorf("%s:%d is for %q, want %q", test.name, test.port, got, test.want)
		}
		if (test.want != "") && !table.Resolves(test.name) {
			t.Errorf("%s may be called and not be asked for", test.name)
		}
	}
	for name, want := range map[string]bool{"api.example": true, "z.example": true, "example": false, "evil.test": false, "com": false} {
		if table.Resolves(name) != want {
			t.Errorf("%s may be asked for: %v, want %v", name, !want, want)
		}
	}
	if !table.Named(443) || table.Named(5432) {
		t.Error("names make a difference on port 443, and not on 5432")
	}
}

func TestAddress(t *testing.T) {
	table := compile(t, example)
	for to, want := range map[string]bool{
		"198.51.100.7:5432": true, "[::ffff:198.51.100.7]:5432": true, "[2001:db8::1]:5432": true,
		"198.51.100.7:443": false, "198.51.101.7:5432": false, "[2001:db8::1%eth0]:5432": false, "[::198.51.100.7]:5432": false,
	} {
		if got := table.Address(netip.MustParseAddrPort(to)) != nil; got != want {
			t.Errorf("%s: %v, want %v", to, got, want)
		}
	}
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"api.example": "api.example", "API.Example.": "api.example", "_x._tcp.api.example": "_x._tcp.api.example", "xn--bcher-kva.example": "xn--bcher-kva.example",
		"cart": "cart", "1.example": "1.example",
		"": "", ".": "", "api..example": "", "api.example..": "", ".example": "", "bücher.example": "", "api.example\x00": "", "api example": "",
		"10.0.0.1": "", "10.1": "", "0x7f.1": "", "2130706433": "", "::1": "", "[::1]": "", "api.example:80": "", "user@api.example": "", "api.example/": "", "%61pi.example": "",
		strings.Repeat("a", 64) + ".example":     "",
		strings.Repeat("abcdefg.", 32) + "abcde": "",
	} {
		got, ok := Name(in)
		if got != want || ok != (want != "") {
			t.Errorf("%q is %q, %v, want %q", in, got, ok, want)
		}
	}
}

func TestPublic(t *testing.T) {
	for in, want := range map[string]bool{
		"203.0.113.1": true, "8.8.8.8": true, "2606:4700::1": true, "::ffff:8.8.8.8": true, "64:ff9b::808:808": true,
		"127.0.0.1": false, "::1": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"0.0.0.0": false, "0.0.0.1": false, "::": false, "224.0.0.1": false, "255.255.255.255": false, "240.240.0.5": false,
		"fe80::1": false, "fd74:756c:6c65::5": false, "ff02::1": false, "::ffff:127.0.0.1": false, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::a00:1": false, "2002:7f00:1::": false, "fec0::1": false,
	} {
		if got := Public(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s: %v, want %v", in, got, want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for want, d := range map[string]policy.EgressDestination{
		`destinations[0] (x).hosts[0]: "API.example"`:      {Name: "x", Hosts: []string{"API.example"}},
		`destinations[0] (x).hosts[0]: "10.0.0.1"`:         {Name: "x", Hosts: []string{"10.0.0.1"}},
		`destinations[0] (x).hosts[1]: "*.*.a"`:            {Name: "x", Hosts: []string{"a", "*.*.a"}},
		`destinations[0] (x).networks[0]: "10.0.0.1"`:      {Name: "x", Networks: []string{"10.0.0.1"}},
		`destinations[0] (x).networks[0]: "::ffff:0.0.0.0`: {Name: "x", Networks: []string{"::ffff:0.0.0.0/96"}},
		`destinations[0] (x).tls.roots`:                    {Name: "x", TLS: &policy.EgressTLS{Roots: []byte("x")}},
		`destinations[0] (x).tls.certificate`:              {Name: "x", TLS: &policy.EgressTLS{Key: []byte("x")}},
	} {
		if _, err := Compile(&policy.Egress{Destinations: []policy.EgressDestination{d}}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if table, err := Compile(nil); table != nil || err != nil || !table.Resolves("evil.test") {
		t.Error("no policy has nothing against anything")
	}
}

// FuzzName: what is taken for a name is in the one form, and stays what it is.
func FuzzName(f *testing.F) {
	for _, s := range []string{"api.example", "API.example.", "10.0.0.1", "a..b", "xn--a", "\xff", "_a-.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, ok := Name(s)
		if !ok {
			return
		}
		if again, ok := Name(name); !ok || again != name || name != strings.ToLower(name) || strings.HasSuffix(name, ".") {
			t.Errorf("%q became %q", s, name)
		}
		if _, err := netip.ParseAddr(name); err == nil {
			t.Errorf("%q is an address", name)
		}
		if name != strings.ToLower(strings.TrimSuffix(s, ".")) {
			t.Errorf("%q became %q", s, name)
		}
	})
}
