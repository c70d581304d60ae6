package namespace

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/run/sockets"
)

// isolate makes a namespace, or skips by name where this machine has none.
func isolate(t *testing.T, c Config) *Namespace {
	t.Helper()
	n, err := Start(t.Context(), c)
	var none *UnavailableError
	if errors.As(err, &none) {
		t.Skipf("no network namespace here (%v); %s", err, none.Hint)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// shell runs a script inside and returns what it wrote to the file $OUT.
func shell(t *testing.T, n *Namespace, script string) (string, Exit) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	path, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash: apt-get install bash")
	}
	_, err = n.Run(Program{Path: path, Args: []string{"bash", "-c", "exec >\"$OUT\" 2>&1; " + script}, Env: append(os.Environ(), "OUT="+out)})
	if err != nil {
		t.Fatal(err)
	}
	exit, ok := <-n.Exited()
	if !ok {
		t.Fatal("the helper ended before the program")
	}
	data, _ := os.ReadFile(out)
	return string(data), exit
}

// fakeProxy accepts what is captured and answers with the original destination.
type fakeProxy struct {
	client *sockets.Client
	files  []net.Listener
	udp    net.PacketConn
}

func startFakeProxy(t *testing.T, n *Namespace) *fakeProxy {
	t.Helper()
	end, err := n.ProxySocket()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(end.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	end.Close()
	client, err := sockets.NewClient(fd)
	if err != nil {
		t.Fatal(err)
	}
	p := &fakeProxy{client: client}
	for _, family := range []sockets.Family{sockets.IPv4, sockets.IPv6} {
		if !client.Has(family) {
			continue
		}
		fds, err := client.Sockets(sockets.Capture, family, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			p.serve(t, fd)
		}
	}
	fds, err := client.Sockets(sockets.NamesUDP, sockets.IPv4, 1)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "names")
	p.udp, err = net.FilePacketConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	go answerNames(p.udp)
	t.Cleanup(p.close)
	return p
}

func (p *fakeProxy) serve(t *testing.T, fd int) {
	f := os.NewFile(uintptr(fd), "capture")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Error(err)
		return
	}
	p.files = append(p.files, l)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "you meant %s\n", originalDestination(c.(*net.TCPConn)))
			}()
		}
	}()
}

func (p *fakeProxy) close() {
	for _, l := range p.files {
		l.Close()
	}
	p.udp.Close()
	p.client.Close()
}

func originalDestination(c *net.TCPConn) netip.AddrPort {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}
	}
	var at netip.AddrPort
	_ = raw.Control(func(fd uintptr) {
		const originalDst = 80 // SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST
		if c.LocalAddr().(*net.TCPAddr).IP.To4() != nil {
			if m, err := unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, originalDst); err == nil {
				at = netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Multiaddr[4:8])), binary.BigEndian.Uint16(m.Multiaddr[2:]))
			}
			return
		}
		if m, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, originalDst); err == nil {
			port := m.Addr.Port>>8 | m.Addr.Port<<8
			at = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), port)
		}
	})
	return at
}

// answerNames says 240.240.0.7 to every question.
func answerNames(c net.PacketConn) {
	b := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		answer := append([]byte(nil), b[:n]...)
		answer[2], answer[3] = 0x81, 0x80
		end := 12
		for answer[end] != 0 {
			end += int(answer[end]) + 1
		}
		end += 5
		kind := binary.BigEndian.Uint16(answer[end-4:])
		answer = answer[:end]
		copy(answer[6:12], make([]byte, 6))
		if kind == 1 {
			answer[7] = 1
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 240, 240, 0, 7)
		}
		_, _ = c.WriteTo(answer, from)
	}
}

func TestCapture(t *testing.T) {
	n := isolate(t, Config{Resolv: "nameserver " + Resolver.String() + "\n"})
	startFakeProxy(t, n)
	out, exit := shell(t, n, `
		for to in 240.240.0.7/8080 192.0.2.1/443 203.0.113.9/53000; do cat </dev/tcp/$to; done
		cat </dev/tcp/cart/80
		getent ahostsv4 cart | head -1
		cat /etc/resolv.conf
	`)
	want := []string{"you meant 240.240.0.7:8080", "you meant 192.0.2.1:443", "you meant 203.0.113.9:53000", "you meant 240.240.0.7:80", "240.240.0.7", "nameserver 192.0.0.1"}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("missing %q in:\n%s", w, out)
		}
	}
	if exit.Code != 0 {
		t.Errorf("exit %+v, want 0", exit)
	}
	if !n.Report.Resolv {
		t.Errorf("report %+v: want resolv.conf replaced", n.Report)
	}
}

