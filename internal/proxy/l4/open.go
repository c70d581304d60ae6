package l4

import (
	"errors"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/mtls"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/story"
)

// ALPN is the application protocol between two proxies: one opaque stream.
const ALPN = "tulle-tcp"

const (
	// maxSaid is how much of what a server says first is read before there is a
	// client to take it; the rest waits in its socket.
	maxSaid = loop.SmallBuffer
)

// Early is a connection to an endpoint that is begun before it is known whether
// it will be of use. In the end it is either joined with a client's connection
// or dropped. It belongs to its loop.
type Early struct {
	server   *loop.Conn
	dialer   *dial.Dialer
	cluster  *dial.Cluster
	endpoint *balance.Endpoint
	ticket   balance.Ticket
	began    time.Duration
	want     balance.Want
	refused  dial.Tried // those that couldn't be reached
	preface  []byte
	heard    func()
	reason   string // why there is no connection
	tries    int
	tried    []story.Try // the first of them; by the loop's clock

	connected, over bool
	expires         time.Time // the endpoint's certificate

	client  *loop.Conn // since Join
	options Options
	joined  Joined
}

// Open carries the client's connection to an endpoint of the cluster. When none
// can be reached the connection is reset. What the client sends meanwhile waits
// in its socket.
func Open(client *loop.Conn, d *dial.Dialer, cluster *dial.Cluster, o Options) *Early {
	p := Begin(d, cluster, client.Peer().Addr(), o.Preface, nil)
	p.Join(client, o)
	return p
}

// Begin dials an endpoint of the cluster, which is sent the preface, if there is
// one, before anything else. from is the client's address, which decides where
// endpoints are picked by a hash of that. heard, which may be nil, is called from
// the loop and not from within Begin whenever there may be news: what the server
// says, or that it can't be reached.
func Begin(d *dial.Dialer, cluster *dial.Cluster, from netip.Addr, preface []byte, heard func()) *Early {
	p := &Early{dialer: d, cluster: cluster, want: want(cluster, from), preface: preface, heard: heard}
	p.dial()
	return p
}

// Said returns what the server has said so far, up to a bound. The error is
// io.EOF when it has ended its side, or says that the connection broke; before
// there is a connection it has said nothing.
func (p *Early) Said() ([]byte, error) {
	if !p.connected || p.over {
		return nil, nil
	}
	for p.server.In().Len() < maxSaid {
		_, err := p.server.Fill(maxSaid)
		switch err {
		case nil:
			continue
		case poll.ErrAgain, loop.ErrFull:
			err = nil
		}
		return p.server.In().Bytes(), err
	}
	return p.server.In().Bytes(), nil
}

// Failed reports whether no endpoint could be reached.
func (p *Early) Failed() bool { return p.reason != "" }

// Join ties the client's connection to the server's for the rest of their lives,
// as soon as that is there. When it can't be the client's is reset.
func (p *Early) Join(client *loop.Conn, o Options) {
	p.client, p.options, p.heard = client, o, nil
	client.SetHandler(p)
	switch {
	case p.reason != "":
		p.fail()
	case p.connected:
		p.join()
	}
}

// Drop ends a connection that is of no use.
func (p *Early) Drop() {
	p.heard = nil
	if p.over {
		return
	}
	p.over = true
	if p.connected {
		p.endpoint.Cancel(p.ticket)
		p.server.Linger()
	}
}

// Ready is called for the server's connection, and for the client's while it
// waits for that.
func (p *Early) Ready() {
	if p.heard != nil {
		p.heard()
	}
}

func (p *Early) dial() {
	e := p.cluster.Pick(p.dialer.Loop, &p.refused, p.want)
	if e == nil {
		p.reason = "destination_unavailable"
		return
	}
	p.endpoint = e
	p.tries++
	p.ticket = e.Begin()
	p.began = p.dialer.Loop.Now()
	if p.tries <= story.MaxTries {
		p.tried = append(p.tried, story.Try{Address: e.Address, Workload: e.Workload, Began: p.began})
	}
	p.server = &loop.Conn{}
	p.dialer.Dial(p.server, p.cluster, e, ALPN, p, p)
}

