package meter

import (
	"cmp"
	"maps"
	"slices"
)

// Retry is why a request was tried again, or should have been.
type Retry uint8

// The reasons.
const (
	RetryUnsent  Retry = iota // the application never saw it
	RetryConnect              // no connection could be had
	RetryReset                // the connection or stream broke
	RetryTimeout              // the try took too long
	RetryStatus               // the response's status
	RetryGRPC                 // the call's code
	RetryHedge                // no response yet: a copy
	retries
)

var retryNames = [retries]string{"unsent", "connect", "reset", "timeout", "status", "grpc", "hedge"}

func (r Retry) String() string { return retryNames[r] }

// RetryOutcome is what came of the wish to try again.
type RetryOutcome uint8

// The outcomes.
const (
	Retried        RetryOutcome = iota // it was sent again
	RetryNoBudget                      // too many others were
	RetryExhausted                     // as often as the policy says already
	RetryBody                          // the request's body wasn't kept
	RetryNoTime                        // it would have been too late, or the endpoint asked for too long a pause
	retryOutcomes
)

var retryOutcomeNames = [retryOutcomes]string{"sent", "budget", "exhausted", "body", "time"}

func (o RetryOutcome) String() string { return retryOutcomeNames[o] }

type retryKey struct {
	direction Direction
	service   string
}

// retrySeries are the counters of one destination.
type retrySeries struct {
	key      retryKey
	counters [retries][retryOutcomes]Counter
}

// Retried counts a further try of a request to service, or one that was wanted
// and not made.
func (s *Shard) Retried(d Direction, service string, why Retry, o RetryOutcome) {
	k := retryKey{d, service}
	c := s.retries[k]
	if c == nil {
		if !s.registry.admitRetries(k) {
			k.service = overflow
			c = s.retries[k]
		}
		if c == nil {
			c = &retrySeries{key: k}
			s.retries[k] = c
			s.mu.Lock()
			s.retryList = append(s.retryList, c)
			s.mu.Unlock()
		}
	}
	c.counters[why][o].Add(1)
}

func (r *Registry) admitRetries(k retryKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.retries[k]; ok {
		return true
	}
	if len(r.retries) >= maxSeries {
		return false
	}
	r.retries[k] = struct{}{}
	return true
}

// writeRetries writes what isn't zero.
func (r *Registry) writeRetries(w *Writer) {
	sums := make(map[retryKey]*[retries][retryOutcomes]uint64)
	for _, s := range r.shards {
		s.mu.Lock()
		list := s.retryList
		s.mu.Unlock()
		for _, c := range list {
			sum := sums[c.key]
			if sum == nil {
				sum = new([retries][retryOutcomes]uint64)
				sums[c.key] = sum
			}
			for i := range c.counters {
				for j := range c.counters[i] {
					sum[i][j] += c.counters[i][j].n.Load()
				}
			}
		}
	}
	w.Family("tulle_retries_total", CounterKind, "Further tries of requests, and those that were wanted and not made, by reason and outcome.")
	for _, k := range slices.SortedFunc(maps.Keys(sums), func(a, b retryKey) int {
		return cmp.Or(cmp.Compare(a.direction, b.direction), cmp.Compare(a.service, b.service))
	}) {
		for i := range retries {
			for j := range retryOutcomes {
				if n := sums[k][i][j]; n > 0 {
					w.Count(n, "direction", k.direction.String(), "service", k.service, "reason", i.String(), "outcome", j.String())
				}
			}
		}
	}
}
