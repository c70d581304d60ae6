package proxy_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/view"
)

// replica is one of several workloads with cart's identity.
type replica struct {
	*running
	unique  string
	address netip.AddrPort
	asked   atomic.Int64
}

func newReplica(t testing.TB, name string, loops int) *replica {
	t.Helper()
	r := &replica{unique: identity.NewUniqueID()}
	app := program(t, func(w http.ResponseWriter, q *http.Request) {
		r.asked.Add(1)
		io.Copy(io.Discard, q.Body)
		io.WriteString(w, name)
	})
	r.running = start(t, serverView(app), loops)
	ca.issueWorkload(t, r.credentials, cartID, r.unique)
	r.address = netip.MustParseAddrPort(r.addr(t, "in"))
	return r
}

// replicasView is web's sidecar, which knows some endpoints of cart.
func replicasView(protocol view.Protocol, peers view.PeerProtocol, list ...view.Endpoint) *view.View {
	v := callerView(webID, "127.0.0.1:1", protocol, peers)
	for i := range list {
		list[i].Identity, list[i].Workload = cartID, fmt.Sprintf("cart-%d.default", i+1)
	}
	v.Endpoints[cart].List = list
	return v
}

func seriesOf(metrics, series string) (n int) {
	for line := range strings.Lines(metrics) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			fmt.Sscan(rest, &n)
		}
	}
	return n
}

const wrongWorkload = `tulle_errors_total{direction="outbound",service="cart.default:8080",reason="wrong_workload"}`

// TestAddressReused: an address that has come to another workload of the same
// identity is sent nothing, neither on new connections nor on those that there
// are. Requests go elsewhere, whatever their method, and it is counted, logged once
// and told.
func TestAddressReused(t *testing.T) {
	for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
		eachLoops(t, func(t *testing.T, loops int) {
			a, b := newReplica(t, "a", loops), newReplica(t, "b", loops)
			w := &written{}
			know := func(uniqueA string) *view.View {
				return replicasView(view.HTTP, peers, view.Endpoint{Address: a.address, UniqueID: uniqueA}, view.Endpoint{Address: b.address, UniqueID: b.unique})
			}
			web := startWith(t, know(a.unique), proxy.Config{Loops: loops, Log: slog.New(slog.NewTextHandler(w, nil))})
			url := "http://" + web.addr(t, "out") + "/"
			post := func(want string) {
				t.Helper()
				resp, err := client(t, false).Post(url, "text/plain", strings.NewReader("content")) // a connection each
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				got, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != 200 || want != "" && string(got) != want {
					t.Fatalf("%d %q, want an answer of %q", resp.StatusCode, got, want)
				}
			}
			for i := 0; a.asked.Load() == 0 || b.asked.Load() == 0; i++ {
				if post(""); i == 1000 {
					t.Fatal("one is never asked")
				}
			}
			if n := seriesOf(web.metrics(t), wrongWorkload); n != 0 {
				t.Fatalf("%d were refused", n)
			}

			// At a's address there is meant to be another one.
			if err := web.told.Replace(know(identity.NewUniqueID())); err != nil {
				t.Fatal(err)
			}
			before := a.asked.Load()
			for i := 0; seriesOf(web.metrics(t), wrongWorkload) == 0; i++ {
				if post("b"); i == 1000 {
					t.Fatal("its address is never tried")
				}
			}
			for range 20 {
				post("b")
			}
			if n := a.asked.Load() - before; n != 0 {
				t.Errorf("it was asked %d times", n)
			}
			state := func() (states []string) {
				for _, s := range web.EndpointStates().([]eject.State) {
					if s.Endpoint == a.address.String() {
						states = append(states, s.State+" "+s.Why)
					}
				}
				return states
			}
			// Failures in a row may have it ejected besides.
			if got := state(); len(got) != 1 || !strings.Contains(got[0], "another workload answers at its address") {
				t.Errorf("its state: %q", got)
			}
			comes(t, "a line in the log", func() bool { return strings.Contains(w.String(), "reason=wrong_workload") })
			if n := strings.Count(w.String(), "reason=wrong_workload"); n != 1 {
				t.Errorf("%d lines in the log:\n%s", n, w.String())
			}

			// And it is a's again.
			if err := web.told.Replace(know(a.unique)); err != nil {
				t.Fatal(err)
			}
			for i := 0; a.asked.Load() == before; i++ {
				if post(""); i == 1000 {
					t.Fatal("it is never asked again")
				}
			}
			if got := state(); len(got) != 1 || !strings.HasPrefix(got[0], "healthy") {
				t.Errorf("its state: %q", got)
			}
		})
	}
}

