package route

import (
	"math/rand/v2"
	"testing"
)

func TestPick(t *testing.T) {
	table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{
		{Name: "split", Backends: []Backend{{Destination: "a", Weight: 8}, {Destination: "none"}, {Destination: "b", Weight: 2}}},
		{Name: "dry", Backends: []Backend{{Destination: "a"}}},
		{Name: "empty"},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	var counts [3]int
	for i := range uint64(1000) {
		counts[table.Rules()[0].Pick(i)]++
	}
	if counts != [3]int{800, 0, 200} {
		t.Errorf("shares %v, want 800, 0, 200", counts)
	}
	for _, c := range table.Rules()[1:] {
		if got := c.Pick(7); got != -1 {
			t.Errorf("%s: picked %d, want -1", c.Name, got)
		}
	}
}

// TestPickShares checks 100,000 picks against the weights by a chi-square test, and
// again when the weights change: nothing of the old ones is left.
func TestPickShares(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		weights []uint32
		bound   float64 // of chi-square, for one in 10,000 by chance
	}{
		{[]uint32{90, 10}, 15.14},
		{[]uint32{10, 90}, 15.14},
		{[]uint32{1, 2, 3, 4}, 21.11},
		{[]uint32{0, 1, 0, 1_000_000, 999_999}, 18.42},
		{[]uint32{4_294_967_295, 4_294_967_295, 4_294_967_295}, 18.42},
	} {
		r := Rule{Name: "split"}
		var total float64
		for _, w := range c.weights {
			r.Backends = append(r.Backends, Backend{Destination: "d", Weight: w})
			total += float64(w)
		}
		table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{r}}}})
		if err != nil {
			t.Fatal(err)
		}
		const picks = 100_000
		counts := make([]int, len(c.weights))
		for range picks {
			counts[table.Rules()[0].Pick(rng.Uint64())]++
		}
		var chi float64
		for i, n := range counts {
			want := picks * float64(c.weights[i]) / total
			if want == 0 {
				if n != 0 {
					t.Errorf("%v: %d picks of weight 0", c.weights, n)
				}
				continue
			}
			chi += (float64(n) - want) * (float64(n) - want) / want
		}
		if chi > c.bound {
			t.Errorf("%v: picked %v, chi-square %.1f, want at most %.1f", c.weights, counts, chi, c.bound)
		}
	}
}

func TestPrefixOfMatch(t *testing.T) {
	table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{
		rule("r", Match{Path: Path{PathPrefix, "/a/"}}, Match{Path: Path{PathExact, "/b"}}, Match{Method: "PUT"}),
		rule("all"),
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/a/x", "/a/"}, {"GET", "/b", "/"}, {"PUT", "/c", "/"}, {"GET", "/c", "/"},
	} {
		r, match := table.Match(&Request{Method: []byte(c.method), Path: []byte(c.path)})
		if r == nil || r.Prefix(match) != c.want {
			t.Errorf("%s %s: %s has prefix %q, want %q", c.method, c.path, named(r, match), r.Prefix(match), c.want)
		}
	}
}

func TestCrossOriginOfBackend(t *testing.T) {
	cors := func(origin string) Filters { return Filters{CORS: &CORS{Origins: []string{origin}}} }
	table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{
		{Name: "both", Filters: cors("https://rule"), Backends: []Backend{{}, {Filters: cors("https://backend")}}},
		{Name: "backend", Backends: []Backend{{}, {Filters: cors("https://backend")}}},
		{Name: "none", Backends: []Backend{{}, {}}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][3]string{{"https://rule", "https://rule", "https://backend"}, {"", "", "https://backend"}, {}} {
		for b := -1; b < 2; b++ {
			got := table.Rules()[i].CrossOrigin(b)
			if (got != nil) != (want[1+b] != "") || got != nil && !got.Allow([]byte(want[1+b])) {
				t.Errorf("rule %d, backend %d: not the CORS of %q", i, b, want[1+b])
			}
		}
	}
}
