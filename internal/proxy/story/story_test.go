package story

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestText(t *testing.T) {
	var x Text
	for in, want := range map[string]string{
		"":                             "",
		"/cart":                        "/cart",
		"/a\x00\x1b[31mb\"c":           `/a\x00\x1b[31mb\"c`,
		"/ä\xff":                       `/\u00e4\xff`,
		strings.Repeat("x", maxText+1): strings.Repeat("x", maxText) + "...",
	} {
		x.Set([]byte(in))
		if got := x.String(); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		if x.Is(in) != (len(in) <= maxText) {
			t.Errorf("%q: Is %t", in, x.Is(in))
		}
	}
}

func TestID(t *testing.T) {
	id := ID(0x0123456789abcdef)
	if id.String() != "0123456789abcdef" || ID(0).String() != "" {
		t.Errorf("%s, %q", id, ID(0))
	}
	for in, ok := range map[string]bool{"0123456789abcdef": true, "0123456789ABCDEF": true, "0123456789abcde": false, "0123456789abcdefg": false, "0123456789abcdeg": false, "0000000000000000": false, "": false} {
		got, valid := ParseID([]byte(in))
		if valid != ok || ok && got != id {
			t.Errorf("%q: %v %t", in, got, valid)
		}
	}
}

// write puts a story into a book.
func write(b *Book, k Kind, f func(*Story)) {
	f(b.Begin(k))
	b.End()
}

func TestBook(t *testing.T) {
	var b Book
	for i := range maxFailed + 10 {
		write(&b, Failed, func(s *Story) {
			if s.Status != 0 || s.Kind != Failed {
				t.Fatalf("story %d isn't new: %+v", i, s)
			}
			s.ID, s.Status = ID(i+1), 503
			s.At = time.Unix(int64(i), 0)
		})
	}
	write(&b, Slow, func(s *Story) { s.ID, s.At = 5000, time.Unix(1000, 0) })
	for range 10 * maxRefused { // doesn't push the failures out
		write(&b, Refused, func(s *Story) { s.ID = 6000 })
	}
	seen := map[ID]int{}
	b.Find(func(*Story) bool { return true }, func(s *Story) { seen[s.ID]++ })
	if len(seen) != maxFailed+2 || seen[10] != 0 || seen[11] != 1 || seen[maxFailed+10] != 1 || seen[5000] != 1 || seen[6000] != maxRefused {
		t.Errorf("%d ids: %v", len(seen), seen)
	}
	got := Ask([]*Book{&b, {}}, Query{Last: 3})
	if len(got) != 3 || got[0].ID != ID(5000).String() || got[1].ID != ID(maxFailed+10).String() {
		t.Errorf("%+v", got)
	}
}

func TestAsk(t *testing.T) {
	var a, b Book
	at := netip.MustParseAddrPort("10.0.0.1:80")
	write(&a, Failed, func(s *Story) {
		s.ID, s.Peer, s.At, s.Direction, s.Service = 1, 2, time.UnixMilli(1500), "outbound", "cart.default:8080"
		s.Rule, s.Backend, s.Status, s.Reason = "httproute/default/cart#0", "cart-v2.default:8080", 503, "connection_refused"
		s.Method.Set([]byte("GET"))
		s.Path.Set([]byte("/items"))
		s.Request.Set([]byte("abc-1"))
		s.Routed, s.Total = 50*time.Microsecond, 2*time.Millisecond
		s.SetTries([]Try{{Address: at, Workload: "cart-1.default", Outcome: "connection_refused", Began: time.Millisecond, Ended: 2 * time.Millisecond}}, 1)
		for i := range MaxEndpoints + 2 {
			s.AddEndpoint(Endpoint{Address: at, State: "tried", Workload: fmt.Sprint(i)})
		}
	})
	write(&b, Failed, func(s *Story) { s.ID, s.At, s.Service = 2, time.UnixMilli(1501), "cart.default:8080" })
	write(&b, Slow, func(s *Story) { s.ID, s.At, s.Service = 3, time.UnixMilli(1), "cart.defaults:8080" })
	books := []*Book{&a, &b}
	ids := func(q Query) (out string) {
		for _, s := range Ask(books, q) {
			out += strings.TrimLeft(s.ID, "0")
		}
		return out
	}
	for _, test := range []struct {
		q    Query
		want string
	}{
		{Query{}, "213"},
		{Query{Last: 1}, "2"},
		{Query{Service: "cart.default"}, "21"},
		{Query{Service: "cart.default:8080"}, "21"},
		{Query{Service: "cart.default:80"}, ""},
		{Query{ID: "0000000000000002"}, "21"}, // the peer's own, and whose it is
		{Query{ID: "0000000000000001"}, "1"},
		{Query{ID: "abc-1"}, "1"},
		{Query{ID: "abc"}, ""},
	} {
		if got := ids(test.q); got != test.want {
			t.Errorf("%+v: %q, want %q", test.q, got, test.want)
		}
	}
	got := Ask(books, Query{ID: "abc-1"})[0]
	if len(got.Endpoints) != MaxEndpoints || got.Known != MaxEndpoints+2 {
		t.Errorf("%d endpoints of %d", len(got.Endpoints), got.Known)
	}
	got.Endpoints = nil
	want := Told{ID: "0000000000000001", Peer: "0000000000000002", Kind: "failed", At: time.UnixMilli(1500).UTC(), Direction: "outbound", Service: "cart.default:8080",
		Method: "GET", Path: "/items", RequestID: "abc-1", Rule: "httproute/default/cart#0", Backend: "cart-v2.default:8080", Status: 503, Reason: "connection_refused",
		Routed: 0.05, Total: 2, Tries: []ToldTry{{Endpoint: "10.0.0.1:80", Workload: "cart-1.default", Outcome: "connection_refused", Began: 1, Ended: 2}}, Tried: 1, Known: MaxEndpoints + 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestPace: what is slow follows what is usual, and a second always is.
func TestPace(t *testing.T) {
	var p Pace
	limit := time.Second
	if !p.Slow(limit, limit) || p.Slow(limit-1, limit) {
		t.Error("the limit isn't what counts before anything is known")
	}
	p = Pace{}
	slow := 0
	for i := range 20_000 { // 1 of 50 takes ten times as long as the others
		d := 20 * time.Millisecond
		if i%50 == 0 {
			d *= 10
		}
		if p.Slow(d, limit) {
			slow++
		}
	}
	if slow > 200 {
		t.Errorf("%d of 20,000 are slow, though their wait is usual", slow)
	}
	if !p.Slow(500*time.Millisecond, limit) || p.Slow(199*time.Millisecond, limit) {
		t.Errorf("500 ms isn't slow, or 199 ms is, where one in fifty takes 200 ms: %v", time.Duration(p.estimate))
	}
	p = Pace{}
	for range 1000 {
		p.Slow(time.Microsecond, limit)
	}
	if p.Slow(9*time.Millisecond, limit) || !p.Slow(11*time.Millisecond, limit) {
		t.Error("the floor doesn't hold")
	}
	if n := testing.AllocsPerRun(100, func() { p.Slow(time.Millisecond, limit) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
