package proxy

import (
	"time"

	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h1"
)

// The defaults of view.Settings.
const (
	DefaultConnectTimeout = 2 * time.Second
	DefaultHeadTimeout    = 10 * time.Second
	DefaultIdleTimeout    = 5 * time.Minute
	// DefaultPoolIdle is below the shortest idle timeout that servers commonly
	// have (5 s), so that the proxy closes first.
	DefaultPoolIdle     = 3500 * time.Millisecond
	DefaultStreamIdle   = 5 * time.Minute
	DefaultDrainTimeout = 30 * time.Second

	DefaultMaxConnections = 50_000
	// DefaultMinBodyRate, in bytes a second at edges, is less than what any
	// network does that people upload over.
	DefaultMinBodyRate = 500

	// DrainNotice is how long a draining proxy keeps accepting when nobody
	// says that its peers know.
	DrainNotice = 15 * time.Second
	// HandshakeSettle is how long a draining proxy waits for clients on other
	// machines to end the TCP handshakes that they have begun.
	HandshakeSettle = 300 * time.Millisecond

	// handshakesPerLoop bounds the TLS handshakes of a loop that compute off it at
	// the same time.
	handshakesPerLoop = 4
	// maxPassThrough bounds the destinations outside the mesh that one loop
	// remembers.
	maxPassThrough = 1024
	// DefaultPeerProtocol is what proxies speak to each other.
	DefaultPeerProtocol = view.PeerHTTP2
	// via is our name in Via fields.
	via = "tulle"
)

// multiplex says whether exchanges with other proxies share connections.
func multiplex(s *view.Settings) bool {
	return or(s.PeerProtocol, DefaultPeerProtocol) == view.PeerHTTP2
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// limits makes the HTTP limits of the proxy's settings.
func limits(s *view.Settings) l7http.Limits {
	return l7http.Limits{
		Head: h1.Limits{
			MaxHead:   int(or(s.MaxHead, h1.DefaultMaxHead)),
			MaxFields: int(or(s.MaxFields, h1.DefaultMaxFields)),
		},
		HeadTimeout: or(s.HeadTimeout, DefaultHeadTimeout),
		IdleTimeout: or(s.IdleTimeout, DefaultIdleTimeout),
		PoolIdle:    or(s.PoolIdle, DefaultPoolIdle),
		StreamIdle:  or(s.StreamIdle, DefaultStreamIdle),
		MinBodyRate: minBodyRate(s),
	}
}

func minBodyRate(s *view.Settings) int {
	if s.MinBodyRate == view.AnyBodyRate {
		return 0
	}
	return int(or(s.MinBodyRate, DefaultMinBodyRate))
}
