package mtls

import (
	"encoding/binary"
	"io"
	"net"
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

// wire is the net.Conn under a tls.Conn. During the handshake it hands out the
// bytes that the loop has read and yields when there are none; afterwards it
// reads from the socket and says so when there is nothing. What is written only
// gathers in it: a write error would be final for a tls.Conn, so there is none,
// and who writes looks at the room first.
type wire struct {
	loop  *loop.Loop
	conn  *loop.Conn // what Read reads from, after the handshake
	yield func(struct{}) bool

	// A handshake on the loop is divided: begun is when the part that computes
	// began, and record how much of a TLS record Read may still give out.
	divided  bool
	begun    time.Duration
	record   int
	paused   bool // it goes on when others had their turn
	canceled bool

	in    []byte // read by the handshake and not yet asked for
	ended bool   // the peer has closed
	out   []byte // to be written: out[gone:]
	gone  int
	lent  bool // out is the loop's memory
}

// errAgain makes tls.Conn.Read return and keep what it has of a record.
type errAgain struct{}

func (errAgain) Error() string   { return "nothing to read now" }
func (errAgain) Timeout() bool   { return true }
func (errAgain) Temporary() bool { return true }

var again net.Error = errAgain{}

// Read gives out raw bytes.
func (w *wire) Read(p []byte) (int, error) {
	for !w.canceled {
		if n := w.portion(); n > 0 {
			n = copy(p, w.in[:n])
			w.record -= min(n, w.record)
			w.in = w.in[n:]
			if len(w.in) == 0 {
				w.in = nil
			}
			return n, nil
		}
		if w.ended {
			if w.yield != nil {
				return 0, errEnded
			}
			return 0, io.EOF
		}
		if w.yield == nil {
			break
		}
		w.canceled = !w.yield(struct{}{})
	}
	if w.canceled {
		return 0, errCanceled
	}
	n, err := w.conn.RawRead(p)
	switch err {
	case poll.ErrAgain:
		return 0, again
	case io.EOF:
		w.ended = true
	}
	return n, err
}

// recordHeader is the size of what begins a TLS record (RFC 8446, 5.1).
const recordHeader = 5

// portion is how much of in Read may give out: all, or where the handshake is divided
// no more than one record, so that what crypto/tls makes of one isn't in the same part
// as what it makes of the next.
func (w *wire) portion() int {
	if !w.divided || w.yield == nil || w.ended {
		return len(w.in)
	}
	if w.record == 0 && len(w.in) >= recordHeader {
		w.Pause()
		w.record = recordHeader + int(binary.BigEndian.Uint16(w.in[3:]))
	}
	return min(w.record, len(w.in))
}

// Pause interrupts a handshake that is divided when it has computed for long enough,
// until all others had their turn. It must be called by the handshake's own
// computation: by callbacks of its tls.Config, before what takes long.
func (w *wire) Pause() {
	if !w.divided || w.yield == nil || w.canceled || w.loop.Poller.Now()-w.begun < part {
		return
	}
	w.paused = true
	w.canceled = !w.yield(struct{}{})
	w.paused = false
}

// Write takes all of p.
func (w *wire) Write(p []byte) (int, error) {
	if w.out == nil && w.yield == nil {
		w.out, w.lent = w.loop.Lend(loop.LargeBuffer)[:0], true
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// pending is how many bytes are to be written.
func (w *wire) pending() int { return len(w.out) - w.gone }

// flush writes what the socket takes.
func (w *wire) flush(c *loop.Conn) error {
	for w.pending() > 0 {
		n, err := c.RawWrite(w.out[w.gone:])
		w.gone += n
		if err != nil {
			return err
		}
	}
	w.rest()
	return nil
}

// rest gives the empty buffer back.
func (w *wire) rest() {
	if w.out == nil {
		return
	}
	if w.lent {
		w.loop.Return(w.out)
	}
	w.out, w.gone, w.lent = nil, 0, false
}

// Close does nothing: the socket is its connection's to close.
func (w *wire) Close() error                     { return nil }
func (w *wire) LocalAddr() net.Addr              { return nil }
func (w *wire) RemoteAddr() net.Addr             { return nil }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
