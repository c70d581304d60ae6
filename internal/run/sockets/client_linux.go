package sockets

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// answerTimeout bounds how long the helper may take for one answer.
const answerTimeout = 10 * time.Second

// ErrClosed is returned once the client is closed.
var ErrClosed = errors.New("sockets: closed")

// Client asks the helper for sockets. Its methods may be called from any
// goroutine; each blocks for one exchange (tens of microseconds), so a loop
// calls only Dialer.TryTake.
type Client struct {
	mu       sync.Mutex // one exchange at a time; guards fd, id and closed
	fd       int
	id       uint32
	closed   bool
	families uint8 // set once, by NewClient
	dialer   *Dialer
}

// NewClient takes over fd, the inherited end of the socket pair, and asks which
// families the namespace has.
func NewClient(fd int) (*Client, error) {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, false); err != nil {
		return nil, fmt.Errorf("sockets: descriptor %d: %w", fd, err)
	}
	timeout := unix.NsecToTimeval(answerTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, fmt.Errorf("sockets: descriptor %d is not the helper's socket: %w", fd, err)
	}
	c := &Client{fd: fd}
	_, families, err := c.exchange(request{kind: Families})
	if err != nil {
		return nil, err
	}
	c.families = families
	c.dialer = newDialer(c)
	return c, nil
}

// Has reports whether the namespace has the family.
func (c *Client) Has(f Family) bool {
	return f == IPv4 && c.families&bitIPv4 != 0 || f == IPv6 && c.families&bitIPv6 != 0
}

// Sockets returns n descriptors (1 to MaxBatch) of the kind, non-blocking and
// close-on-exec, owned by the caller. Capture and NamesTCP listen already;
// where they are bound is Kind.Address.
func (c *Client) Sockets(kind Kind, family Family, n int) ([]int, error) {
	fds, _, err := c.exchange(request{kind: kind, family: family, count: n})
	return fds, err
}

// Dialer returns the pool of sockets for dialling the program.
func (c *Client) Dialer() *Dialer { return c.dialer }

// Close gives the connection to the helper back and closes pooled sockets;
// sockets handed out stay with their owners.
func (c *Client) Close() error {
	c.dialer.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return unix.Close(c.fd)
}

func (c *Client) exchange(r request) (fds []int, families uint8, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, 0, ErrClosed
	}
	c.id++
	r.id = c.id
	if err := unix.Sendmsg(c.fd, r.append(nil), nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return nil, 0, fmt.Errorf("sockets: ask the helper for %s: %w", r.kind, err)
	}
	for {
		a, fds, err := receive(c.fd)
		if err != nil {
			return nil, 0, fmt.Errorf("sockets: the helper's answer about %s: %w", r.kind, err)
		}
		if a.id != r.id { // late: an exchange before this one timed out
			closeAll(fds)
			continue
		}
		if a.status != statusOK {
			closeAll(fds)
			return nil, 0, fmt.Errorf("sockets: the helper has no %s socket: %s", r.kind, a.text)
		}
		if len(fds) != a.count || r.kind != Families && a.count != r.count {
			closeAll(fds)
			return nil, 0, fmt.Errorf("sockets: asked for %d %s sockets, got %d", r.count, r.kind, len(fds))
		}
		return fds, a.families, nil
	}
}

func receive(fd int) (answer, []int, error) {
	var buf [answerSize + maxText + 1]byte
	oob := make([]byte, unix.CmsgSpace(4*MaxBatch))
	var n, oobn, flags int
	var err error
	for {
		n, oobn, flags, _, err = unix.Recvmsg(fd, buf[:], oob, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		if errors.Is(err, unix.EAGAIN) {
			return answer{}, nil, os.ErrDeadlineExceeded
		}
		return answer{}, nil, err
	}
	fds := rights(oob[:oobn])
	if n == 0 {
		closeAll(fds)
		return answer{}, nil, errors.New("the helper has ended")
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(fds)
		return answer{}, nil, errors.New("cut short (is the limit on open files reached?)")
	}
	a, err := parseAnswer(buf[:n])
	if err != nil {
		closeAll(fds)
		return answer{}, nil, err
	}
	return a, fds, nil
}

// rights returns every descriptor of a control message.
func rights(oob []byte) []int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
