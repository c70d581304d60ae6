package handover

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// Server waits for a successor.
type Server struct {
	config  Config
	socket  *net.UnixListener
	running sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	leaving bool          // a successor has started: the talk with it is ended in good order
	conn    *net.UnixConn // the successor that is being talked to
}

// Config says what a proxy hands over, and what happens then.
type Config struct {
	// Offer collects what is handed over; the sockets are the server's to close.
	Offer func() (*Offer, error)
	// Leave is called once a successor has started: it returns when the control
	// plane and the admin listener are free for it. Nothing is served afterwards.
	Leave func()
	Log   *slog.Logger
}

// Listen serves a successor at path, which nobody but this user can open.
func Listen(path string, c Config) (*Server, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("hand-over socket: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("hand-over socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("hand-over socket: %w", err)
	}
	s := &Server{config: c, socket: l}
	s.running.Go(s.serve)
	return s, nil
}

// serve talks to one successor at a time: two can't have the sockets.
func (s *Server) serve() {
	for {
		conn, err := s.socket.AcceptUnix()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			conn.Close()
		} else {
			s.conn = conn
		}
		s.mu.Unlock()
		gone, err := s.talk(conn)
		s.mu.Lock()
		s.conn = nil
		s.mu.Unlock()
		conn.Close()
		if gone {
			return
		}
		if err != nil {
			s.config.Log.Warn("a successor came to nothing; going on", "error", err)
		}
	}
}

// talk reports whether the successor has taken over.
func (s *Server) talk(conn *net.UnixConn) (gone bool, err error) {
	conn.SetDeadline(time.Now().Add(answerTimeout))
	m, err := receive(conn)
	m.Offer.Close() // a successor has none to send
	if err != nil {
		return false, err
	}
	if m.Take == 0 {
		return false, errors.New("hand-over: it doesn't ask for anything")
	}
	offer, err := s.config.Offer()
	if err != nil {
		send(conn, &message{Error: clip(err.Error())})
		return false, err
	}
	err = sendOffer(conn, offer)
	offer.Close()
	if err != nil {
		return false, err
	}
	conn.SetDeadline(time.Now().Add(startTimeout))
	m, err = receive(conn)
	m.Offer.Close()
	if err != nil || !m.Started {
		// It must not think that nobody is here any more.
		conn.SetDeadline(time.Now().Add(answerTimeout))
		send(conn, &message{Error: "it has waited too long, and goes on"})
		return false, err
	}
	s.mu.Lock()
	s.leaving = !s.closed
	s.mu.Unlock()
	if !s.leaving {
		return false, net.ErrClosed
	}
	s.socket.Close() // and its name: the successor's comes there
	s.config.Leave()
	return true, send(conn, &message{Gone: true})
}

func sendOffer(conn *net.UnixConn, o *Offer) error {
	for part := range slices.Chunk(o.Sockets, perMessage) {
		if err := send(conn, &message{Offer: Offer{Sockets: part}}); err != nil {
			return err
		}
	}
	return send(conn, &message{Offer: Offer{UID: o.UID, Loops: o.Loops}, Last: true})
}

func clip(s string) string { return s[:min(len(s), maxError)] }

// Close stops waiting. When it returns, Leave has returned or won't be called.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	if s.conn != nil && !s.leaving {
		// Said, because silence means that this process has died.
		s.conn.SetWriteDeadline(time.Now().Add(time.Second))
		send(s.conn, &message{Error: "it is ending"})
		s.conn.Close()
	}
	s.mu.Unlock()
	s.socket.Close()
	s.running.Wait()
}
