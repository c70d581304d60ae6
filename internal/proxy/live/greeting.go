package live

import (
	"context"
	"maps"
	"slices"
	"time"

	"tulle.dev/tulle/internal/proxy/rpc"
	"tulle.dev/tulle/internal/wire/control"
)

const (
	// GreetingKept is how long a report that a program speaks first is worth
	// something. Whoever hears it again reports it again in time.
	GreetingKept = time.Hour
	// maxGreetings bounds the service ports reported: a proxy serves few.
	maxGreetings = 1024
)

// Greets says that the proxy's own program was heard to speak first on a service
// port that it serves and that declares no protocol. The control plane is told,
// now or when it is back.
func (l *Live) Greets(key string) {
	if l.static {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.greets == nil || len(l.greets) >= maxGreetings {
		l.greets = make(map[string]time.Time)
	}
	l.greets[key] = l.config.now()
	l.greeted = append(l.greeted, key)
	if len(l.greeted) > maxGreetings {
		l.greeted = l.greeted[1:]
	}
	wake(l.news)
}

// takeGreetings returns what is to be reported: what is new, or on a new
// conversation all that still counts. l.mu is held.
func (l *Live) takeGreetings(all bool) []string {
	keys := l.greeted
	l.greeted = nil
	if !all {
		return keys
	}
	now := l.config.now()
	maps.DeleteFunc(l.greets, func(_ string, at time.Time) bool { return now.Sub(at) > GreetingKept })
	return slices.Sorted(maps.Keys(l.greets))
}

// sayGreetings reports service ports whose program speaks first.
func (l *Live) sayGreetings(ctx context.Context, stream *rpc.Stream, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	return l.say(ctx, stream, &control.ProxyMessage{Greets: &control.Greets{Ports: keys}})
}
