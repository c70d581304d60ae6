package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tulle.dev/tulle/internal/telemetry"
	"tulle.dev/tulle/internal/telemetry/tsdb"
)

// maxAdoption is how far back adoption may be asked for: a day has nightly jobs.
const maxAdoption = 7 * 24 * time.Hour

// ruleStrict is what ends connections without TLS when a port turns strict.
const ruleStrict = "mode/strict"

const (
	queryAdopted     = `sum by (service, peer, tls, status) (increase(tulle_requests_total{direction="inbound"}[%s] anchored))`
	queryAdoptedTCP  = `sum by (service, peer, tls) (increase(tulle_connections_total{direction="inbound",protocol="tcp"}[%s] anchored))`
	queryDecided     = `sum by (service, decision, rule) (increase(tulle_access_total{direction="inbound"}[%s] anchored))`
	queryUnencrypted = `sum by (service) (increase(tulle_errors_total{direction="inbound",reason="plaintext_refused"}[%s] anchored))`
)

// Adoption computes how far the traffic to each service port has come, over the
// window that ends now.
func (e *Engine) Adoption(ctx context.Context, window time.Duration) (telemetry.Adoption, error) {
	out := telemetry.Adoption{Window: tsdb.FormatDuration(window), Ports: []telemetry.AdoptionPort{}}
	if window < MinWindow || window > maxAdoption {
		return out, invalid("window %s: want %s to %s", tsdb.FormatDuration(window), tsdb.FormatDuration(MinWindow), tsdb.FormatDuration(maxAdoption))
	}
	now, width := e.config.Now(), tsdb.FormatDuration(window)
	answers := map[string]*tsdb.Value{queryAdopted: {}, queryAdoptedTCP: {}, queryDecided: {}, queryUnencrypted: {}}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for text, answer := range answers {
		expr := strings.Replace(text, "%s", width, 1)
		group.Go(func() (err error) {
			if *answer, err = e.config.DB.Instant(groupCtx, expr, now); err != nil {
				return fmt.Errorf("adoption: %w", err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return out, err
	}
	out.Ports = adopted(answers)
	return out, nil
}

func adopted(answers map[string]*tsdb.Value) []telemetry.AdoptionPort {
	type who struct{ peer, tls string }
	ports := map[string]*telemetry.AdoptionPort{}
	callers := map[string]map[who]float64{}
	port := func(labels map[string]string) *telemetry.AdoptionPort {
		s := labels["service"]
		if ports[s] == nil {
			ports[s], callers[s] = &telemetry.AdoptionPort{Service: s}, map[who]float64{}
		}
		return ports[s]
	}
	for _, query := range []string{queryAdopted, queryAdoptedTCP} {
		for _, s := range answers[query].Series {
			p, n := port(s.Labels), s.Points[0].V
			p.Requests += n
			if s.Labels["tls"] == "mutual" {
				p.Mutual += n
			}
			if s.Labels["peer"] != "" {
				p.Known += n
			}
			if status := s.Labels["status"]; strings.HasPrefix(status, "5") || status == "none" {
				p.Failed += n
			}
			callers[p.Service][who{s.Labels["peer"], s.Labels["tls"]}] += n
		}
	}
	for _, s := range answers[queryDecided].Series {
		p, n := port(s.Labels), s.Points[0].V
		switch d := s.Labels["decision"]; {
		case d == "allowed" && s.Labels["rule"] != "":
			p.Allowed += n
		case d == "allowed":
			p.ByDefault += n
		case d == "denied":
			p.Denied += n
		case d == "audit":
			p.Audit += n
		case d == "ended" && s.Labels["rule"] == ruleStrict:
			p.Refused += n
		}
	}
	for _, s := range answers[queryUnencrypted].Series {
		port(s.Labels).Refused += s.Points[0].V
	}
	list := []telemetry.AdoptionPort{}
	for name, p := range ports {
		if name == "" {
			continue
		}
		p.Callers = []telemetry.AdoptionCaller{}
		for w, n := range callers[name] {
			if n > 0 {
				p.Callers = append(p.Callers, telemetry.AdoptionCaller{Peer: w.peer, TLS: w.tls, Requests: n})
			}
		}
		slices.SortFunc(p.Callers, func(a, b telemetry.AdoptionCaller) int {
			return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.TLS, b.TLS))
		})
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b telemetry.AdoptionPort) int { return cmp.Compare(a.Service, b.Service) })
	return list
}
