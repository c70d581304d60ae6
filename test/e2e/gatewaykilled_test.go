package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// outsiders are endpoints of a service outside the mesh, one for each handler.
func outsiders(t *testing.T, service string, handlers ...http.HandlerFunc) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `---
apiVersion: v1
kind: Service
metadata: {name: %s}
spec:
  ports: [{name: http, port: 8080, appProtocol: http}]
`, service)
	for i, h := range handlers {
		origin := httptest.NewServer(h)
		t.Cleanup(origin.Close)
		_, port, _ := net.SplitHostPort(origin.Listener.Addr().String())
		fmt.Fprintf(&b, `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-%[2]d, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: %[3]s}]
endpoints: [{addresses: [127.0.0.1]}]
`, service, i, port)
	}
	return b.String()
}

// says answers with a status, and says who it is.
func says(name string, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Server", name)
		w.WriteHeader(status)
	}
}

// A gateway's proxy is killed with a rate limit, a limit over all proxies, a limit of
// requests, an ejection and sessions in force. The next process serves by itself:
// what proxies learn it learns again, at the price of a first time; what they are
// told it has; and no healthy endpoint is left out.
func TestGatewayKilled(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	var hanging, most atomic.Int64
	hang := func(w http.ResponseWriter, r *http.Request) {
		n := hanging.Add(1)
		defer hanging.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-r.Context().Done()
	}
	const burst, requests = 10, 4
	rules := ""
	for _, service := range []string{"local", "shared", "spoilt", "hang", "stay"} {
		rules += fmt.Sprintf("  - {name: %[1]s, matches: [{path: {type: PathPrefix, value: /%[1]s}}], backendRefs: [{name: %[1]s, port: 8080}]}\n", service)
	}
	m, _ := up(t, gatewayTo("edge", port)+outsideEcho(t)+
		outsiders(t, "local", says("a", 200))+outsiders(t, "shared", says("a", 200))+outsiders(t, "spoilt", says("well", 200), says("ill", 503))+
		outsiders(t, "hang", hang)+outsiders(t, "stay", says("a", 200), says("b", 200), says("c", 200))+fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: paths}
spec:
  parentRefs: [{name: edge}]
  rules:
%s---
apiVersion: tulle.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: local}
spec:
  targetRefs: [{kind: HTTPRoute, name: paths, sectionName: local}]
  limits: [{requests: 1, per: 24h, burst: %d}]
---
apiVersion: tulle.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: shared}
spec:
  targetRefs: [{kind: HTTPRoute, name: paths, sectionName: shared}]
  limits: [{requests: 6000, per: 1m, burst: 100, scope: Global}]
---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: spoilt}
spec:
  targetRefs: [{kind: Service, name: spoilt}]
  balance: {algorithm: RoundRobin}
  ejection: {consecutiveFailures: 3, time: 1h}
---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: hang}
spec:
  targetRefs: [{kind: Service, name: hang}]
  limits: {requests: %d}
---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: stay}
spec:
  targetRefs: [{kind: Service, name: stay}]
  session: {type: Cookie, name: place}
