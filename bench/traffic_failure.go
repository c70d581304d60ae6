//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// The limits of what one bad endpoint of ten may do.
const (
	limitSlowP99       = 1.30 // p99 beside a slow endpoint, of p99 without it
	limitSlowEnvoy     = 1.00 // p99 beside it, of Envoy's least request beside it
	limitFailedPercent = 0.1
	limitRetryLoad     = 1.05 // requests that the endpoints got, of those made
	limitEjectedShare  = 1.0  // percent
	limitStormLoad     = 1.21 // the budget's 20 percent, and its floor of 10 a second
)

const (
	failureRate = 1000.0                 // requests a second
	answerTime  = 5 * time.Millisecond   // of an endpoint that is well
	slowBy      = 500 * time.Millisecond // the slow one
	failingPart = 0.3                    // of the failing one's answers
	// ejectedBy is when the failing one must be out of balance.
	ejectedBy = 10 * time.Second
)

const retryOnErrors = `  retry: {attempts: 2, on: [Unsent, ConnectFailure, ServerError], budget: {percent: 20, minPerSecond: 10}}
`

// trafficSlow is one endpoint of ten that answers late.
func (r *rig) trafficSlow(ctx context.Context) error {
	fmt.Printf("== traffic-slow: %d endpoints that answer after %v, and one of them after %v more; %.0f requests a second\n", manyEndpoints, answerTime, slowBy, failureRate)
	s, err := r.serve(ctx, manyEndpoints, answerTime, 0)
	if err != nil {
		return err
	}
	defer s.proc.stop()
	if err := s.set(manyEndpoints-1, slowBy, 0); err != nil {
		return err
	}
	type measured struct {
		hop     *hop
		p50     []float64
		p99     []float64
		slow    int64
		made    int64
		answers string
	}
	var all []*measured
	defer func() {
		for _, m := range all {
			m.hop.stop()
		}
	}()
	for _, peer := range r.peers("envoy", "tulle") {
		for _, with := range []struct {
			name  string
			ports []int
		}{{"nine", s.ports[:manyEndpoints-1]}, {"ten", s.ports}} {
			var h *hop
			if peer == "envoy" {
				h, err = r.envoyMany(ctx, "envoy "+with.name, with.ports, envoyOptions{cluster: "    lb_policy: LEAST_REQUEST\n"})
			} else {
				h, err = r.tulleMany(ctx, "tulle "+with.name, with.ports, policyObject("TrafficPolicy", "backend", "  balance: {algorithm: PeakEWMA}\n"))
			}
			if err != nil {
				return err
			}
			all = append(all, &measured{hop: h})
			// What it learns of the endpoints comes before anything counts.
			if _, err := openLoop(ctx, h.address, failureRate, min(r.length, 2*time.Second)); err != nil {
				return err
			}
		}
	}
	for round := range r.rounds {
		for i := range all {
			m := all[(i+round)%len(all)]
			time.Sleep(r.settle)
			if _, _, err := s.counts(); err != nil {
				return err
			}
			res, err := openLoop(ctx, m.hop.address, failureRate, r.length)
			if err != nil {
				return err
			}
			each, total, err := s.counts()
			if err != nil {
				return err
			}
			m.p50, m.p99 = append(m.p50, res.P50), append(m.p99, res.P99)
			m.slow, m.made, m.answers = m.slow+each[manyEndpoints-1], m.made+total, m.answers+res.statuses()
		}
	}
	p99 := map[string]float64{}
	fmt.Printf("  %-12s %9s %9s %22s\n", "", "p50 ms", "p99 ms", "share of the slow one")
	for _, m := range all {
		p99[m.hop.name] = median(m.p99)
		fmt.Printf("  %-12s %9.2f %9.2f %20.3f %% %s\n", m.hop.name, median(m.p50), median(m.p99), 100*float64(m.slow)/float64(m.made), m.answers)
	}
	if r.has("tulle") {
		r.bound("slow-endpoint-p99", p99["tulle ten"]/p99["tulle nine"], limitSlowP99)
	}
	if r.has("tulle") && r.has("envoy") {
		r.bound("slow-endpoint-p99-envoy", p99["tulle ten"]/p99["envoy ten"], limitSlowEnvoy)
	} else {
		r.missing = append(r.missing, "slow-endpoint-p99-envoy")
	}
	return nil
}

