package sniff

import (
	"io"
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

// sniffer is the handler of a connection until it is known what it speaks.
type sniffer struct {
	conn  *loop.Conn
	timer loop.Timer
	done  func(Kind, error)
}

// Start reads the connection until it is decided what it speaks, and calls done
// with it; after the time limit that is Opaque: a client that says nothing
// waits for the server to speak first. done gets an error when the connection
// broke, or ended with no byte, before it was decided.
func Start(c *loop.Conn, limit time.Duration, done func(Kind, error)) {
	s := &sniffer{conn: c, done: done}
	s.timer.Init(c.Loop(), s)
	s.timer.Set(limit)
	c.SetHandler(s)
	s.Ready()
}

// Ready looks at what has come.
func (s *sniffer) Ready() {
	whole := s.conn.In().Len() >= Budget
	for {
		if b := s.conn.In().Bytes(); len(b) > 0 {
			if k := Detect(b, whole); k != More {
				s.end(k, nil)
				return
			}
		} else if whole {
			s.end(Opaque, io.EOF)
			return
		}
		switch _, err := s.conn.Fill(Budget); err {
		case nil:
		case poll.ErrAgain:
			return
		case io.EOF, loop.ErrFull:
			whole = true
		default:
			s.end(Opaque, err)
			return
		}
	}
}

// Expire decides that the client waits for the server.
func (s *sniffer) Expire(*loop.Timer) { s.end(Opaque, nil) }

func (s *sniffer) end(k Kind, err error) {
	s.timer.Stop()
	s.conn.SetHandler(ignore{})
	s.done(k, err)
}

// ignore is the handler of a connection that is being handed on.
type ignore struct{}

func (ignore) Ready() {}
