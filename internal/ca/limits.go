package ca

import (
	"time"

	"golang.org/x/time/rate"

	"tulle.dev/tulle/internal/identity"
)

// maxLimited bounds the identities of which is known what they asked for lately.
const maxLimited = 10_000

// Limits bound what each identity asks for: Burst at once, then one each Every. Not
// safe for concurrent use; Burst and Every don't change.
type Limits struct {
	Burst int
	Every time.Duration

	of map[identity.ID]*rate.Limiter
}

// Allow counts one of an identity, and reports whether that is within bounds.
func (l *Limits) Allow(id identity.ID, now time.Time) bool {
	limiter := l.of[id]
	if limiter == nil {
		if len(l.of) >= maxLimited {
			for k, other := range l.of {
				if other.TokensAt(now) >= float64(l.Burst) {
					delete(l.of, k)
				}
			}
			if len(l.of) >= maxLimited {
				return false
			}
		}
		if l.of == nil {
			l.of = map[identity.ID]*rate.Limiter{}
		}
		limiter = rate.NewLimiter(rate.Every(l.Every), l.Burst)
		l.of[id] = limiter
	}
	return limiter.AllowN(now, 1)
}
