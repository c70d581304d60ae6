package explain

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
)

func lines(list []Field) string {
	var b strings.Builder
	for _, f := range list {
		b.WriteString(f.Name + ": " + f.Value)
		if f.Source != "" {
			b.WriteString(" (" + f.Source + ")")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestPolicies(t *testing.T) {
	when := policy.Match{From: []string{"web.default"}, Methods: []string{"GET", "PUT"}, Paths: []policy.Path{{Value: "/a"}, {Prefix: true, Value: "/b/"}},
		Headers: []policy.Header{{Name: "x-user", Value: "7"}, {Name: "x-test", Present: true}}}
	for name, test := range map[string]struct {
		got  []Field
		want string
	}{
		"no request policy": {Request(nil), `
retry.attempts: 2
retry.on: Unsent, ConnectFailure
retry.backoff: 25ms
retry.maxBackoff: 250ms
retry.maxRetryAfter: 10s
retry.budget: 20% of requests, at least 10/s
retry.bufferBytes: 65536
`},
		"request": {Request(&policy.Request{
			Timeout: 90 * time.Second, Try: time.Second, StreamIdle: time.Hour,
			Retry: policy.Retry{Attempts: 1, On: policy.Unsent | policy.TooMany | policy.Statuses | policy.GRPCCodes, Statuses: []uint16{404, 503}, Codes: 1<<14 | 1<<4, Any: true, MinBackoff: time.Millisecond},
			Hedge: policy.Hedge{After: 50 * time.Millisecond, Max: 1},
			Faults: []policy.Fault{{Name: "faultpolicy/default/f#0", Share: 125_000, When: when, Delay: 2 * time.Second, GRPC: 14, BytesPerSecond: 10, Until: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
				{Share: policy.All, Reset: true}, {Share: policy.All, Status: 503}},
			Limits: []policy.RateLimit{{Name: "ratelimitpolicy/default/r#0", Requests: 10, Per: time.Second, Burst: 20, Global: true, Shadow: true,
				By: []policy.Descriptor{{Kind: policy.ByHeader, Name: "x-user"}, {Kind: policy.ByIdentity}, {Kind: policy.ByPath}, {Kind: policy.ByMethod}, {Kind: policy.BySource}}},
				{Name: "ratelimitpolicy/default/s", Service: &policy.LimitService{Destination: "counter.default:8081", Domain: "shop", Timeout: time.Second, Closed: true,
					Descriptors: []policy.LimitDescriptor{{Entries: []policy.LimitEntry{{Key: "user", Of: policy.Descriptor{Kind: policy.ByHeader, Name: "x-user"}}, {Key: "a", Value: "b"}}}}}}},
		}), `
timeouts.request: 1m30s
timeouts.perTry: 1s
timeouts.streamIdle: 1h
retry.attempts: 1
retry.on: Unsent, TooManyRequests
retry.statuses: 404, 503
retry.grpcCodes: DeadlineExceeded, Unavailable
retry.anyMethod: true
retry.backoff: 0s
retry.minBackoff: 1ms
retry.maxBackoff: 0s
retry.maxRetryAfter: 0s
retry.budget: 0% of requests, at least 0/s
retry.bufferBytes: 0
hedge.after: 50ms
hedge.maxCopies: 1
faults[0]: 12.5% of GET|PUT /a|/b/* with x-user=7 with x-test from web.default: wait 2s, answer gRPC Unavailable, send the body at 10 B/s, until 2026-01-02T03:04:05Z (faultpolicy/default/f#0)
faults[1]: 100% of all requests: reset the connection
faults[2]: 100% of all requests: answer 503
limits[0]: 10 per 1s, burst 20, for all requests, each header x-user and caller and path and method and client address, all proxies together, counted only (ratelimitpolicy/default/r#0)
limits[1]: counter.default:8081 is asked within 1s, domain shop, about (user=header x-user, a="b") of all requests; without an answer requests are refused (ratelimitpolicy/default/s)
`},
		"guard": {Inbound(&policy.Inbound{Guard: &policy.Guard{
			JWT: &policy.JWT{Required: true, Issuers: []policy.Issuer{{Name: "https://a", Audiences: []string{"shop"}, Keys: []byte("{}")}, {Name: "https://b"}}},
			Access: &access.Spec{Rules: []access.Rule{{Name: "accesspolicy/default/cart#0", Action: access.Allow,
				From: []access.Source{{ServiceAccounts: []string{"default/web"}}}, To: []access.Operation{{Methods: []string{"GET"}}}}}},
			External: &policy.External{Destination: "auth.default:80", Path: "/check", Timeout: time.Second},
		}}), `
jwt.required: true
jwt.issuers: https://a for shop, https://b (no keys yet: nobody's token is valid)
access.rules[0]: allow from web.default: GET (accesspolicy/default/cart#0)
access.default: deny (what no rule decides)
external: asks auth.default:80 (HTTP /check), within 1s, refused without an answer
`},
		"egress": {Egress(&policy.Egress{Destinations: []policy.EgressDestination{{Name: "bank", Hosts: []string{"api.bank.example"}, Networks: []string{"10.0.0.0/8"}, Ports: []uint16{443}, TLS: &policy.EgressTLS{ServerName: "bank"}}}}), `
other: refused
bank: api.bank.example, 10.0.0.0/8 at port 443, the proxy speaks TLS with bank
`},
		"nothing is tried again": {Request(&policy.Request{}), "\nretry.attempts: 0\n"},
		"no upstream policy": {Upstream(nil), `
balance.algorithm: PeakEWMA
locality: PreferZone
panicThreshold: 50%
ejection.consecutiveFailures: 7
ejection.successRate: 80%
ejection.minRequests: 20
ejection.window: 10s
ejection.time: 5s
ejection.maxTime: 1m
ejection.maxPercent: 50%
`},
		"upstream": {Upstream(&policy.Upstream{
			Balance: policy.Balance{Algorithm: policy.Maglev, On: []policy.HashPart{{Kind: policy.HashCookie, Name: "id"}, {Kind: policy.HashSource}}},
			Session: policy.Session{Kind: policy.SessionCookie, Name: "s", Lifetime: time.Minute}, Locality: policy.OnlyZone, SlowStart: time.Minute,
			Subset: []string{"a=b", "c=d"}, Limits: policy.Limits{Connections: 1, Requests: 2, Pending: 3, PendingTime: 2 * time.Second}, Connect: time.Second, PoolIdle: time.Minute,
			Ejection: policy.Ejection{Off: true},
			Health:   &policy.HealthCheck{Kind: policy.HealthHTTP, Path: "/", Host: "h", Statuses: []uint16{200}, Interval: time.Second, Timeout: time.Second, Unhealthy: 3, Healthy: 2},
		}), `
balance.algorithm: Maglev
balance.hashOn: Cookie id, Source
session: Cookie s for 1m
locality: OnlyZone
slowStart: 1m
panicThreshold: 0%
subset: a=b, c=d
limits.connections: 1
limits.requests: 2
limits.pending: 3
limits.pendingTimeout: 2s
timeouts.connect: 1s
timeouts.poolIdle: 1m
ejection.off: true
healthCheck.type: HTTP
healthCheck.path: /
healthCheck.host: h
healthCheck.statuses: 200
healthCheck.interval: 1s
healthCheck.timeout: 1s
healthCheck.failureThreshold: 3
healthCheck.successThreshold: 2
`},
		"inbound": {Inbound(&policy.Inbound{Limits: []policy.RateLimit{{Requests: 1, Per: time.Minute, Burst: 1}},
			Overload: &policy.Overload{Min: 4, Max: 100, Tolerance: 200, Queue: time.Second, Priority: []policy.Priority{{Level: 9, When: policy.Match{From: []string{"*.admin"}}}}}}), `
limits[0]: 1 per 1m, burst 1, for all requests
overload.minConcurrency: 4
overload.maxConcurrency: 100
overload.latencyTolerance: 200%
overload.queue: 1s
overload.priorities[0]: 9 for all requests from *.admin
`},
	} {
		if diff := cmp.Diff(test.want, "\n"+lines(test.got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if Inbound(nil) != nil {
		t.Error("no inbound policy has values")
	}
}

func TestRouteText(t *testing.T) {
	for want, m := range map[string]route.Match{
		"*":                      {},
		"GET /a":                 {Method: "GET", Path: route.Path{Kind: route.PathExact, Value: "/a"}},
		"/a/* x=1 y~[0-9]+ ?q=2": {Path: route.Path{Kind: route.PathPrefix, Value: "/a/"}, Headers: []route.Field{{Name: "x", Value: "1"}, {Name: "y", Value: "[0-9]+", Regex: true}}, Query: []route.Field{{Name: "q", Value: "2"}}},
		"~/a|/b":                 {Path: route.Path{Kind: route.PathRegex, Value: "/a|/b"}},
		"*/Get":                  {Path: route.Path{Kind: route.PathGRPCMethod, Value: "Get"}},
	} {
		if got := Match(&m); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f := route.Filters{
		CORS:     &route.CORS{Origins: []string{"https://a", "*"}},
		Redirect: &route.Redirect{Scheme: "https", Port: 8443, Change: route.PrefixPath, Path: "/b", Status: 301},
		Request:  &route.Modifier{Set: []route.Value{{Name: "a", Value: "1"}}, Add: []route.Value{{Name: "b", Value: "2"}}, Remove: []string{"c"}},
		Response: &route.Modifier{Remove: []string{"server"}},
		Rewrite:  &route.Rewrite{Host: "h", Change: route.FullPath, Path: "/p"},
		Mirrors:  []route.Mirror{{Destination: "d.e:1", Share: 5000}, {Share: policy.All}},
	}
	want := []string{"CORS for https://a, *", "redirect 301 to https://the same host:8443, the matched prefix to /b", "set request header a: 1", "add request header b: 2",
		"remove request header c", "remove response header server", "rewrite host h, path /p", "mirror 0.5% to d.e:1", "mirror 100% to a backend that doesn't exist"}
	if diff := cmp.Diff(want, Filters(&f)); diff != "" {
		t.Error(diff)
	}
}
