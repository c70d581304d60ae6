package loop

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/proxy/poll"
)

// Source is what a socket's events go to.
type Source interface {
	// Ready is called with what changed about the socket.
	Ready(poll.Ready)
}

// Loop belongs to the goroutine that runs it. Post, Stop and Beat alone may be
// called from others.
type Loop struct {
	poll.Poller
	// Index is the loop's place among the proxy's loops, from 0.
	Index int
	// Rand is the loop's own randomness.
	Rand *rand.Rand

	now     time.Duration
	events  [poll.MaxEvents]poll.Event
	sources []Source // by descriptor
	closing []poll.FD
	dirty   []*Conn // have bytes to write once the handler has returned
	later   []func()
	yielded []*Conn // have read their share of this turn
	workers []Worker
	insists time.Duration // until when it doesn't give way to other programs
	turn    uint64
	revisit []*Conn // are to be looked at once more before the turn ends
	wheel   wheel
	small   freeList
	lent    int // buffers out
	large   freeList
	pipes   pipes
	trim    Timer

	beat   atomic.Uint64 // turns begun; odd bit below says "working"
	work   atomic.Bool
	open   int
	posted struct {
		any  atomic.Bool
		mu   sync.Mutex
		list []func()
		gone bool
	}
	spare   []func()
	visited []*Conn
	waiting []*Conn
	// gather write when the turn ends; see Gather.
	gather, gathered []Gatherer
	stop             bool
}

// New makes a loop around a poller. seed makes its randomness repeatable.
func New(p poll.Poller, index int, seed uint64) *Loop {
	l := &Loop{
		Poller: p,
		Index:  index,
		Rand:   rand.New(rand.NewPCG(seed, uint64(index))),
		now:    p.Now(),
		small:  freeList{size: SmallBuffer},
		large:  freeList{size: LargeBuffer},
	}
	l.wheel.init(l.now)
	l.trim.Init(l, trimmer{l})
	return l
}

// Now is when the current turn began: one reading of the clock serves a turn.
func (l *Loop) Now() time.Duration { return l.now }

// Open is the number of sockets on the loop, listeners included.
func (l *Loop) Open() int { return l.open }

// Register sends a socket's events to s.
func (l *Loop) Register(fd poll.FD, s Source) {
	for int(fd) >= len(l.sources) {
		l.sources = append(l.sources, nil)
		l.sources = l.sources[:cap(l.sources)]
	}
	if l.sources[fd] == nil {
		l.open++
	}
	l.sources[fd] = s
}

// Unregister stops a socket's events, for one that goes to another loop.
func (l *Loop) Unregister(fd poll.FD) {
	if l.sources[fd] != nil {
		l.sources[fd] = nil
		l.open--
	}
}

// Close stops a socket's events now and closes it when the turn is over, so
// that events still to be delivered can't meet another socket of its number.
func (l *Loop) Close(fd poll.FD) {
	l.Unregister(fd)
	l.closing = append(l.closing, fd)
}

// Post runs f on the loop, soon. It reports false when the loop has ended: f
// will not run.
func (l *Loop) Post(f func()) bool {
	l.posted.mu.Lock()
	if l.posted.gone {
		l.posted.mu.Unlock()
		return false
	}
	l.posted.list = append(l.posted.list, f)
	l.posted.mu.Unlock()
	l.posted.any.Store(true)
	l.Wake()
	return true
}

// Run turns the loop until Stop.
func (l *Loop) Run() {
	for !l.stop {
		l.Turn(poll.Forever)
	}
	l.posted.mu.Lock()
	l.posted.gone = true
	l.posted.list = nil
	l.posted.mu.Unlock()
}

// Stop makes Run return. Sockets still open are closed.
func (l *Loop) Stop() {
	l.Post(func() {
		l.stop = true
		for fd, s := range l.sources {
			if s != nil {
				l.Close(poll.FD(fd))
			}
		}
		for _, p := range l.pipes.all {
			l.closing = append(l.closing, p.R, p.W)
		}
		l.pipes = pipes{}
	})
}

// Turn waits for something to do, at most until that time, and does it.
func (l *Loop) Turn(until time.Duration) {
	until = min(until, l.wheel.next())
	if l.posted.any.Load() || len(l.yielded)+len(l.workers) > 0 {
		until = 0
	}
	l.work.Store(false)
	n := l.Wait(l.events[:], until)
	l.work.Store(true)
	l.turn++
	l.beat.Store(l.turn)
	l.now = l.Poller.Now()
	for _, e := range l.events[:n] {
		if s := l.source(e.FD); s != nil {
			s.Ready(e.Ready)
			l.flush()
		}
	}
	if len(l.yielded) > 0 {
		l.resume()
	}
	if l.posted.any.Load() {
		l.runPosted()
	}
	l.wheel.advance(l.now)
	l.settle()
	if len(l.workers) > 0 {
		l.labour()
		l.settle()
		l.giveWay()
	}
}

// settle does what was put off until everybody has had their turn.
func (l *Loop) settle() {
	l.flush()
	for len(l.revisit)+len(l.later)+len(l.gather) > 0 {
		l.visit()
		l.gatherAll()
	}
	for _, fd := range l.closing {
		l.Poller.Close(fd)
	}
	l.closing = l.closing[:0]
}

// source is nil for a socket that nobody has registered yet: whoever does looks
// at it first.
func (l *Loop) source(fd poll.FD) Source {
	if int(fd) < len(l.sources) {
		return l.sources[fd]
	}
	return nil
}

// Next is when the loop wants its next turn even if nothing happens.
func (l *Loop) Next() time.Duration {
	if l.posted.any.Load() || len(l.yielded)+len(l.workers) > 0 {
		return l.now
	}
	return l.wheel.next()
}

// Beat tells whether the loop is inside a turn, and which: a turn that lasts
// for seconds means that a handler hangs.
func (l *Loop) Beat() (turn uint64, working bool) { return l.beat.Load(), l.work.Load() }

func (l *Loop) runPosted() {
	l.posted.mu.Lock()
	list := l.posted.list
	l.posted.list = l.spare[:0]
	l.posted.any.Store(false)
	l.posted.mu.Unlock()
	for i, f := range list {
		list[i] = nil
		f()
	}
	l.spare = list[:0]
}

// resume goes on with the connections that had read their share of the last turn.
func (l *Loop) resume() {
	list := l.yielded
	l.yielded = l.waiting[:0]
	for i, c := range list {
		list[i] = nil
		c.yielded = false
		if c.Open() {
			c.handler.Ready()
			l.flush()
		}
	}
	l.waiting = list[:0]
}

// Later runs f on the loop before the turn ends, outside of the caller's own
// call. Only the loop's goroutine may use it; others Post.
func (l *Loop) Later(f func()) { l.later = append(l.later, f) }

// again has a connection's handler called once more in this turn.
func (l *Loop) again(c *Conn) { l.revisit = append(l.revisit, c) }

func (l *Loop) visit() {
	list := l.revisit
	l.revisit = l.visited[:0]
	for i, c := range list {
		list[i] = nil
		if c.Open() {
			c.handler.Ready()
			l.flush()
		}
	}
	l.visited = list[:0]
	for len(l.later) > 0 {
		f := l.later[0]
		l.later = l.later[1:]
		f()
		l.flush()
	}
	l.later = nil
}

// flush writes what the handlers left to be written.
func (l *Loop) flush() {
	for i := 0; i < len(l.dirty); i++ { // a flush may call a handler that dirties more
		c := l.dirty[i]
		l.dirty[i] = nil
		c.dirty = false
		c.flush()
	}
	l.dirty = l.dirty[:0]
}
