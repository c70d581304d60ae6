package namespace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// channel carries messages over a Unix stream socket: a length (4 bytes,
// big-endian) and JSON. A descriptor rides on the length. One goroutine reads;
// writes may come from any.
type channel struct {
	conn *net.UnixConn
	mu   sync.Mutex // one message at a time
}

// newChannel returns both ends of a pair: this process's, and a file for the other.
func newChannel() (*channel, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	other := os.NewFile(uintptr(fds[1]), "namespace-helper")
	own, err := openChannel(os.NewFile(uintptr(fds[0]), "namespace"))
	if err != nil {
		other.Close()
		return nil, nil, err
	}
	return own, other, nil
}

// openChannel takes f over.
func openChannel(f *os.File) (*channel, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("channel to the helper: %w", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("channel to the helper: not a Unix socket")
	}
	return &channel{conn: unixConn}, nil
}

func (c *channel) send(m *message, descriptor *os.File) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	var oob []byte
	if descriptor != nil {
		oob = unix.UnixRights(int(descriptor.Fd()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	head := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	if _, _, err := c.conn.WriteMsgUnix(head, oob, nil); err != nil {
		return err
	}
	_, err = c.conn.Write(b)
	return err
}

// receive returns the next message and the descriptor that came with it, or nil.
func (c *channel) receive() (*message, *os.File, error) {
	head := make([]byte, 4)
	oob := make([]byte, unix.CmsgSpace(4))
	var descriptor *os.File
	for got := 0; got < len(head); {
		n, oobn, _, _, err := c.conn.ReadMsgUnix(head[got:], oob)
		if err != nil {
			return nil, nil, err
		}
		if n == 0 {
			return nil, nil, io.EOF
		}
		got += n
		if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil {
			for i := range messages {
				fds, err := unix.ParseUnixRights(&messages[i])
				if err != nil {
					continue
				}
				for _, fd := range fds {
					unix.CloseOnExec(fd)
					descriptor = os.NewFile(uintptr(fd), "passed")
				}
			}
		}
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		return nil, nil, fmt.Errorf("message of %d bytes, at most %d are allowed", size, maxMessage)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(c.conn, b); err != nil {
		return nil, nil, err
	}
	m, err := decode(b)
	return m, descriptor, err
}

func (c *channel) close() error { return c.conn.Close() }