// trafficFailing is one endpoint of ten that answers 503 to some, then all ten
// that answer nothing else.
func (r *rig) trafficFailing(ctx context.Context) error {
	fmt.Printf("== traffic-failing: one of %d endpoints answers %.0f %% with 503; %.0f requests a second, tried again on 5xx\n", manyEndpoints, 100*failingPart, failureRate)
	if !r.has("tulle") {
		return nil
	}
	s, err := r.serve(ctx, manyEndpoints, 0, 0)
	if err != nil {
		return err
	}
	defer s.proc.stop()
	bad := manyEndpoints - 1
	if err := s.set(bad, 0, failingPart); err != nil {
		return err
	}
	noEjection := policyObject("TrafficPolicy", "backend", retryOnErrors+"  ejection: {off: true}\n")
	h, err := r.tulleMany(ctx, "tulle", s.ports, noEjection)
	if err != nil {
		return err
	}
	defer h.stop()
	made, failed, reached, answers, err := r.repeat(ctx, h, s)
	if err != nil {
		return err
	}
	fmt.Printf("  ejection off: %d of %d failed, %.3f requests at the endpoints for each%s\n", failed, made, float64(reached)/float64(made), answers)
	r.bound("failing-endpoint-failed-percent", 100*float64(failed)/float64(made), limitFailedPercent)
	r.bound("failing-endpoint-load", float64(reached)/float64(made), limitRetryLoad)

	ejecting, err := r.tulleMany(ctx, "tulle", s.ports, policyObject("TrafficPolicy", "backend", retryOnErrors))
	if err != nil {
		return err
	}
	defer ejecting.stop()
	if _, err := openLoop(ctx, ejecting.address, failureRate, ejectedBy); err != nil {
		return err
	}
	before, first, err := s.counts()
	if err != nil {
		return err
	}
	res, err := openLoop(ctx, ejecting.address, failureRate, 2*r.length)
	if err != nil {
		return err
	}
	each, total, err := s.counts()
	if err != nil {
		return err
	}
	share := 100 * float64(each[bad]) / float64(total)
	fmt.Printf("  ejection on: the failing one got %.2f %% of the first %v, then %.2f %% for %v; %d failed%s\n",
		100*float64(before[bad])/float64(first), ejectedBy, share, 2*r.length, res.failed(), res.statuses())
	r.bound("ejected-endpoint-percent", share, limitEjectedShare)

	if err := s.set(-1, 0, 1); err != nil {
		return err
	}
	broken, err := r.tulleMany(ctx, "tulle", s.ports, noEjection)
	if err != nil {
		return err
	}
	defer broken.stop()
	made, _, reached, _, err = r.repeat(ctx, broken, s)
	if err != nil {
		return err
	}
	fmt.Printf("  every endpoint answers 503: %.3f requests at the endpoints for each\n", float64(reached)/float64(made))
	r.bound("failing-service-load", float64(reached)/float64(made), limitStormLoad)
	return nil
}

// repeat puts the load on a hop once for each round, and adds up the requests
// made, those that failed, and those that reached the servers.
func (r *rig) repeat(ctx context.Context, h *hop, s *servers) (made, failed, reached int64, answers string, err error) {
	if _, _, err = s.counts(); err != nil {
		return
	}
	for range r.rounds {
		var res openResult
		if res, err = openLoop(ctx, h.address, failureRate, r.length); err != nil {
			return
		}
		made, failed, answers = made+res.Sent, failed+res.failed(), answers+res.statuses()
	}
	_, reached, err = s.counts()
	return
}
