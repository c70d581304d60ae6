package proxy

import (
	"time"

	"tulle.dev/tulle/internal/proxy/live"
)

const (
	// GreetingKept is how long it is remembered that the server behind a service
	// port speaks first, here and in the control plane.
	GreetingKept = live.GreetingKept
	// maxGreetings bounds the ports that a loop remembers.
	maxGreetings = 4096
)

// greeting is what the proxy itself has heard: the service ports whose server
// speaks first, and until when that is believed. It says when to dial, nothing
// else.
type greeting map[string]time.Duration

// greets reports whether the server of a service port is known to speak first.
func (n *lane) greets(key string) bool {
	until, ok := n.greeting[key]
	if ok && n.loop.Now() >= until {
		delete(n.greeting, key)
		return false
	}
	return ok
}

// learn remembers on every loop that the server of a service port speaks first.
func (n *lane) learn(key string, kept time.Duration) {
	for _, other := range n.proxy.lanes {
		if other == n {
			n.remember(key, kept)
		} else {
			other.loop.Post(func() { other.remember(key, kept) })
		}
	}
}

func (n *lane) remember(key string, kept time.Duration) {
	if n.greeting == nil || len(n.greeting) >= maxGreetings {
		n.greeting = make(greeting)
	}
	n.greeting[key] = n.loop.Now() + kept
}
