package handover

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

const (
	// answerTimeout bounds each wait of the successor for the predecessor.
	answerTimeout = 20 * time.Second
	// startTimeout bounds how long a predecessor waits for its successor to be
	// ready.
	startTimeout = time.Minute
)

// Taken is what a successor got. Its methods are for one goroutine.
type Taken struct {
	Offer
	path string
	conn *net.UnixConn
}

// Take asks the proxy that serves path for its sockets.
func Take(path string) (*Taken, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("no proxy hands over at %s: %w", path, err)
	}
	t := &Taken{path: path, conn: conn}
	if err := t.take(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Taken) take() error {
	t.conn.SetDeadline(time.Now().Add(answerTimeout))
	if err := send(t.conn, &message{Take: version}); err != nil {
		return err
	}
	for {
		m, err := receive(t.conn)
		if err != nil {
			return err
		}
		t.Sockets = append(t.Sockets, m.Offer.Sockets...)
		switch {
		case m.Error != "":
			return fmt.Errorf("the proxy that runs doesn't hand over: %s", m.Error)
		case len(t.Sockets) > maxSockets:
			return errors.New("hand-over: too many sockets")
		case m.Last:
			t.UID, t.Loops = m.Offer.UID, m.Offer.Loops
			return nil
		}
	}
}

// Listener returns the socket of a listener for one loop, once.
func (t *Taken) Listener(name string, loop int) (fd int, ok bool) {
	return t.one(func(s *Socket) bool { return s.Kind == Accept && s.Listener == name && int(s.Loop) == loop })
}

// Names returns the sockets of a names listener, once.
func (t *Taken) Names(at netip.AddrPort) (udp net.PacketConn, tcp net.Listener, ok bool) {
	u, ok := t.one(func(s *Socket) bool { return s.Kind == NamesUDP && s.At == at })
	if !ok {
		return nil, nil, false
	}
	file := os.NewFile(uintptr(u), "names-udp")
	udp, err := net.FilePacketConn(file)
	file.Close() // it was duplicated
	if err != nil {
		return nil, nil, false
	}
	v, ok := t.one(func(s *Socket) bool { return s.Kind == NamesTCP && s.At == at })
	if ok {
		file = os.NewFile(uintptr(v), "names-tcp")
		tcp, err = net.FileListener(file)
		file.Close()
	}
	if !ok || err != nil {
		udp.Close()
		return nil, nil, false
	}
	return udp, tcp, true
}

func (t *Taken) one(is func(*Socket) bool) (int, bool) {
	for i := range t.Sockets {
		if s := &t.Sockets[i]; s.FD >= 0 && is(s) {
			fd := s.FD
			s.FD = -1
			return fd, true
		}
	}
	return -1, false
}

// Started tells the predecessor that its place is taken, and returns when it has
// left the control plane and its admin listener. alone says that it is gone without
// a word, killed: its sockets are the successor's all the same. With an error it
// goes on, or ends for good and the workload with it.
func (t *Taken) Started() (alone bool, err error) {
	t.conn.SetDeadline(time.Now().Add(answerTimeout))
	err = send(t.conn, &message{Started: true})
	m, failed := receive(t.conn) // also what it said before it closed
	switch {
	case m.Error != "":
		return false, fmt.Errorf("the proxy that runs doesn't go: %s", m.Error)
	case m.Gone:
		return false, nil
	}
	if failed != nil {
		err = failed
	}
	if err == nil {
		err = errors.New("hand-over: an answer that says nothing")
	}
	if t.served() {
		return false, err
	}
	return true, nil
}

// served reports whether a process still hands over: the one that this is the
// successor of, for none other could be there yet.
func (t *Taken) served() bool {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: t.path, Net: "unixpacket"})
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Close closes what nobody took. Before Started it tells the predecessor that
// nothing comes of it.
func (t *Taken) Close() {
	t.Offer.Close()
	t.conn.Close()
}
