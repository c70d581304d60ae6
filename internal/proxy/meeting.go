package proxy

import (
	"io"
	"time"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/sniff"
)

const (
	// clientSilence is how long a client may say nothing before the server is
	// dialled to hear whether it speaks first.
	clientSilence = 75 * time.Millisecond
	// peerSilence is the same where the client may be a proxy that is about to
	// begin TLS, and busy: its connection must not be taken for a plaintext one
	// because its first bytes are late.
	peerSilence = 300 * time.Millisecond
	// decideTimeout bounds the time from the first byte to the decision: a client
	// that has begun what may be a request must go on with it.
	decideTimeout = 10 * time.Second
)

// meeting finds out what is spoken on a connection where that isn't declared:
// whoever speaks first decides. The client's bytes are read until they tell. When
// it is silent the server is dialled, and if that speaks the connection is
// opaque, unless what it says is HTTP. As long as both are silent nothing is
// decided, however long it takes: a client may connect long before its request.
//
// Client bytes always win: once there is one, they alone decide.
type meeting struct {
	c       *incoming
	options meet
	silence loop.Timer
	limit   loop.Timer
	early   *l4.Early
	decided func(verdict)
	over    bool
}

// meet says what a meeting works with.
type meet struct {
	// server finds where the connection goes if it is opaque; nil when the
	// client must speak first, within decideTimeout.
	server func(then func(*dial.Cluster))
	// preface is what the server is sent before anything else.
	preface []byte
	// silence is how long the client may say nothing before the server is dialled.
	silence time.Duration
	// learnt says that the server is known to speak first: it is dialled at once.
	learnt bool
}

// verdict is what a meeting comes to.
type verdict struct {
	kind sniff.Kind
	how  sniff.How
	// early is the connection to the server, if there is one already; whoever
	// takes the verdict joins or drops it.
	early *l4.Early
	// ended says that the client ended its side without a byte.
	ended bool
}

// drop ends a connection to the server that isn't needed.
func (v *verdict) drop() {
	if v.early != nil {
		v.early.Drop()
		v.early = nil
	}
}

// meet finds out what the connection is and goes on with that. When it breaks
// before, it is closed, and decided is never called.
func (c *incoming) meet(o meet, decided func(verdict)) {
	m := &meeting{c: c, options: o, decided: decided}
	m.silence.Init(c.lane.loop, m)
	m.limit.Init(c.lane.loop, m)
	c.conn.SetHandler(m)
	m.Ready()
	switch {
	case m.over || m.limit.On():
	case o.server == nil:
		m.limit.Set(decideTimeout)
	case o.learnt:
		m.dial()
	default:
		m.silence.Set(o.silence)
	}
}

// Ready is called when the client may have sent something.
func (m *meeting) Ready() {
	if m.over {
		return
	}
	k, err := sniff.Look(&m.c.conn)
	switch {
	case err == io.EOF:
		m.decide(verdict{kind: sniff.Opaque, how: sniff.Client, ended: true})
	case err != nil:
		m.end(true)
	case k != sniff.More:
		m.decide(verdict{kind: k, how: sniff.Client})
	case m.begun():
		m.hurry()
	}
}

// begun reports whether the client has spoken.
func (m *meeting) begun() bool { return m.c.conn.In().Len() > 0 }

// hurry starts the time in which what was begun must decide.
func (m *meeting) hurry() {
	m.silence.Stop()
	if !m.limit.On() {
		m.limit.Set(decideTimeout)
	}
}

// dial connects to the server.
func (m *meeting) dial() {
	m.options.server(func(to *dial.Cluster) {
		if !m.over {
			m.early = l4.Begin(m.c.lane.dialer, to, m.c.conn.Peer().Addr(), m.options.preface, m.heard)
			m.heard()
		}
	})
}

// heard is called when there may be news of the server.
func (m *meeting) heard() {
	if m.over || m.begun() {
		return
	}
	if m.early.Failed() {
		// As when there is no proxy: nobody answers, nobody waits.
		m.decide(verdict{kind: sniff.Opaque, how: m.server()})
		return
	}
	b, err := m.early.Said()
	switch {
	case len(b) > 0:
		if k := sniff.DetectServer(b, err != nil); k != sniff.More {
			m.decide(verdict{kind: k, how: m.server()})
			return
		}
		m.hurry()
	case err != nil:
		m.end(err != io.EOF)
	}
}

// server is how the server's bytes decide.
func (m *meeting) server() sniff.How {
	if m.options.learnt {
		return sniff.Learnt
	}
	return sniff.Server
}

// Expire dials the server, or decides by what there is.
func (m *meeting) Expire(t *loop.Timer) {
	switch {
	case m.over:
	case t == &m.silence:
		m.dial()
	case m.begun() || m.early == nil:
		m.decide(verdict{kind: sniff.Detect(m.c.conn.In().Bytes(), true), how: sniff.Timeout})
	default:
		b, _ := m.early.Said()
		m.decide(verdict{kind: sniff.DetectServer(b, true), how: sniff.Timeout})
	}
}

func (m *meeting) decide(v verdict) {
	v.early = m.early
	m.stop()
	m.decided(v)
}

// end closes a connection that ended before anything was decided.
func (m *meeting) end(reset bool) {
	m.stop()
	if m.early != nil {
		m.early.Drop()
	}
	if reset {
		m.c.conn.Abort()
	} else {
		m.c.conn.Linger()
	}
	m.c.gone()
}

func (m *meeting) stop() {
	m.over = true
	m.silence.Stop()
	m.limit.Stop()
	m.c.conn.SetHandler(m.c)
}
