package proxy

import (
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/egress"
	"tulle.dev/tulle/internal/proxy/guard"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/mtls"
	"tulle.dev/tulle/internal/proxy/overload"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/probe"
	"tulle.dev/tulle/internal/view"
)

// lane is one loop with all that lives on it. Only its loop touches it, but for
// clients.
type lane struct {
	proxy      *Proxy
	loop       *loop.Loop
	http       *l7http.Worker
	dialer     *dial.Dialer
	handshakes *mtls.Handshakes
	shard      *meter.Shard
	keeper     *guard.Keeper
	rechecking bool       // recheck will be called
	retiring   loop.Timer // until some client's certificate ends, retireDue
	retireDue  time.Duration
	ports      map[string]*port
	clusters   map[clusterKey]*dial.Cluster
	services   map[string]*service
	passed     map[passKey]*dial.Cluster
	resolved   map[string]resolution
	resolving  map[string][]func() // who waits for names that are asked for
	exits      map[exitKey]*exit
	outings    map[*outing]struct{}
	restrained *egress.Table          // what connections out of the mesh were last judged by
	incoming   map[*incoming]struct{} // those that no HTTP has taken over
	admissions map[*overload.Gate]*l7http.Admission
	greeting   greeting
	prober     *probe.Prober // of the first lane

	// clients counts the clients' connections that the loop serves, or is about to.
	// Other loops read it when they accept.
	clients atomic.Int64

	table   *live.Table // what the clusters follow
	caller  string      // "SERVICE-ACCOUNT.NAMESPACE" of the program beside the proxy
	touched time.Duration
}

type clusterKey struct {
	direction meter.Direction
	key       string
}

// touchEvery is how often what is in use is looked up again although nothing
// changed, so that live knows that it is in use.
const touchEvery = 10 * time.Second

func newLane(p *Proxy, poller poll.Poller, i int) *lane {
	n := &lane{
		proxy:    p,
		loop:     loop.New(poller, i, p.config.Seed),
		shard:    p.config.Meter.Shard(i),
		ports:    make(map[string]*port),
		clusters: make(map[clusterKey]*dial.Cluster),
		services: make(map[string]*service),
		passed:   make(map[passKey]*dial.Cluster),
		resolved: make(map[string]resolution),

		resolving: make(map[string][]func()),
		exits:     make(map[exitKey]*exit),
		outings:   make(map[*outing]struct{}),
		incoming:  make(map[*incoming]struct{}),
	}
	if i == 0 {
		n.prober = probe.New(n.loop, n.asked)
	}
	n.keeper = guard.NewKeeper(n.shard, p.refusals)
	n.keeper.Bundle = p.config.Live.Credentials().Bundle()
	n.retiring.Init(n.loop, (*retirer)(n))
	n.handshakes = mtls.New(n.loop, p.config.offLoop(), p.config.Steps)
	n.handshakes.Clients = func() int { return int(n.clients.Load()) }
	n.dialer = &dial.Dialer{
		Loop:        n.loop,
		Credentials: p.config.Live.Credentials(),
		Handshakes:  n.handshakes,
		Timeout:     DefaultConnectTimeout,
		Own:         p.own,
	}
	n.dialer.Connect = n.connector()
	n.dialer.Mistaken = func(service string, e *view.Endpoint, err error) {
		p.refusals.Handshake(n.loop.Now(), service, e.Address.String(), dial.OtherWorkload, err)
	}
	n.http = &l7http.Worker{
		Loop: n.loop, Dialer: n.dialer, Shard: n.shard, Via: via,
		Limits: limits(&view.Settings{}), Compute: p.config.compute(),
		Closed: n.ended, Slow: p.config.Slow, Book: p.bounds.book, Pen: p.records.Pen(i), Stock: &p.bounds.stock,
		Asked: func(destination string) l7http.Router { return n.asker(destination) },
	}
	return n
}

// connector connects to the program behind the proxy with a socket of its
// network namespace, and to everything else with one of ours.
func (n *lane) connector() func(netip.AddrPort) (poll.FD, error) {
	type socketConnector interface {
		ConnectSocket(poll.FD, netip.AddrPort) error
	}
	p, can := n.loop.Poller.(socketConnector)
	if n.proxy.config.Sockets == nil || !can {
		return nil
	}
	return func(to netip.AddrPort) (poll.FD, error) {
		if !n.proxy.isApp(to) {
			return n.loop.Connect(to)
		}
		fd, ok := n.proxy.config.Sockets.Dial(to.Addr().Is6())
		if !ok {
			return poll.None, poll.ErrAgain
		}
		if err := p.ConnectSocket(poll.FD(fd), to); err != nil {
			n.loop.Poller.Close(poll.FD(fd))
			return poll.None, err
		}
		return poll.FD(fd), nil
	}
}

