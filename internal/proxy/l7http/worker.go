package l7http

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/proxy/limit"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/record"
	"tulle.dev/tulle/internal/proxy/spare"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/h1"
)

// Limits bound what one connection may cost. All must be set.
type Limits struct {
	Head h1.Limits
	// HeadTimeout bounds a request's head from its first byte; IdleTimeout a
	// client's connection between requests; PoolIdle an upstream connection
	// between requests; StreamIdle an exchange in which no byte moves.
	HeadTimeout, IdleTimeout, PoolIdle, StreamIdle time.Duration
	// MinBodyRate is how many bytes a second a client at an edge has to send of
	// its request's body, and to take of its answer over HTTP/1.1; 0 is any.
	MinBodyRate int
}

// Worker is what the HTTP connections of one loop share.
type Worker struct {
	Loop   *loop.Loop
	Dialer *dial.Dialer
	Shard  *meter.Shard
	Limits Limits
	// Via is our name in Via fields.
	Via string
	// Stories are the requests that went badly. Slow is how long a wait for an
	// answer always is; 0 takes story.DefaultSlow.
	Stories story.Book
	Slow    time.Duration
	// Pen takes the records of requests that have ended; nil takes none.
	Pen *record.Pen
	// Zone is where the proxy is; empty when unknown.
	Zone string
	// Closed is called when a client's connection has ended.
	Closed func()
	// Draining makes every answer the last one of its connection.
	Draining bool
	// EndExpired cuts off what is under way on a connection when its peer's
	// certificate has ended (ExpiredGrace).
	EndExpired bool
	// Multiplex carries exchanges with other proxies over HTTP/2, whatever the
	// client speaks.
	Multiplex bool
	// Compute runs what may take milliseconds off the loop; nil means goroutines.
	Compute func(f func())
	// Book holds the buckets of rate limits; nil has none.
	Book *limit.Book
	// Stock bounds what HTTP/2 connections hold for peers that don't take it, those
	// of all workers; nil bounds each connection alone.
	Stock *h2.Stock
	// Asked leads to a port that is asked about requests' number; nil asks nobody.
	Asked func(destination string) Router

	conns     map[*serverConn]struct{}
	servers   map[*h2Server]struct{}
	streams   spare.List[stream]
	h2streams spare.List[h2Stream]
	h2calls   spare.List[h2Call]
	held      int // bytes of kept bodies, beyond the ordinary
	date      date
	env       h2.Env
	relieving bool // relieve will be called
	trimmer   trimmer
	configs   *h2Configs
	scratch   []byte
	lookup    Lookup         // of the policies' own
	headers   []route.Header // of CORS
	limitSets map[limitsKey]*limit.Set

	limitRouters map[*limit.Service]Router

	passages  map[*passage]struct{} // requests that became tunnels
	recheck   recheck
	mirrors   int // copies of requests under way
	making    making
	asks      int // of other programs, about requests
	verifying verifying
}

// http2 returns the settings of HTTP/2 connections.
func (w *Worker) http2() *h2Configs {
	if w.configs == nil || w.configs.limits != w.Limits {
		w.configs = newH2Configs(&w.Limits)
	}
	return w.configs
}

// date is the Date field's value of the current second.
type date struct {
	until time.Duration
	value []byte
}

// How many free exchanges of each kind are kept for good, and how many while they
// may be of use.
const keptStreams, maxStreams = 64, 1024

func (w *Worker) getStream() *stream {
	if st := w.streams.Get(); st != nil {
		return st
	}
	st := &stream{}
	st.x.Request.Reset()
	return st
}

func (w *Worker) putStream(st *stream) {
	w.giveBody(st)
	st.relay.Drop(w.Loop)
	st.reset()
	w.streams.Put(st, maxStreams)
	w.trimLater()
}

// now as HTTP writes it (RFC 9110, 5.6.7).
func (w *Worker) dateNow() []byte {
	if now := w.Loop.Now(); now >= w.date.until {
		wall := w.Loop.Wall()
		w.date.value = h1.AppendDate(w.date.value[:0], wall.Unix())
		w.date.until = now + time.Second - time.Duration(wall.Nanosecond())
	}
	return w.date.value
}

// Open is the number of client connections.
func (w *Worker) Open() int { return len(w.conns) + len(w.servers) }

// Drain makes answers from now on say that they are the last. A connection that
// is idle isn't closed at once, for its client may be sending just now; but it
// is when it stays idle for as long as proxies keep connections in their pools.
func (w *Worker) Drain() {
	w.Draining = true
	inOrder := slices.SortedFunc(maps.Keys(w.conns), func(a, b *serverConn) int {
		return int(a.conn.FD() - b.conn.FD()) // one that repeats
	})
	for _, s := range inOrder {
		if s.stream == nil {
			s.timer.Set(w.idle())
		}
	}
	servers := slices.SortedFunc(maps.Keys(w.servers), func(a, b *h2Server) int {
		return int(a.conn.FD() - b.conn.FD())
	})
	for _, s := range servers {
		s.now().Drain()
		s.schedule()
	}
}

// idle is how long a client's connection may be without a request.
func (w *Worker) idle() time.Duration {
	if w.Draining {
		return min(w.Limits.IdleTimeout, w.Limits.PoolIdle)
	}
	return w.Limits.IdleTimeout
}

// Connection describes a client's connection, for people.
type Connection struct {
	Peer     string `json:"peer"`
	State    string `json:"state"`
	Service  string `json:"service,omitempty"`
	Received uint64 `json:"received_bytes"`
	Sent     uint64 `json:"sent_bytes"`
	// Protocol is "http1" or "http2", Streams how many requests are under way.
	Protocol string `json:"protocol"`
	Streams  int    `json:"streams"`
	About
}

// About is what a Router knows of the connection it routes for, if it has a
// Describe method: the peer's identity, and how it was decided that it is HTTP.
type About struct {
	Direction string `json:"direction,omitempty"`
	Service   string `json:"-"`
	Identity  string `json:"identity,omitempty"`
	Decided   string `json:"decided,omitempty"`
	Listener  string `json:"listener,omitempty"`
}

func (c *Connection) describe(r Router) {
	if d, ok := r.(interface{ Describe() About }); ok {
		c.About = d.Describe()
		c.Service = c.About.Service
	}
}

// List appends the client connections, up to max in all.
func (w *Worker) List(list []Connection, max int) []Connection {
	for s := range w.conns {
		if len(list) >= max {
			break
		}
		c := Connection{Peer: s.conn.Peer().String(), State: "idle", Received: s.conn.Received, Sent: s.conn.Sent, Protocol: "http1"}
		c.describe(s.router)
		if st := s.stream; st != nil {
			c.Streams = 1
			c.State = "reading a request"
			if st.begun {
				c.State = "in an exchange"
			}
			if st.x.Cluster != nil {
				c.Service = st.x.Cluster.Key
			}
		}
		list = append(list, c)
	}
	for s := range w.servers {
		if len(list) >= max {
			break
		}
		c := Connection{Peer: s.conn.Peer().String(), State: "idle", Received: s.conn.Received, Sent: s.conn.Sent, Protocol: "http2", Streams: s.engine.Streams()}
		c.describe(s.router)
		if c.Streams > 0 {
			c.State = "in exchanges"
		}
		list = append(list, c)
	}
	return list
}

func itoa(n int) string { return strconv.Itoa(n) }
