package proxy

import (
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/route"
)

// This file routes connections that aren't HTTP (TCPRoute, TLSRoute): by the
// server name that a TLS client asks for, which is read and not decrypted, and by
// weight. What no route is for is closed, as is a share that has no backend.

// noStream is how a connection is counted that no route is for.
const noStream = "destination_not_found"

// stream sends the connection where the routes say.
func (c *incoming) stream(s *live.Streams) {
	if !s.ByName {
		c.streamTo(s, nil)
		return
	}
	c.asked(func(name []byte) { c.streamTo(s, name) })
}

// streamTo is stream when it is known which name the client asked for.
func (c *incoming) streamTo(s *live.Streams, name []byte) {
	c.to(c.lane.pick(s, name))
}

// to sends the connection to a destination, or closes it when there is none.
func (c *incoming) to(key string) {
	if key == "" {
		c.refuse(noStream)
		return
	}
	c.lane.endpoints(c.about.direction, key, func(to *dial.Cluster) { c.opaque(to, nil, l4.Options{}) })
}

// pick chooses the destination of a connection for a server name; empty when
// there is none. Each call chooses anew.
func (n *lane) pick(s *live.Streams, name []byte) string {
	rule, _ := s.Match(&route.Request{Authority: name})
	if rule == nil {
		return ""
	}
	i := rule.Pick(n.loop.Rand.Uint64())
	if i < 0 {
		return ""
	}
	return rule.Backends[i].Destination
}

// maxHostname is the longest DNS name (RFC 1035, 2.3.4).
const maxHostname = 255

// appendLower appends a host name in lower case, without a final dot. It reports
// false for what is too long to be one.
func appendLower(dst, host []byte) ([]byte, bool) {
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) > maxHostname {
		return dst, false
	}
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst, true
}

func asciiLower(host string) []byte {
	b, _ := appendLower(nil, []byte(host))
	return b
}
