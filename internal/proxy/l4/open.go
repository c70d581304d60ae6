package l4

import (
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/loop"
)

// ALPN is the application protocol between two proxies: one opaque stream.
const ALPN = "tulle-tcp"

// maxTries bounds the endpoints a connection is offered to.
const maxTries = 3

// opening is a client's connection whose other end is being dialled. What the
// client sends meanwhile waits in its socket.
type opening struct {
	client   *loop.Conn
	server   *loop.Conn
	dialer   *dial.Dialer
	cluster  *dial.Cluster
	endpoint *balance.Endpoint
	failed   *balance.Endpoint
	options  Options
	tries    int
}

// Open carries the client's connection to an endpoint of the cluster. When none
// can be reached the connection is reset.
func Open(client *loop.Conn, d *dial.Dialer, cluster *dial.Cluster, o Options) {
	p := &opening{client: client, dialer: d, cluster: cluster, options: o}
	client.SetHandler(p)
	p.dial()
}

// Ready waits.
func (p *opening) Ready() {}

func (p *opening) dial() {
	e := p.cluster.Pick(p.dialer.Loop, p.failed)
	if e == nil {
		p.fail("destination_unavailable")
		return
	}
	p.endpoint = e
	p.tries++
	e.Begin()
	p.server = &loop.Conn{}
	p.dialer.Dial(p.server, p.cluster, e, ALPN, p, p)
}

// Connected is called when the endpoint is there, or can't be reached.
func (p *opening) Connected(err error) {
	now := int64(p.dialer.Loop.Now())
	if err != nil {
		p.endpoint.End(now, 0, true)
		p.failed = p.endpoint
		if p.tries < maxTries && p.cluster.Len() > 1 {
			p.dial()
			return
		}
		p.fail(dial.Reason(err))
		return
	}
	o, e := p.options, p.endpoint
	if o.Series == nil {
		o.Series = p.cluster.Series(e)
	}
	done := o.Done
	o.Done = func() {
		e.Cancel() // how long a stream lasts says nothing about the endpoint
		if done != nil {
			done()
		}
	}
	Join(p.client, p.server, o)
}

func (p *opening) fail(reason string) {
	p.cluster.Fail(reason)
	p.client.Abort()
	if p.options.Done != nil {
		p.options.Done()
	}
}
