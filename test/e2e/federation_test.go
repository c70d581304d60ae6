package e2e

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// listens is where a mesh's control plane takes proxies and others.
func (m *mesh) listens() string {
	m.t.Helper()
	at := regexp.MustCompile(`listen=(\S+:\d+) `).FindStringSubmatch(m.control.out.String())
	if at == nil {
		m.t.Fatalf("the control plane doesn't say where it listens:\n%s", m.control.out)
	}
	return at[1]
}

// meshAddress is where a workload's proxy takes mutual TLS.
func (m *mesh) meshAddress(workload string) string {
	m.t.Helper()
	var w struct {
		Spec struct {
			Address string
			Ports   []struct{ MeshPort int }
		}
	}
	if out := m.tulle("get", "workload", workload, "-o", "json"); json.Unmarshal([]byte(out), &w) != nil || len(w.Spec.Ports) == 0 || w.Spec.Ports[0].MeshPort == 0 {
		m.t.Fatalf("workload %s: %s", workload, out)
	}
	return w.Spec.Address + ":" + strconv.Itoa(w.Spec.Ports[0].MeshPort)
}

// trusting is a Mesh object that federates with another mesh.
func trusting(other *mesh, domain string) string {
	return `
apiVersion: tulle.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec:
  federatedTrustDomains:
  - trustDomain: ` + domain + `
    endpoint: https://` + other.listens() + `/.well-known/spiffe/bundle
    bundle: |
      ` + strings.ReplaceAll(strings.TrimSpace(other.tulle("trust", "bundle")), "\n", "\n      ") + "\n"
}

// far is a service whose one workload is in the other mesh.
func far(other *mesh, domain string) string {
	return `
apiVersion: v1
kind: Service
metadata: {name: far}
spec: {ports: [{port: 8080, appProtocol: http}]}
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: far-away}
spec:
  serviceAccount: echo
  trustDomain: ` + domain + `
  ports: [{service: far, port: 8080, protocol: http, meshAddress: "` + other.meshAddress("one") + `"}]
`
}

// Two meshes, each with a root of its own, call each other: nothing without
// federation, nothing with it alone, what a policy allows with both, and nothing once
// it is ended.
func TestFederation(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	domains := []string{"alpha.example", "beta.example"}
	var meshes []*mesh
	for _, d := range domains {
		m := newMeshWith(t, []string{"--trust-domain", d})
		m.server("one")
		m.ready("echo", 1)
		meshes = append(meshes, m)
	}
	each := func(f func(m, other *mesh, otherDomain string)) {
		t.Helper()
		for i, m := range meshes {
			f(m, meshes[1-i], domains[1-i])
		}
	}
	asks := 0
	// eventually asks until all answers have a status that begins so, for proxies are
	// told after objects are taken.
	eventually := func(m *mesh, url, status string) {
		t.Helper()
		var got any
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			asks++
			a := m.ask("web-"+strconv.Itoa(asks), url, 3)
			fits := len(a.Statuses) > 0
			for s := range a.Statuses {
				fits = fits && strings.HasPrefix(s, status)
			}
			if fits {
				return
			}
			got = a
			time.Sleep(200 * time.Millisecond)
		}
		t.Fatalf("%s: %v, want %s", url, got, status)
	}
	each(func(m, other *mesh, domain string) {
		m.apply(far(other, domain))
		eventually(m, "http://far:8080/", "5") // whose certificate is that?
	})
	each(func(m, other *mesh, domain string) { m.apply(trusting(other, domain)) })
	each(func(m, other *mesh, domain string) {
		eventually(m, "http://far:8080/", "403") // known, and allowed nothing
		m.ask("own", "http://echo:8080/", 3).all(t, "200", 3)
	})
	each(func(m, other *mesh, domain string) {
		m.apply(`
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {name: friends}
spec:
  targetRefs: [{kind: Service, name: echo}]
  rules:
  - from: [{identities: ["spiffe://` + domain + `/ns/default/sa/*"]}, {callers: ["*.default"]}]
`)
	})
	each(func(m, other *mesh, domain string) {
		eventually(m, "http://far:8080/", "200")
		m.ask("own-too", "http://echo:8080/", 3).all(t, "200", 3)
		if out, err := m.try("check"); strings.Contains(out, "never fetched") || strings.Contains(out, "has no bundle") {
			t.Errorf("check: %v\n%s", err, out)
		}
		if out := m.tulle("identity", "one", "-o", "json"); !strings.Contains(out, domain) {
			t.Errorf("the bundle of one doesn't hold %s: %s", domain, out)
		}
	})
	// The end of it, in the first mesh: nobody of the other is let in any more, and
	// its workloads aren't believed.
	first, second := meshes[0], meshes[1]
	var open []*process
	each(func(m, other *mesh, domain string) { // on connections that there are
		p := m.serve("--name", "steady", "--", "env", "E2E_ROLE=load", "E2E_URL=http://far:8080/", "E2E_RATE="+strconv.Itoa(rate), "E2E_FOR=6s", self(t))
		p.await("load begins")
		open = append(open, p)
	})
	time.Sleep(time.Second)
	first.apply("apiVersion: tulle.dev/v1alpha1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {}\n")
	eventually(second, "http://far:8080/", "5")
	eventually(first, "http://far:8080/", "5")
	for i, p := range open {
		if r := p.result(time.Minute); r.OK < rate/2 || r.Failed < 2*rate {
			t.Errorf("from %s %d requests succeeded and %d failed, want some and then none", domains[i], r.OK, r.Failed)
		}
	}
	first.ask("own-still", "http://echo:8080/", 3).all(t, "200", 3)
}