func TestCaptureIPv6(t *testing.T) {
	n := isolate(t, Config{})
	if len(n.Report.Families) < 2 {
		t.Skip("the kernel has no IPv6: boot it without ipv6.disable=1")
	}
	startFakeProxy(t, n)
	out, _ := shell(t, n, `cat </dev/tcp/fd74:756c:6c65::7/8080; cat </dev/tcp/2001:db8::1/80`)
	if !strings.Contains(out, "you meant [fd74:756c:6c65::7]:8080") {
		t.Errorf("the mesh's own addresses:\n%s", out)
	}
	if !strings.Contains(out, "unreachable") {
		t.Errorf("other addresses, without Config.IPv6: want unreachable, got\n%s", out)
	}
}

func TestOwnAddressesStayItsOwn(t *testing.T) {
	n := isolate(t, Config{})
	startFakeProxy(t, n)
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3: apt-get install python3")
	}
	out, _ := shell(t, n, `
		python3 - <<'END'
import socket, threading
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "192.0.0.2"), (socket.AF_INET, "127.0.0.53")):
    for port in (80, 53):
        s = socket.socket(family); s.bind((address, port)); s.listen()
        c = socket.create_connection((address, port), timeout=2)
        a, _ = s.accept(); a.sendall(b"mine"); print(address, port, c.recv(99).decode())
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 53)); u.settimeout(2)
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); v.sendto(b"hello", ("127.0.0.1", 53)); print("udp", u.recv(99).decode())
END`)
	for _, w := range []string{"127.0.0.1 80 mine", "192.0.0.2 80 mine", "127.0.0.53 53 mine", "udp hello"} {
		if !strings.Contains(out, w) {
			t.Errorf("missing %q in:\n%s", w, out)
		}
	}
}

func TestLoopbackResolverIsTheProxys(t *testing.T) {
	resolver := netip.MustParseAddr("127.0.0.53")
	n := isolate(t, Config{Resolvers: []netip.Addr{resolver}})
	startFakeProxy(t, n)
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3: apt-get install python3")
	}
	out, _ := shell(t, n, `
		python3 - <<'END'
import socket
q = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04cart\x00\x00\x01\x00\x01"
for server in ("127.0.0.53", "192.0.2.53"):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
    s.connect((server, 53)); s.send(q); print(server, socket.inet_ntoa(s.recv(512)[-4:]))
END`)
	for _, w := range []string{"127.0.0.53 240.240.0.7", "192.0.2.53 240.240.0.7"} {
		if !strings.Contains(out, w) {
			t.Errorf("missing %q in:\n%s", w, out)
		}
	}
}

// What the program may not do: send around the proxy, change the rules, leave.
func TestNoWayAround(t *testing.T) {
	n := isolate(t, Config{})
	startFakeProxy(t, n)
	hostNet, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	out, _ := shell(t, n, `
		echo "effective $(grep CapEff /proc/self/status)"
		echo "bounding $(grep CapBnd /proc/self/status)"
		echo hello > /dev/udp/192.0.2.1/9999 && echo "udp sent"
		echo hello > /dev/udp/192.0.2.1/443 && echo "udp sent" # QUIC
		echo hello > /dev/udp/2001:db8::1/443 && echo "udp sent"
		readlink /proc/self/ns/net
		nsenter -t `+fmt.Sprint(os.Getpid())+` -n readlink /proc/self/ns/net
		nft delete table inet tulle && echo "table deleted"
		nft flush ruleset && echo "rules flushed"
		ip link set lo down && echo "loopback down"
		cat </dev/tcp/192.0.2.1/443
	`)
	for _, w := range []string{"udp sent", hostNet, "table deleted", "rules flushed", "loopback down"} {
		if strings.Contains(out, w) {
			t.Errorf("it could: %q in:\n%s", w, out)
		}
	}
	if !strings.Contains(out, "you meant 192.0.2.1:443") {
		t.Errorf("the redirection is gone:\n%s", out)
	}
	t.Log(out)
}