// TestAddressReusedAlone: where there is nobody else, the client is told.
func TestAddressReusedAlone(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		a := newReplica(t, "a", loops)
		web := start(t, replicasView(view.HTTP, 0, view.Endpoint{Address: a.address, UniqueID: identity.NewUniqueID()}), loops)
		code, head, _ := fetchOne(t, client(t, false), "GET", "http://"+web.addr(t, "out")+"/")
		if code != 502 || !strings.Contains(head.Get("Proxy-Status"), "error=tls_certificate_error") {
			t.Errorf("%d %v", code, head)
		}
		list := web.Stories(story.Query{ID: head.Get("Tulle-Id")})
		if len(list) != 1 || list[0].Reason != "wrong_workload" || len(list[0].Tries) == 0 || list[0].Tries[0].Outcome != "wrong_workload" {
			t.Errorf("the story: %+v", list)
		}
		if n := a.asked.Load(); n != 0 {
			t.Errorf("it was asked %d times", n)
		}
		if m := a.metrics(t); strings.Contains(m, "tulle_requests_total{") {
			t.Errorf("something reached it:\n%s", m)
		}
	})
}

// TestAddressReusedOpaque is the same for bytes that nobody looks at.
func TestAddressReusedOpaque(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		replica := func(name string) (r *running, unique string) {
			r = start(t, serverView(serve(t, func(c net.Conn) { io.WriteString(c, name) })), loops)
			unique = identity.NewUniqueID()
			ca.issueWorkload(t, r.credentials, cartID, unique)
			return r, unique
		}
		a, _ := replica("a")
		b, uniqueB := replica("b")
		web := start(t, replicasView(view.TCP, 0,
			view.Endpoint{Address: netip.MustParseAddrPort(a.addr(t, "in")), UniqueID: identity.NewUniqueID()},
			view.Endpoint{Address: netip.MustParseAddrPort(b.addr(t, "in")), UniqueID: uniqueB}), loops)
		for range 10 {
			if got, err := io.ReadAll(dialTo(t, web.addr(t, "out"))); err != nil || string(got) != "b" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if m := web.metrics(t); seriesOf(m, wrongWorkload) == 0 {
			t.Errorf("nobody was refused:\n%s", m)
		}
	})
}

// TestUnknownWorkload: endpoints of which no unique id is known, as those of older
// proxies, are not asked for one, have they one or not.
func TestUnknownWorkload(t *testing.T) {
	a, b := newReplica(t, "a", 1), newReplica(t, "b", 1)
	ca.issue(t, b.credentials, cartID)
	web := start(t, replicasView(view.HTTP, 0, view.Endpoint{Address: a.address}, view.Endpoint{Address: b.address}), 1)
	for i := 0; a.asked.Load() == 0 || b.asked.Load() == 0; i++ {
		if code, _, _ := fetchOne(t, client(t, false), "GET", "http://"+web.addr(t, "out")+"/"); code != 200 || i == 1000 {
			t.Fatalf("request %d: %d", i, code)
		}
	}
	if n := seriesOf(web.metrics(t), wrongWorkload); n != 0 {
		t.Errorf("%d were refused", n)
	}
}

// TestRenewalKeepsWorkload: a new certificate for the same workload is no other
// workload.
func TestRenewalKeepsWorkload(t *testing.T) {
	a := newReplica(t, "a", 1)
	web := start(t, replicasView(view.HTTP, 0, view.Endpoint{Address: a.address, UniqueID: a.unique}), 1)
	for range 20 {
		ca.issueWorkload(t, a.credentials, cartID, a.unique)
		for _, e := range []string{a.unique, ""} { // and anew each time
			if err := web.told.Replace(replicasView(view.HTTP, 0, view.Endpoint{Address: a.address, UniqueID: e})); err != nil {
				t.Fatal(err)
			}
			if code, _, _ := fetchOne(t, client(t, false), "GET", "http://"+web.addr(t, "out")+"/"); code != 200 {
				t.Fatalf("status %d", code)
			}
		}
	}
	if n := seriesOf(web.metrics(t), wrongWorkload); n != 0 {
		t.Errorf("%d were refused", n)
	}
}
