package poll

import (
	"errors"
	"math"
	"net/netip"
	"time"
)

// FD is a socket of one poller. Small integers are reused, as descriptors are.
type FD int32

// None is no socket.
const None FD = -1

// Ready says what changed about a socket.
type Ready uint8

const (
	// Readable: bytes, a connection to accept, or the end of the stream.
	Readable Ready = 1 << iota
	// Writable: there is room again, or a connection attempt has ended.
	Writable
	// Hangup: the peer has ended its side or the connection broke. A read must
	// go on to the end even when it comes back short.
	Hangup
)

// Event is one socket's change.
type Event struct {
	FD    FD
	Ready Ready
}

// MaxEvents is how many events one Wait may return: the room its caller gives.
const MaxEvents = 256

// Forever is a deadline that never comes.
const Forever = time.Duration(math.MaxInt64)

var (
	// ErrAgain means: nothing now, an event will tell.
	ErrAgain = errors.New("poll: would block")
	// ErrUnsupported is returned by Splice where there is no such thing.
	ErrUnsupported = errors.New("poll: not supported")
)

// Poller is what a loop needs from the world. Times are since an arbitrary
// start and never go back.
//
// A socket that Accept or Connect returned is watched already; Add watches one
// made elsewhere. Nothing blocks except Wait.
type Poller interface {
	// Now is the monotonic time; Wall the calendar's, for dates and logs.
	Now() time.Duration
	Wall() time.Time
	// Wait fills events, which has room for MaxEvents, and returns how many
	// there are. It returns 0
	// when the time until has come, Wake was called, or for no reason at all.
	Wait(events []Event, until time.Duration) int
	// Wake makes a Wait in progress, or the next one, return.
	Wake()

	// Listen opens a listening socket and watches it. Port 0 picks a free one.
	// The loops of a proxy share an address: the first one's call fails when
	// anybody has it, those that follow (shared) take part in it.
	Listen(addr netip.AddrPort, shared bool) (FD, netip.AddrPort, error)
	// Add watches a non-blocking socket made elsewhere.
	Add(fd FD) error
	// Accept returns the next connection and its peer.
	Accept(listener FD) (FD, netip.AddrPort, error)
	// Original is the address a connection was sent to before it was
	// redirected, or its local address when it wasn't.
	Original(fd FD) (netip.AddrPort, error)
	// Connect begins a connection: it is writable once established, or
	// broken as ConnectError says.
	Connect(addr netip.AddrPort) (FD, error)
	ConnectError(fd FD) error

	// Read returns io.EOF at the end of the stream. Write may take less than
	// all of p; both return ErrAgain rather than 0.
	Read(fd FD, p []byte) (int, error)
	Write(fd FD, p []byte) (int, error)
	// Writev writes a, then b, in one call.
	Writev(fd FD, a, b []byte) (int, error)
	// Shutdown ends the writing side.
	Shutdown(fd FD) error
	// Reset makes Close answer the peer with RST, which tells it that what it
	// received is not the whole.
	Reset(fd FD)
	// Close ends the socket; it is not watched any more.
	Close(fd FD)

	// Pipe is a kernel buffer of about that many bytes, or of fewer, that Splice
	// moves bytes through, between a socket and the pipe, without copying them.
	// Both may be ErrUnsupported. Splice into a socket takes less than there is
	// only when the socket is full; into a pipe, also when that is.
	Pipe(size int) (Pipe, error)
	Splice(from, to FD, max int) (int, error)

	// Shut closes the poller itself; its sockets must be closed before.
	Shut()
}

// Pipe is a kernel buffer for Splice.
type Pipe struct {
	R, W FD
}
