package proxy

import (
	"io"

	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/wire/tlshello"
)

// hello reads the ClientHello of a connection to the program to its end: it says
// whether another proxy begins mutual TLS with us, by offering one of our
// protocols, or a client from outside the mesh begins TLS with the program.
type hello struct {
	c       *incoming
	parse   tlshello.Hello
	limit   loop.Timer
	decided func(peer bool)
}

// greet tells who begins TLS. When the connection breaks before, it is closed,
// and decided is never called. What makes no sense is for crypto/tls to answer.
func (c *incoming) greet(decided func(peer bool)) {
	h := &hello{c: c, decided: decided}
	h.limit.Init(c.lane.loop, h)
	h.limit.Set(decideTimeout)
	c.conn.SetHandler(h)
	h.Ready()
}

// Ready reads on.
func (h *hello) Ready() {
	for {
		switch h.parse.Parse(h.c.conn.In().Bytes()) {
		case tlshello.More:
		case tlshello.Done:
			h.decide(h.parse.Offers(l7http.MuxALPN) || h.parse.Offers(l7http.ALPN) || h.parse.Offers(l4.ALPN))
			return
		default:
			h.decide(true)
			return
		}
		switch _, err := h.c.conn.Fill(tlshello.MaxBytes); err {
		case nil:
		case poll.ErrAgain:
			return
		case io.EOF:
			h.limit.Stop()
			h.c.conn.Linger()
			h.c.gone()
			return
		default:
			h.limit.Stop()
			h.c.conn.Abort()
			h.c.gone()
			return
		}
	}
}

// Expire ends a connection whose ClientHello takes too long.
func (h *hello) Expire(*loop.Timer) { h.c.refuse("tls_handshake") }

func (h *hello) decide(peer bool) {
	h.limit.Stop()
	h.c.conn.SetHandler(h.c)
	h.decided(peer)
}
