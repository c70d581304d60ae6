package mtls

import (
	"crypto/tls"
	"io"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

const (
	// maxRecord is what fits into one TLS record.
	maxRecord = 16 << 10
	// maxSealed is how much may be encrypted and not written yet. One more
	// record and what crypto/tls answers on its own still fit into the buffer.
	maxSealed = 32 << 10
)

// Session is TLS on a connection of a loop: its layer.
type Session struct {
	tls  *tls.Conn
	wire *wire
}

var _ loop.Layer = (*Session)(nil)

// State says what was negotiated and who the peer is.
func (s *Session) State() tls.ConnectionState { return s.tls.ConnectionState() }

// Read decrypts into p.
func (s *Session) Read(c *loop.Conn, p []byte) (int, error) {
	s.wire.conn = c
	n, err := s.tls.Read(p)
	switch {
	case n > 0:
		return n, nil // an error will come again
	case err == nil:
		return 0, poll.ErrAgain // a record without data
	case err == again:
		return 0, poll.ErrAgain
	case err == io.EOF && s.wire.ended:
		// The stream was cut: only close_notify ends it (RFC 8446, 6.1).
		return 0, io.ErrUnexpectedEOF
	}
	return 0, err
}

// Write encrypts some of p into as few records as possible and writes them.
func (s *Session) Write(c *loop.Conn, p []byte) (int, error) {
	if s.wire.pending() >= maxSealed {
		if err := s.wire.flush(c); err != nil {
			return 0, err
		}
	}
	n, err := s.tls.Write(p[:min(len(p), maxRecord)])
	if err != nil {
		return n, err
	}
	if n < len(p) && s.wire.pending() < maxSealed {
		return n, nil // one call for several records
	}
	if err := s.wire.flush(c); err != nil && err != poll.ErrAgain {
		return n, err
	}
	return n, nil
}

// Flush writes what is encrypted.
func (s *Session) Flush(c *loop.Conn) error { return s.wire.flush(c) }

// CloseWrite sends close_notify.
func (s *Session) CloseWrite(c *loop.Conn) error {
	if err := s.tls.CloseWrite(); err != nil {
		return err
	}
	return s.wire.flush(c)
}

// Release gives the buffer back that a connection which is closed still holds.
func (s *Session) Release() { s.wire.rest() }
