package handover

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/wire/pb"
)

// sockets makes listening sockets: more than go into one message.
func sockets(t *testing.T, n int) []Socket {
	t.Helper()
	var list []Socket
	for i := range n {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Socket{Listener: fmt.Sprintf("listener-%d", i/2), Loop: uint16(i % 2), FD: fd})
	}
	return list
}

// inode tells sockets apart whatever their descriptors are.
func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		t.Fatal(err)
	}
	return s.Ino
}

func serve(t *testing.T, c Config) (path string, s *Server) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ho") // short: a Unix socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "handover.sock")
	c.Log = slog.New(slog.DiscardHandler)
	s, err = Listen(path, c)
	if errors.Is(err, syscall.EPROTONOSUPPORT) {
		t.Skip("this system has no SOCK_SEQPACKET")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return path, s
}

func TestTake(t *testing.T) {
	want := map[string]uint64{}
	key := func(s *Socket) string { return fmt.Sprint(s.Listener, s.Loop) }
	left := make(chan struct{})
	list := sockets(t, 150)
	for i := range list {
		want[key(&list[i])] = inode(t, list[i].FD)
	}
	path, _ := serve(t, Config{
		Offer: func() (*Offer, error) { return &Offer{UID: "me", Loops: 2, Sockets: list}, nil },
		Leave: func() { close(left) },
	})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v; want mode 0600", info.Mode(), err)
	}
	taken, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if taken.UID != "me" || taken.Loops != 2 {
		t.Errorf("taken %q and %d loops", taken.UID, taken.Loops)
	}
	got := map[string]uint64{}
	for i := range 75 {
		for loop := range 2 {
			name := fmt.Sprintf("listener-%d", i)
			fd, ok := taken.Listener(name, loop)
			if !ok {
				t.Fatalf("no socket of %s for loop %d", name, loop)
			}
			if _, again := taken.Listener(name, loop); again {
				t.Fatalf("the socket of %s came twice", name)
			}
			got[fmt.Sprint(name, loop)] = inode(t, fd)
			unix.Close(fd)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the sockets are others: %v, want %v", got, want)
	}
	select {
	case <-left:
		t.Fatal("it left before its successor had started")
	default:
	}
	if alone, err := taken.Started(); err != nil || alone {
		t.Fatalf("Started: alone %v, %v", alone, err)
	}
	<-left
	if _, err := Take(path); err == nil {
		t.Error("it hands over a second time")
	}
}

// TestSuccessorFails: nothing comes of one successor, and the next one is served.
func TestSuccessorFails(t *testing.T) {
	left := false
	path, s := serve(t, Config{
		Offer: func() (*Offer, error) { return &Offer{UID: "me", Loops: 1, Sockets: sockets(t, 1)}, nil },
		Leave: func() { left = true },
	})
	raw, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	raw.Write([]byte("\xffnonsense"))
	raw.Close()
	for range 3 {
		taken, err := Take(path)
		if err != nil {
			t.Fatal(err)
		}
		taken.Close()
	}
	s.Close()
	if left {
		t.Error("it left for a successor that never started")
	}
}

// TestPredecessorDies: one that is killed once the successor has its sockets can't
// say anything; the successor goes on alone. One that lives keeps its place.
func TestPredecessorDies(t *testing.T) {
	path, server := serve(t, Config{
		Offer: func() (*Offer, error) { return &Offer{UID: "me", Loops: 1, Sockets: sockets(t, 1)}, nil },
		Leave: func() { t.Error("it left for a successor that it had told to go") },
	})
	ending, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ending.Close()
	server.Close()
	if alone, err := ending.Started(); alone || err == nil || !strings.Contains(err.Error(), "it is ending") {
		t.Errorf("Started when the predecessor ends in good order: alone %v, %v; want that reason", alone, err)
	}

	for name, c := range map[string]struct {
		hears, lives, alone bool // it hears "started"; its process goes on
	}{
		"killed before":         {false, false, true},
		"killed after":          {true, false, true},
		"cuts the talk":         {false, true, false},
		"cuts it when it hears": {true, true, false},
	} {
		l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		talked := make(chan error, 1)
		cut := make(chan struct{})
		go func() {
			conn, err := l.AcceptUnix()
			if err == nil {
				_, err = receive(conn)
			}
			if err == nil {
				offer := &Offer{UID: "me", Loops: 1, Sockets: sockets(t, 3)}
				err = sendOffer(conn, offer)
				offer.Close()
			}
			if err == nil && c.hears {
				_, err = receive(conn)
			}
			if !c.lives {
				l.Close()
			}
			conn.Close()
			close(cut)
			talked <- err
		}()
		taken, err := Take(path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !c.hears {
			<-cut
		}
		alone, err := taken.Started()
		if alone != c.alone || (err == nil) != c.alone {
			t.Errorf("%s: Started: alone %v, %v", name, alone, err)
		}
		if _, ok := taken.Listener("listener-0", 1); !ok {
			t.Errorf("%s: the sockets are lost", name)
		}
		if err := <-talked; err != nil {
			t.Errorf("%s: the predecessor: %v", name, err)
		}
		taken.Close()
		l.Close()
	}
}

func TestRefusal(t *testing.T) {
	path, _ := serve(t, Config{Offer: func() (*Offer, error) { return nil, errors.New("it drains") }})
	if _, err := Take(path); err == nil || !strings.Contains(err.Error(), "it drains") {
		t.Errorf("Take: %v; want the reason", err)
	}
	if _, err := Take(path + "x"); err == nil || !strings.Contains(err.Error(), path+"x") {
		t.Errorf("Take from nobody: %v; want the path", err)
	}
}

func duplicate(t *testing.T, c syscall.Conn) (fd int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(old uintptr) { fd, _ = unix.Dup(int(old)) })
	}
	if err != nil || fd <= 0 {
		t.Errorf("duplicate: %d, %v", fd, err)
	}
	return fd
}

// TestNames: names sockets work in the process that took them.
func TestNames(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.53:53")
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	path, _ := serve(t, Config{Offer: func() (*Offer, error) {
		return &Offer{UID: "me", Loops: 1, Sockets: []Socket{{Kind: NamesUDP, At: at, FD: duplicate(t, udp)}, {Kind: NamesTCP, At: at, FD: duplicate(t, tcp.(*net.TCPListener))}}}, nil
	}})
	taken, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, _, ok := taken.Names(netip.MustParseAddrPort("127.0.0.54:53")); ok {
		t.Error("sockets of an address that nobody listens on")
	}
	u, v, ok := taken.Names(at)
	if !ok {
		t.Fatal("no sockets")
	}
	defer u.Close()
	defer v.Close()
	if u.LocalAddr().String() != udp.LocalAddr().String() || v.Addr().String() != tcp.Addr().String() {
		t.Errorf("taken %v and %v, want %v and %v", u.LocalAddr(), v.Addr(), udp.LocalAddr(), tcp.Addr())
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(pb.Append(nil, &message{Take: 1}, fields))
	f.Add(pb.Append(nil, &message{Offer: Offer{UID: "u", Loops: 3, Sockets: []Socket{{Kind: NamesTCP, Listener: "l", Loop: 2, At: netip.MustParseAddrPort("[::1]:53")}}}, Last: true}, fields))
	f.Add(pb.Append(nil, &message{Started: true, Gone: true, Error: "e"}, fields))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := pb.Decode(b, fields)
		if err != nil {
			return
		}
		again, err := pb.Decode(pb.Append(nil, m, fields), fields)
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}