func TestDeadProxyMeansRefused(t *testing.T) {
	n := isolate(t, Config{})
	p := startFakeProxy(t, n)
	dir := t.TempDir()
	path, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash: apt-get install bash")
	}
	script := `ask() { cat </dev/tcp/192.0.2.1/443; } >"$1" 2>&1
		ask "$DIR/1"; touch "$DIR/first"; while [ ! -e "$DIR/killed" ]; do sleep 0.01; done
		ask "$DIR/2"; touch "$DIR/second"; while [ ! -e "$DIR/back" ]; do sleep 0.01; done
		ask "$DIR/3"`
	if _, err := n.Run(Program{Path: path, Args: []string{"bash", "-c", script}, Env: append(os.Environ(), "DIR="+dir)}); err != nil {
		t.Fatal(err)
	}
	await(t, filepath.Join(dir, "first"))
	p.close()
	touch(t, filepath.Join(dir, "killed"))
	await(t, filepath.Join(dir, "second"))
	startFakeProxy(t, n)
	touch(t, filepath.Join(dir, "back"))
	<-n.Exited()
	for name, want := range map[string]string{"1": "you meant", "2": "refused", "3": "you meant"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("ask %s: %q, %v; want %q", name, data, err, want)
		}
	}
}

func TestDialTheProgram(t *testing.T) {
	n := isolate(t, Config{})
	p := startFakeProxy(t, n)
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3: apt-get install python3")
	}
	path, _ := exec.LookPath("python3")
	ready := filepath.Join(t.TempDir(), "ready")
	program := "import socket,os\ns=socket.create_server(('127.0.0.1',8080));open(os.environ['READY'],'w').close()\nc,a=s.accept();c.sendall(b'from inside')"
	if _, err := n.Run(Program{Path: path, Args: []string{"python3", "-c", program}, Env: append(os.Environ(), "READY="+ready)}); err != nil {
		t.Fatal(err)
	}
	await(t, ready)
	fd, err := p.client.Dialer().Take(sockets.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.SetNonblock(fd, false)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "app")
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil || string(got) != "from inside" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestExit(t *testing.T) {
	for script, want := range map[string]Exit{
		"exit 7":        {Code: 7},
		"kill -TERM $$": {Code: -1, Signal: int(syscall.SIGTERM)},
		"exit 0":        {},
	} {
		n := isolate(t, Config{})
		if _, got := shell(t, n, script); got != want {
			t.Errorf("%s: %+v, want %+v", script, got, want)
		}
	}
}

func TestSignal(t *testing.T) {
	n := isolate(t, Config{})
	ready := filepath.Join(t.TempDir(), "ready")
	path, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash: apt-get install bash")
	}
	script := `trap 'exit 42' USR1; touch "$READY"; while :; do sleep 0.01; done`
	if _, err := n.Run(Program{Path: path, Args: []string{"bash", "-c", script}, Env: append(os.Environ(), "READY="+ready)}); err != nil {
		t.Fatal(err)
	}
	await(t, ready)
	if err := n.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if got := <-n.Exited(); got.Code != 42 {
		t.Errorf("exit %+v, want 42", got)
	}
}

func TestNoSuchProgram(t *testing.T) {
	n := isolate(t, Config{})
	_, err := n.Run(Program{Path: "/nonexistent/cart", Args: []string{"cart"}})
	var e *StartError
	if !errors.As(err, &e) || !e.NotFound {
		t.Errorf("Run: %v, want a StartError with NotFound", err)
	}
}

// The program doesn't outlive the helper's parent.
func TestCloseEndsTheProgram(t *testing.T) {
	n := isolate(t, Config{})
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := n.Run(Program{Path: path, Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the program lives on: kill -0: %v", err)
	}
}

func TestStartEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := Start(ctx, Config{}); err == nil {
		n.Close()
		t.Error("Start with an ended context: want an error")
	}
}

func touch(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return
		}
	}
	t.Fatalf("%s didn't appear", name)
}