`, rules, burst, requests))
	serves(t, port)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path, cookie string) (*http.Response, error) {
		r, _ := http.NewRequest(http.MethodGet, "http://127.0.0.1:"+port+path, nil)
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		answer, err := client.Do(r)
		if err == nil {
			io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
		return answer, err
	}
	statuses := func(path string, n int) (count map[int]int, last int) {
		t.Helper()
		count = map[int]int{}
		for range n {
			answer, err := get(path, "")
			if err != nil {
				t.Fatal(err)
			}
			last = answer.StatusCode
			count[last]++
		}
		return count, last
	}
	cookie, place := "", ""
	// inForce exhausts everything once, and leaves requests hanging.
	inForce := func(life string) (broken *sync.WaitGroup) {
		t.Helper()
		if got, last := statuses("/local", 3*burst); got[200] != burst || last != 429 {
			t.Errorf("%s: a limit of %d let pass %v", life, burst, got)
		}
		// About as many failures as it takes; each loop takes turns of its own, and there may be
		// many.
		got, _ := statuses("/spoilt", 400)
		if got[503] < 3 || got[503] > 6 {
			t.Errorf("%s: until the endpoint was left out: %v", life, got)
		}
		if got, _ := statuses("/spoilt", 40); got[200] != 40 {
			t.Errorf("%s: with the endpoint left out: %v", life, got)
		}
		broken = new(sync.WaitGroup)
		var refused atomic.Int64
		for range 3 * requests {
			broken.Go(func() {
				if answer, err := get("/hang", ""); err == nil && answer.StatusCode == 503 {
					refused.Add(1)
				}
			})
		}
		eventually(t, "what is over the limit is refused", func() bool { return refused.Load() == 2*requests && hanging.Load() == requests })
		for range 20 {
			answer, err := get("/stay", cookie)
			if err != nil || answer.StatusCode != 200 {
				t.Fatalf("%s: %v, %v", life, answer, err)
			}
			if c := answer.Header.Get("Set-Cookie"); cookie == "" && c != "" {
				cookie, _, _ = strings.Cut(c, ";")
				place = answer.Header.Get("X-Server")
			}
			if at := answer.Header.Get("X-Server"); at != place {
				t.Fatalf("%s: the session is at %s and was at %s", life, at, place)
			}
		}
		return broken
	}
	// Thirty a second of a hundred that are allowed, and far more than the twentieth
	// that a proxy takes that knows nothing.
	steady := func(n int) (refused int) {
		t.Helper()
		for range n {
			time.Sleep(30 * time.Millisecond)
			answer, err := get("/shared", "")
			if err != nil || answer.StatusCode != 200 && answer.StatusCode != 429 {
				t.Fatalf("%v, %v", answer, err)
			}
			if answer.StatusCode == 429 {
				refused++
			}
		}
		return refused
	}
	eventually(t, "the gateway has its part of the limit", func() bool { return steady(20) == 0 })
	broken := inForce("first life")
	dir := filepath.Join(m.dir, "gateways", "default_edge")
	eventually(t, "its part is on disk", func() bool {
		_, err := os.Stat(filepath.Join(dir, "shares"))
		return err == nil
	})
	m.tulle("upgrade", "edge")
	if n := steady(60); n > 0 {
		t.Errorf("after an upgrade %d of 60 requests within the limit were refused", n)
	}
	for _, pid := range m.gatewayPIDs("edge") { // the old one has what hangs
		syscall.Kill(pid, syscall.SIGKILL)
	}
	killed := time.Now()
	serves(t, port)
	t.Logf("it serves again after %v", time.Since(killed))
	if n := steady(60); n > 0 {
		t.Errorf("after the kill %d of 60 requests within the limit were refused", n)
	}
	broken.Wait()
	eventually(t, "the programs have noticed", func() bool { return hanging.Load() == 0 })
	broken = inForce("second life")
	if most.Load() > requests {
		t.Errorf("%d requests were under way at once, want %d", most.Load(), requests)
	}

	// With too much traffic, across a kill, no more comes through than the limit in
	// all that time and a burst of each life.
	var passed atomic.Int64
	var clients sync.WaitGroup
	quit := make(chan struct{})
	began := time.Now()
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				if answer, err := get("/shared", ""); err == nil && answer.StatusCode == 200 {
					passed.Add(1)
				}
			}
		})
	}
	time.Sleep(time.Second)
	syscall.Kill(m.gatewayPID(t, "edge"), syscall.SIGKILL)
	serves(t, port)
	time.Sleep(time.Second)
	close(quit)
	clients.Wait()
	took := time.Since(began)
	if limit := 100*took.Seconds() + 2*100; float64(passed.Load()) > limit+10 {
		t.Errorf("%d requests came through in %v, want %.0f at most", passed.Load(), took, limit)
	}
	broken.Wait()
}
