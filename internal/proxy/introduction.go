package proxy

import (
	"io"
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/proxyproto"
)

// introductionTimeout bounds the wait for a PROXY header: who sends one does so
// at once.
const introductionTimeout = 5 * time.Second

// introduction reads the PROXY header that a connection must begin with.
type introduction struct {
	c     *incoming
	timer loop.Timer
	then  func()
}

// introduced goes on when the connection's header has said whose it is: the
// peer is then who that names. A connection without one is refused.
func (c *incoming) introduced(then func()) {
	i := &introduction{c: c, then: then}
	i.timer.Init(c.lane.loop, i)
	i.timer.Set(introductionTimeout)
	c.conn.SetHandler(i)
	i.Ready()
}

// Ready reads on.
func (i *introduction) Ready() {
	for {
		in := i.c.conn.In()
		if h, n, err := proxyproto.Parse(in.Bytes()); err == nil {
			in.Consume(n)
			i.c.conn.Received -= uint64(n) // no bytes of the client's
			if h.Source.IsValid() {
				i.c.conn.SetPeer(h.Source)
			}
			i.timer.Stop()
			i.c.conn.SetHandler(i.c)
			i.then()
			return
		} else if err != proxyproto.ErrMore {
			i.refuse()
			return
		}
		switch _, err := i.c.conn.Fill(proxyproto.MaxHeader); err {
		case nil:
		case poll.ErrAgain:
			return
		case io.EOF:
			if i.c.conn.In().Len() == 0 { // somebody looks whether the port is open
				i.timer.Stop()
				i.c.close()
				return
			}
			i.refuse()
			return
		default:
			i.refuse()
			return
		}
	}
}

// Expire ends a connection that doesn't say whose it is.
func (i *introduction) Expire(*loop.Timer) { i.refuse() }

func (i *introduction) refuse() {
	i.timer.Stop()
	c := i.c
	c.lane.shard.Malformed(c.about.direction, "proxy_header")
	c.reason = "proxy_header"
	c.conn.Abort()
	c.gone()
}

// preface is the PROXY header that a program wants to read first, nil for none.
func (in *inbound) preface(c *incoming) []byte {
	h := &proxyproto.Header{Source: c.conn.Peer(), Destination: in.listener.Address}
	switch in.listener.SendProxy {
	case view.ProxyV1:
		return proxyproto.AppendV1(nil, h)
	case view.ProxyV2:
		return proxyproto.AppendV2(nil, h)
	}
	return nil
}
