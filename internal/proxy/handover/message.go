package handover

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/wire/pb"
)

// Kind is what a socket is for.
type Kind uint8

const (
	// Accept is a loop's socket of a listener.
	Accept Kind = iota
	// NamesUDP and NamesTCP take the program's DNS queries.
	NamesUDP
	NamesTCP
)

// Socket is a listening socket.
type Socket struct {
	Kind Kind
	// Listener is the listener's name, Loop the loop that accepts there.
	Listener string
	Loop     uint16
	// At is the address that a names listener was told.
	At netip.AddrPort
	// FD belongs to whoever has the Socket.
	FD int
}

// Offer is what a proxy hands over.
type Offer struct {
	// UID is the process to the control plane: its successor goes on with it.
	UID     string
	Loops   uint16
	Sockets []Socket
}

// Close closes the sockets that nobody took.
func (o *Offer) Close() {
	for i := range o.Sockets {
		if s := &o.Sockets[i]; s.FD >= 0 {
			unix.Close(s.FD)
			s.FD = -1
		}
	}
}

// message is what the two say.
type message struct {
	// Take and Started are the successor's; Take is the newest protocol it knows.
	Take    uint16
	Started bool
	// The rest is the predecessor's. Last says that all sockets have been sent.
	Offer Offer
	Last  bool
	Gone  bool
	Error string
}

const (
	version = 1
	// perMessage bounds the sockets of one message: the kernel takes at most 253
	// descriptors (SCM_MAX_FD).
	perMessage = 64
	// maxSockets bounds an offer.
	maxSockets = 1 << 16
	maxName    = 512
	maxError   = 1024
	// maxPacket bounds a message's bytes.
	maxPacket = 64 << 10
)

func fields(m *pb.Message, v *message) {
	pb.Number(m, 1, "take", math.MaxUint16, &v.Take)
	pb.Bool(m, 2, "started", &v.Started)
	pb.String(m, 3, "uid", maxName, &v.Offer.UID)
	pb.Number(m, 4, "loops", math.MaxUint16, &v.Offer.Loops)
	pb.Messages(m, 5, "sockets", perMessage, &v.Offer.Sockets, func(m *pb.Message, s *Socket) {
		pb.Enum(m, 1, "kind", NamesTCP, &s.Kind)
		pb.String(m, 2, "listener", maxName, &s.Listener)
		pb.Number(m, 3, "loop", math.MaxUint16, &s.Loop)
		pb.AddrPort(m, 4, "at", &s.At)
	})
	pb.Bool(m, 6, "last", &v.Last)
	pb.Bool(m, 7, "gone", &v.Gone)
	pb.String(m, 8, "error", maxError, &v.Error)
}

// send writes a message and the descriptors of its sockets.
func send(c *net.UnixConn, m *message) error {
	var rights []byte
	if n := len(m.Offer.Sockets); n > 0 {
		fds := make([]int, n)
		for i, s := range m.Offer.Sockets {
			fds[i] = s.FD
		}
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(pb.Append(nil, m, fields), rights, nil); err != nil {
		return fmt.Errorf("hand-over: %w", err)
	}
	return nil
}

// receive reads one. The descriptors belong to the caller, whatever it returns.
func receive(c *net.UnixConn) (*message, error) {
	b := make([]byte, maxPacket)
	rights := make([]byte, unix.CmsgSpace(4*perMessage))
	n, nr, flags, _, err := c.ReadMsgUnix(b, rights)
	if err != nil {
		return &message{}, fmt.Errorf("hand-over: %w", err)
	}
	fds, err := descriptors(rights[:nr])
	if err != nil {
		return &message{}, err
	}
	m, err := pb.Decode(b[:n], fields)
	switch {
	case err != nil:
		err = fmt.Errorf("hand-over: %w", err)
	case n == 0:
		err = errors.New("hand-over: the other proxy has gone away")
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("hand-over: a message that is too long")
	case len(fds) != len(m.Offer.Sockets):
		err = fmt.Errorf("hand-over: %d descriptors for %d sockets", len(fds), len(m.Offer.Sockets))
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return &message{}, err
	}
	for i, fd := range fds {
		m.Offer.Sockets[i].FD = fd
	}
	return m, nil
}

func descriptors(rights []byte) ([]int, error) {
	list, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, os.NewSyscallError("parse control message", err)
	}
	var fds []int
	for _, c := range list {
		got, err := unix.ParseUnixRights(&c)
		if err != nil {
			continue // no descriptors
		}
		fds = append(fds, got...)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}
