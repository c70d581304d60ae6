package proxy

import (
	"bytes"
	"io"

	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/wire/tlshello"
)

// hello reads the ClientHello of a connection to its end.
type hello struct {
	c       *incoming
	parse   tlshello.Hello
	limit   loop.Timer
	decided func(tlshello.Verdict)
	silent  bool // a client that says nothing is waited for no longer than this
}

// greet tells who begins TLS: whether another proxy begins mutual TLS with us, by
// offering one of our protocols, or a client from outside the mesh begins TLS with
// the program. When the connection breaks before, it is closed, and decided is
// never called. What makes no sense is for crypto/tls to answer.
func (c *incoming) greet(decided func(peer bool)) {
	h := &hello{c: c}
	h.begin(func(v tlshello.Verdict) {
		p := &h.parse
		if v == tlshello.Done {
			c.serverName = string(bytes.ToLower(p.ServerName()))
		}
		decided(v != tlshello.Done || p.Offers(l7http.MuxALPN) || p.Offers(l7http.ALPN) || p.Offers(l4.ALPN))
	})
}

// asked tells which server name the client asks for, in lower case. It is empty
// for one that says none, doesn't begin TLS or is silent for as long as a
// decision may take. When the connection breaks before, it is closed, and then is
// never called.
func (c *incoming) asked(then func(name []byte)) {
	h := &hello{c: c, silent: true}
	h.begin(func(v tlshello.Verdict) {
		if v == tlshello.Done {
			then(bytes.ToLower(h.parse.ServerName()))
			return
		}
		then(nil)
	})
}

func (h *hello) begin(decided func(tlshello.Verdict)) {
	c := h.c
	h.decided = decided
	h.limit.Init(c.lane.loop, h)
	h.limit.Set(decideTimeout)
	c.conn.SetHandler(h)
	h.Ready()
}

// Ready reads on.
func (h *hello) Ready() {
	for {
		if v := h.parse.Parse(h.c.conn.In().Bytes()); v != tlshello.More {
			h.decide(v)
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
func (h *hello) Expire(*loop.Timer) {
	if h.silent && h.c.conn.In().Len() == 0 {
		h.decide(tlshello.NotTLS)
		return
	}
	h.c.refuse("tls_handshake")
}

func (h *hello) decide(v tlshello.Verdict) {
	h.limit.Stop()
	h.c.conn.SetHandler(h.c)
	h.decided(v)
}
