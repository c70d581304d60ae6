//go:build linux

package main

import (
	"context"
	"fmt"
)

// limitPolicies bounds CPU per request with every policy, of that with none.
const limitPolicies = 1.10

// manyEndpoints is how many endpoints a service has where balance matters.
const manyEndpoints = 10

// fullTraffic turns on all that watches each request, far from what would hurry it.
const fullTraffic = `  balance: {algorithm: PeakEWMA}
  limits: {connections: 10000, requests: 10000, pending: 10000}
  timeouts: {request: 10s, perTry: 5s, connect: 2s, streamIdle: 30s}
  retry: {attempts: 3, on: [Unsent, ConnectFailure, Reset, ServerError], budget: {percent: 20, minPerSecond: 10}}
  ejection: {consecutiveFailures: 7, successRate: 80, latencyFactor: 10}
`

// noTraffic turns off what is on by default.
const noTraffic = `  balance: {algorithm: Random}
  retry: {attempts: 0}
  ejection: {off: true}
`

// looseLimit is a rate limit that nobody reaches. At a gateway it is for the
// gateway, at a service it holds where the service is.
func looseLimit(kind, name string) string {
	return fmt.Sprintf(`
apiVersion: tulle.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: bench}
spec:
  targetRefs: [{kind: %s, name: %s}]
  limits: [{requests: 10000000, per: 1s}]
`, kind, name)
}

// trafficPolicies is what it costs to have every policy.
func (r *rig) trafficPolicies(ctx context.Context) error {
	fmt.Println("== traffic-policies: CPU per request with the full stack of policies (times, retry budget, breaker, ejection, local rate limit, peak EWMA), and with none; HTTP/1.1 keep-alive, 50 connections")
	if !r.has("tulle") {
		return nil
	}
	if err := r.certificates(); err != nil {
		return err
	}
	origin, ports, err := r.origins(ctx, manyEndpoints)
	if err != nil {
		return err
	}
	defer origin.stop()
	for _, form := range []struct {
		title, ratio string
		start        func(name string, more ...string) (*hop, error)
		service      string
		limit        string
	}{
		{fmt.Sprintf("one plain hop, %d endpoints", manyEndpoints), "policies-plain", func(name string, more ...string) (*hop, error) {
			return r.tulleMany(ctx, name, ports, more...)
		}, "backend", looseLimit("Gateway", "edge")},
		{"pair, mutual TLS 1.3 and HTTP/2 between (CPU of both)", "policies-pair", func(name string, more ...string) (*hop, error) {
			return r.tullePair(ctx, name, ports[0], more...)
		}, "cart", looseLimit("Service", "cart")},
	} {
		var hops []*hop
		for _, kind := range []struct {
			name string
			more []string
		}{
			{"none", []string{policyObject("TrafficPolicy", form.service, noTraffic)}},
			{"default", nil},
			{"all", []string{policyObject("TrafficPolicy", form.service, fullTraffic), form.limit}},
		} {
			h, err := form.start(kind.name, kind.more...)
			if err != nil {
				stopAll(hops)
				return err
			}
			hops = append(hops, h)
		}
		all, err := r.measure(ctx, hops, 0, r.length)
		stopAll(hops)
		if err != nil {
			return err
		}
		r.show(form.title, all)
		r.bound(form.ratio, find(all, "all").cpu()/find(all, "none").cpu(), limitPolicies)
	}
	return nil
}
