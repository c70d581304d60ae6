package dial

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/mtls"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/view"
)

var (
	// ErrTimeout says that an endpoint didn't answer in time.
	ErrTimeout = errors.New("connect: timed out")
	// ErrSelf says that the address is a listener of this proxy: going there
	// would never end.
	ErrSelf = errors.New("connect: the address is this proxy's own")
	// ErrLimit says that the policy allows no further connection, or no further
	// wait for one. It says nothing of the endpoint.
	ErrLimit = errors.New("connect: the limit of connections is reached")
)

// socketWait is how long an attempt waits for a socket from elsewhere before it
// asks again.
const socketWait = 2 * time.Millisecond

// TLSError says that an endpoint was reached but isn't who it should be.
type TLSError struct{ Err error }

func (e *TLSError) Error() string { return "TLS: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TLSError) Unwrap() error { return e.Err }

// Waiter waits for a connection.
type Waiter interface {
	// Connected is called once, never from within Dial. After an error the
	// connection is closed.
	Connected(error)
}

// Dialer makes connections on one loop.
type Dialer struct {
	Loop        *loop.Loop
	Credentials *identity.Credentials
	Handshakes  *mtls.Handshakes
	// Timeout bounds one attempt, TLS included, where the policy says nothing.
	Timeout time.Duration
	// Own reports whether an address is a listener of this proxy: in plaintext
	// that would go round in circles. With mutual TLS it is a program that calls
	// its own service, and ends at the program.
	Own func(netip.AddrPort) bool
	// Mistaken, when not nil, is told when another workload than before is met at
	// an endpoint's address, once for all loops.
	Mistaken func(service string, e *view.Endpoint, err error)
	// Connect opens a socket and begins to connect it; nil means the poller's
	// own. With poll.ErrAgain it is asked again a little later.
	Connect func(netip.AddrPort) (poll.FD, error)
}

// Dial connects c to an endpoint of the cluster, with mutual TLS and the
// application protocol alpn when the endpoint has an identity. The handler of c
// is h by the time w is told that it is connected.
func (d *Dialer) Dial(c *loop.Conn, cluster *Cluster, e *balance.Endpoint, alpn string, h loop.Handler, w Waiter) *Attempt {
	to := &e.Endpoint
	a := &Attempt{dialer: d, conn: c, cluster: cluster, endpoint: e, to: to, name: cluster.ServerName, alpn: alpn, handler: h, waiter: w}
	a.timer.Init(d.Loop, a)
	if d.Own != nil && to.Identity == "" && d.Own(to.Address) {
		d.Loop.Later(func() { a.end(ErrSelf) })
		return a
	}
	a.timeout = d.Timeout
	if t := cluster.Policy().Connect; t > 0 {
		a.timeout = t
	}
	a.until = d.Loop.Now() + a.timeout
	a.open()
	return a
}

// open gets a socket and lets it connect.
func (a *Attempt) open() {
	d, to := a.dialer, a.to.Address
	if a.permit == nil {
		if a.permit = a.cluster.permit(); a.permit == nil {
			a.full()
			return
		}
	}
	connect := d.Connect
	if connect == nil {
		connect = d.Loop.Connect
	}
	fd, err := connect(to)
	switch {
	case err == poll.ErrAgain && d.Loop.Now() < a.until:
		a.timer.Set(socketWait)
		return
	case err != nil:
		a.permit()
		d.Loop.Later(func() { a.end(fmt.Errorf("connect %s: %w", to, err)) })
		return
	}
	if h, ok := d.Loop.Poller.(hastener); ok && !a.cluster.Outside {
		h.Hasten(fd, to)
	}
	a.opened = true
	a.conn.InitConnecting(d.Loop, fd, to, a)
	a.conn.OnDone(a.permit)
	if a.to.Identity != "" || a.cluster.Foreign != nil {
		a.conn.AwaitLayer()
	}
	a.timer.Set(a.until - d.Loop.Now())
}

// full is called when the limit of connections is reached.
func (a *Attempt) full() {
	now := a.dialer.Loop.Now()
	if p, ok := a.waiter.(Patient); ok {
		a.queued = true
		a.line(p)
		return
	}
	if a.cluster.reclaim(now) && now < a.until {
		a.timer.Set(socketWait)
		return
	}
	a.dialer.Loop.Later(func() { a.end(ErrLimit) })
}

// hastener is a poller that can notice sooner that a peer's host is gone: of an
// endpoint's, requests should go elsewhere. Who is outside the mesh may be on a
// bad line.
type hastener interface {
	Hasten(fd poll.FD, peer netip.AddrPort)
}

// Attempt is a connection in the making. It is the connection's handler until
// it is made. It belongs to one loop.
type Attempt struct {
	dialer  *Dialer
	conn    *loop.Conn
	cluster *Cluster
	permit  func() // gives back what the policy allows; nil before it does
	to      *view.Endpoint
	name    string
	alpn    string
	handler loop.Handler
	waiter  Waiter
	timer   loop.Timer
	until   time.Duration
	opened  bool // there is a socket
	secure  *mtls.Handshake

	endpoint *balance.Endpoint
	timeout  time.Duration // of the connection, from when it may be made
	place    eject.Place
	queued   bool // in the line, or out of it and not yet told
	over     bool // it was given up, or another connection took its place
}

// Ready is called when the socket is connected or has failed.
func (a *Attempt) Ready() {
	switch {
	case a.conn.SendErr() != nil:
		a.end(fmt.Errorf("connect %s: %w", a.to.Address, a.conn.SendErr()))
	case a.conn.Connecting() || a.secure != nil:
	case a.to.Identity != "":
		a.startTLS()
	case a.cluster.Foreign != nil:
		a.startForeign(a.cluster.Foreign)
	default:
		a.end(nil)
	}
}

// securer is a Waiter that wants to know when a connection is there and its TLS
// begins.
type securer interface{ Securing() }

func (a *Attempt) startTLS() {
	if s, ok := a.waiter.(securer); ok {
		s.Securing()
	}
	id, err := identity.Parse(a.to.Identity)
	if err != nil {
		a.end(&TLSError{err})
		return
	}
	config := a.dialer.Credentials.WorkloadConfig(id, a.to.UniqueID, a.alpn)
	config.ServerName = a.name
	config.DynamicRecordSizingDisabled = true // the loop gathers what belongs together
	a.handshake(config, func(agreed string) error {
		if agreed != a.alpn {
			return fmt.Errorf("%w %s", errProtocol, a.alpn)
		}
		return nil
	}, nil)
}

// met notes who was met at the endpoint's address: it, or another workload, whom
// nothing was sent.
func (a *Attempt) met(err error) {
	if a.to.UniqueID == "" {
		return
	}
	other := Other(err)
	if err != nil && !other {
		return
	}
	if other {
		a.cluster.Fail(OtherWorkload)
	}
	if shared := a.endpoint.Shared(); shared != nil && shared.SetMistaken(other) && other && a.dialer.Mistaken != nil {
		a.dialer.Mistaken(a.cluster.Key, a.to, err)
	}
}

// handshake goes through TLS; check looks at the protocol that was agreed on, and
// failed, when not nil, says what it means that there is none.
func (a *Attempt) handshake(config *tls.Config, check func(agreed string) error, failed func(error) error) {
	a.secure = a.dialer.Handshakes.Client(a.conn, config, func(s *mtls.Session, err error) {
		if err == nil {
			err = check(s.State().NegotiatedProtocol)
		}
		a.met(err)
		if err != nil {
			if failed != nil {
				err = failed(err)
			}
			err = &TLSError{err}
		}
		a.end(err)
	})
}

// Expire gives the attempt up, or tries again to get a socket.
func (a *Attempt) Expire(*loop.Timer) {
	if a.queued {
		a.wait(a.waiter.(Patient))
		return
	}
	if !a.opened {
		a.open()
		return
	}
	a.end(ErrTimeout)
}

func (a *Attempt) end(err error) {
	a.timer.Stop()
	if a.secure != nil {
		a.secure.Cancel()
	}
	if err != nil {
		a.conn.Close()
	} else {
		a.conn.SetHandler(a.handler)
	}
	a.waiter.Connected(err)
}
