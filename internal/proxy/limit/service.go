package limit

import (
	"net/netip"
	"strings"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/wire/ratelimit"
)

// maxEntry bounds a value that is told, in bytes. What is longer is cut.
const maxEntry = 1 << 10

// Service is another program that decides whether there are too many requests, ready
// for one loop.
type Service struct {
	Policy  *policy.RateLimit
	Count   *meter.RateLimited
	matches []*policy.Matcher
}

func newService(l *policy.RateLimit, count *meter.RateLimited) *Service {
	s := &Service{Policy: l, Count: count}
	for i := range l.Service.Descriptors {
		s.matches = append(s.matches, policy.NewMatcher(l.Service.Descriptors[i].When))
	}
	return s
}

// Services are the programs that are asked, once the set's own limits allow a
// request. The slice must not be changed.
func (s *Set) Services() []*Service { return s.services }

// Descriptors are what is asked about a request; none when nobody is to be asked.
// source is the client's address.
func (s *Service) Descriptors(r *policy.Subject, source netip.Addr) (list []ratelimit.Descriptor) {
	for i, m := range s.matches {
		if !m.Met(r) {
			continue
		}
		d := &s.Policy.Service.Descriptors[i]
		to := ratelimit.Descriptor{Hits: uint64(d.Hits)}
		for j := range d.Entries {
			e := &d.Entries[j]
			out := ratelimit.Entry{Key: e.Key, Value: e.Value}
			if e.Of.Kind != 0 {
				v, there := appendValue(nil, &e.Of, r, source)
				if !there {
					to.Entries = nil
					break
				}
				out.Value = strings.ToValidUTF8(string(v[:min(len(v), maxEntry)]), "\uFFFD")
			}
			to.Entries = append(to.Entries, out)
		}
		if len(to.Entries) > 0 {
			list = append(list, to)
		}
	}
	return list
}