// settings takes the proxy's settings over.
func (n *lane) settings(t *live.Table) {
	n.dialer.Timeout = or(t.Proxy.Settings.ConnectTimeout, DefaultConnectTimeout)
	n.http.Limits = limits(&t.Proxy.Settings)
	n.http.Multiplex = multiplex(&t.Proxy.Settings)
	n.http.Zone = t.Proxy.Zone
	n.http.Pen.Set(t.Proxy.AccessLog)
	n.trust(t)
	n.endExpired(t.Proxy.Settings.EndExpired)
	if t.Proxy.Egress != n.restrained {
		n.restrained = t.Proxy.Egress
		n.loop.Later(n.restrain)
	}
	if n.prober != nil && n.prober.Asks() {
		n.current() // no request may come that the endpoints are looked at for
	}
}

// current returns the live table. When it is another one than before, the
// clusters follow it.
func (n *lane) current() *live.Table {
	t := n.proxy.config.Live.Table()
	if now := n.loop.Now(); t != n.table || now-n.touched > touchEvery {
		if n.touched = now; n.table != t {
			n.table, n.caller = t, callerOf(t)
		}
		for k, c := range n.clusters {
			c.SetZone(zone(t))
			c.Update(t.Endpoints(k.key))
			c.Protocol = protocolOf(t, k)
		}
		for _, s := range n.services {
			s.follow(t)
		}
	}
	return t
}

// callerOf is who the program beside the proxy is to others.
func callerOf(t *live.Table) string {
	if t.Proxy == nil {
		return ""
	}
	id, err := identity.Parse(t.Proxy.Identity)
	if err != nil {
		return ""
	}
	return id.ServiceAccount + "." + id.Namespace
}

// cluster returns what the lane knows of a service port. The caller keeps it;
// this is a look-up by string.
func (n *lane) cluster(d meter.Direction, key string) *dial.Cluster {
	k := clusterKey{d, key}
	c := n.clusters[k]
	if c == nil {
		c = dial.NewCluster(key, d, n.shard)
		c.Budget = n.proxy.budgets.Of(d, key)
		if d != meter.Mirror { // what becomes of copies says nothing to requests, and takes no room of theirs
			shared := n.proxy.services.Service(key)
			shared.Gives(func() bool {
				return n.loop.Post(func() {
					c.GiveUp()
					shared.Gave(int64(n.loop.Now()))
				})
			})
			shared.Yields(func() { n.loop.Post(c.Yield) })
			c.Share(shared)
			c.Checked = func() { n.proxy.healthOf(k) }
		}
		c.SetZone(zone(n.current()))
		c.ServerName = n.serverName(key)
		c.Protocol = protocolOf(n.current(), k)
		c.Update(n.current().Endpoints(key))
		n.clusters[k] = c
	}
	return c
}

// zone is where the proxy runs, if it knows.
func zone(t *live.Table) string {
	if t.Proxy == nil {
		return ""
	}
	return t.Proxy.Zone
}

// protocolOf is what the programs behind a service port speak. A client from
// outside the mesh gets HTTP/1.1 where nothing is declared, whatever it speaks
// itself.
func protocolOf(t *live.Table, k clusterKey) view.Protocol {
	if d := t.Destination(k.key); d != nil && d.Protocol != view.Detect {
		return d.Protocol
	}
	if k.direction == meter.Edge {
		return view.HTTP
	}
	return view.Detect
}

// serverName is what a TLS connection to a service port asks for:
// PORT.SERVICE.NAMESPACE.svc.TRUST-DOMAIN.
func (n *lane) serverName(key string) string {
	name, port, ok := live.SplitKey(key)
	t := n.proxy.config.Live.Table()
	if !ok || t.Proxy == nil {
		return ""
	}
	return strconv.Itoa(int(port)) + "." + name + ".svc." + t.Proxy.TrustDomain
}

func destinationKey(service string, port uint16) string {
	return service + ":" + strconv.Itoa(int(port))
}
