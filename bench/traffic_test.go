//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/route"
)

func TestAsked(t *testing.T) {
	short, long := table{name: "traffic-routes"}, table{name: "identity-rotation", long: true}
	for _, c := range []struct {
		table table
		names []string
		long  bool
		want  bool
	}{
		{short, nil, false, true},
		{short, []string{"traffic"}, false, true},
		{short, []string{"traffic-routes"}, false, true},
		{short, []string{"traffic-slow", "identity"}, false, false},
		{short, []string{"traf"}, false, false},
		{table{name: "http2"}, []string{"http1"}, false, false},
		{long, nil, false, false},
		{long, []string{"identity"}, false, false},
		{long, []string{"identity"}, true, true},
		{long, nil, true, true},
		{long, []string{"identity-rotation"}, false, true},
	} {
		if got := c.table.asked(c.names, c.long); got != c.want {
			t.Errorf("%s asked by %v, long %v: %v, want %v", c.table.name, c.names, c.long, got, c.want)
		}
	}
}

// TestOpenLoad: every answer is counted by its status, what isn't answered too,
// and a slow answer holds up no other.
func TestOpenLoad(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	order := make(chan int, 100)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch <-order {
		case 0: // slower than all others together
			time.Sleep(300 * time.Millisecond)
		case 1:
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		case 2:
			panic(http.ErrAbortHandler)
		case 3:
			w.Header().Set("Connection", "close")
		case 4:
			<-r.Context().Done()
			return
		}
		io.WriteString(w, "ok")
	})
	for i := range 50 {
		order <- i
	}
	s.Start()
	defer s.Close()
	o := openLoad{target: s.Listener.Addr().String(), rate: 500, length: 100 * time.Millisecond, conns: 20, grace: 5 * time.Second}
	res := o.run()
	if res.Sent != 50 || res.Status[200] != 47 || res.Status[503] != 1 || res.Broken != 1 || res.Waiting != 1 {
		t.Errorf("%+v: want 47 answers, a 503, one broken and one not answered", res)
	}
	if res.failed() != 3 || res.Max < 300 || res.P50 >= res.Max || res.InTime > 46 {
		t.Errorf("%+v, failed %d: want 3 failed, one slow answer that isn't in time, others that are quick", res, res.failed())
	}
	if said := res.statuses(); !strings.Contains(said, "503: 1") || !strings.Contains(said, "broken: 1") || !strings.Contains(said, "not answered: 1") {
		t.Errorf("it says %q", said)
	}
}

// TestManners: the servers do what they are told, and count.
func TestManners(t *testing.T) {
	all := []*server{{}, {}}
	control := httptest.NewServer(manners(all))
	defer control.Close()
	s := &servers{control: strings.TrimPrefix(control.URL, "http://")}
	if err := s.set(1, 30*time.Millisecond, 1); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{200, 503, 503} {
		w := httptest.NewRecorder()
		began := time.Now()
		all[min(i, 1)].ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if took := time.Since(began); w.Code != want || i > 0 && took < 30*time.Millisecond {
			t.Errorf("request %d: status %d after %s", i, w.Code, took)
		}
	}
	for _, want := range []string{"[1 2] 3", "[0 0] 0"} {
		each, total, err := s.counts()
		if got := fmt.Sprint(each, total); got != want || err != nil {
			t.Errorf("counts %s, %v: want %s", got, err, want)
		}
	}
	for _, bad := range []string{"server=2&delay=0s&fail=0", "server=-2&delay=0s&fail=0", "delay=0s&fail=0", "server=0&delay=1&fail=0", "server=0&delay=-1s&fail=0", "server=0&delay=0s&fail=1.1", "server=0&delay=0s&fail=NaN"} {
		q, _ := url.ParseQuery(bad)
		if _, _, _, err := parseManners(q, 2); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	if err := s.set(7, 0, 0); err == nil {
		t.Error("a server that isn't there was told something")
	}
}

// TestThousandRules: the rules are those of the figure, and each request finds the
// one that it is for.
func TestThousandRules(t *testing.T) {
	rules := thousandRules()
	var exact, prefix, regex, header int
	for _, r := range rules {
		switch {
		case r.exact != "":
			exact++
		case r.prefix != "":
			prefix++
		case r.regex != "":
			regex++
		case r.name != "":
			header++
		}
	}
	if exact != 700 || prefix != 250 || regex != 10 || header != 40 {
		t.Errorf("%d exact, %d prefixes, %d regular expressions, %d header fields", exact, prefix, regex, header)
	}
	for _, c := range routeCases() {
		table, err := route.Compile(routeSpec(rules, c.regexes))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := table.Match(&route.Request{Authority: []byte("a"), Method: []byte("GET"), Path: []byte(c.request.path), Fields: browserFields(c.request.name, c.request.value)})
		if got == nil || got.Name != fmt.Sprint(c.want) {
			t.Errorf("%s: found %+v, want rule %d", c.title, got, c.want)
		}
	}
	objects := routeObjects(rules)
	if n := strings.Count(strings.Join(objects, ""), "backendRefs"); n != 1000 || len(objects) != 63 {
		t.Errorf("%d rules in %d HTTPRoutes", n, len(objects))
	}
	if n := strings.Count(envoyRoutes(rules), "cluster: back"); n != 1000 {
		t.Errorf("%d rules for Envoy", n)
	}
}

// TestObjects: Tulle takes every object that the cases write.
func TestObjects(t *testing.T) {
	for name, text := range map[string]string{
		"routes":   manyMesh(1, []int{2}, routeObjects(thousandRules())...),
		"policies": manyMesh(1, []int{2, 3}, policyObject("TrafficPolicy", "backend", fullTraffic), looseLimit("Gateway", "edge")),
		"none":     manyMesh(1, []int{2}, policyObject("TrafficPolicy", "backend", noTraffic)),
		"retries":  manyMesh(1, []int{2}, policyObject("TrafficPolicy", "backend", retryOnErrors)),
		"overload": documents(fmt.Sprintf(pairMesh, "http", 1, 2, 3, "http2"), policyObject("TrafficPolicy", "cart", "  overload: {}\n")),
		"access":   documents(append([]string{fmt.Sprintf(pairMesh, "http", 1, 2, 3, "http2")}, accessObjects(accessRules())...)...),
		"rotation": rotationMesh(1, 2, 3),
	} {
		docs, err := object.Decode(name, []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, d := range docs {
			object.Default(d.Object)
			if errs := object.Validate(d.Object); len(errs) > 0 {
				t.Errorf("%s: %s %s: %v", name, d.Kind.Name, d.Object.GetName(), errs)
			}
		}
	}
	if strings.Contains(manyMesh(1, []int{2}, routeObjects(thousandRules())...), "metadata: {name: edge}\nspec:\n  parentRefs") {
		t.Error("the gateway has a route for everything beside the 1,000")
	}
}