// Connected is called when the endpoint is there, or can't be reached.
func (p *Early) Connected(err error) {
	p.noteTried(err)
	switch {
	case errors.Is(err, dial.ErrLimit):
		p.endpoint.Cancel(p.ticket)
		if p.over {
			return
		}
		p.reason = dial.Reason(err)
		if p.client != nil {
			p.fail()
			return
		}
	case err != nil:
		p.endpoint.End(int64(p.dialer.Loop.Now()), p.ticket, failed(err))
		p.refused.Add(p.endpoint)
		if p.over {
			return
		}
		if p.reason = dial.Reason(err); dial.Other(err) {
			p.reason = dial.OtherWorkload
		}
		if p.tries < dial.MaxTries && p.cluster.Untried(&p.refused) {
			p.reason = ""
			p.dial()
		}
		if p.reason != "" && p.client != nil {
			p.fail()
			return
		}
	case p.over:
		p.endpoint.Cancel(p.ticket)
		p.server.Linger()
		return
	default:
		p.connected = true
		p.noteExpiry()
		now := p.dialer.Loop.Now()
		p.endpoint.Reached(int64(now), &p.ticket, now-p.began)
		if len(p.preface) > 0 {
			p.server.Write(p.preface)
		}
		if p.client != nil {
			p.join()
			return
		}
	}
	p.Ready()
}

// noteTried notes how a try ended.
func (p *Early) noteTried(err error) {
	n := p.tries - 1
	if n >= len(p.tried) {
		return
	}
	try := &p.tried[n]
	try.Ended, try.Outcome = p.dialer.Loop.Now(), "connected"
	if err != nil {
		try.Outcome = dial.Reason(err)
	}
}

// Tried are the first tries to reach an endpoint, with times of the loop's clock,
// and how many there were in all.
func (p *Early) Tried() ([]story.Try, int) { return p.tried, p.tries }

// Cluster is where the endpoints are.
func (p *Early) Cluster() *dial.Cluster { return p.cluster }

// want is what a connection's client asks of its endpoint: where endpoints are
// picked by a hash, of its address, should that be among what is hashed.
func want(cluster *dial.Cluster, from netip.Addr) balance.Want {
	for _, part := range cluster.Policy().Balance.On {
		if part.Kind == policy.HashSource && from.IsValid() {
			return balance.Want{Hash: balance.HashAddr(from), Hashed: true}
		}
	}
	return balance.Want{}
}

// failed is what an attempt that came to nothing says of the endpoint.
func failed(err error) balance.Outcome {
	if errors.Is(err, dial.ErrTimeout) {
		return balance.Outcome{Verdict: balance.TimedOut}
	}
	return balance.Outcome{Verdict: balance.Failed}
}

func (p *Early) join() {
	o, e, ticket := p.options, p.endpoint, p.ticket
	p.over = true
	if o.Series == nil {
		o.Series = p.cluster.Series(e)
	}
	done := o.Done
	o.Done = func() {
		e.Cancel(ticket) // how long a stream lasts says nothing about the endpoint
		if done != nil {
			done()
		}
	}
	p.joined = Join(p.client, p.server, o)
}

// noteExpiry notes when the endpoint's certificate ends.
func (p *Early) noteExpiry() {
	if s, ok := p.server.Layer().(*mtls.Session); ok {
		if chain := s.State().PeerCertificates; len(chain) > 0 {
			p.expires = chain[0].NotAfter
		}
	}
}

// Expires is when the certificate ends that the endpoint has shown; the zero time is
// never, or not known yet.
func (p *Early) Expires() time.Time { return p.expires }

// Reset ends a connection that has a client, and that with it, with a reset.
func (p *Early) Reset() {
	switch {
	case p.joined.tunnel != nil:
		p.joined.Reset()
	case !p.over && p.client != nil: // Connected drops the server's connection
		p.over = true
		p.client.Abort()
		if p.options.Done != nil {
			p.options.Done()
		}
	}
}

func (p *Early) fail() {
	p.over = true
	if p.reason != dial.OtherWorkload { // that was counted when it was met
		p.cluster.Fail(p.reason)
	}
	if p.options.Failed != nil {
		p.options.Failed(p.reason)
	}
	p.client.Abort()
	if p.options.Done != nil {
		p.options.Done()
	}
}
