package cli

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/run/sockets"
)

// fakeProxy is a tulle-proxy as far as `tulle run` sees it: it becomes ready,
// takes captured connections and says where each meant to go, and notes in
// DIR/events what happens to it.
func fakeProxy() {
	data := flag.String("data", "", "")
	socketsFD := flag.Int("sockets", -1, "")
	tokenFile := flag.String("join-token-file", "", "")
	for _, ignored := range []string{"control-plane", "name", "namespace", "admin", "access-log", "log-level"} {
		flag.String(ignored, "", "")
	}
	flag.Parse()
	events, err := os.OpenFile(filepath.Join(*data, "events"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fatal(err)
	}
	note := func(format string, a ...any) { fmt.Fprintf(events, format+"\n", a...) }
	token := "none"
	if *tokenFile != "" {
		b, err := os.ReadFile(*tokenFile)
		if err != nil {
			fatal(err)
		}
		token = strings.TrimSpace(string(b))
	}
	if token == "refuse" {
		fatal(fmt.Errorf("the join token is refused"))
	}
	note("start token=%s args=%v", token, strings.Contains(strings.Join(os.Args, " "), token))
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "CapEff") || strings.HasPrefix(line, "NoNewPrivs") {
			note("%s", strings.Join(strings.Fields(line), " "))
		}
	}
	_ = os.WriteFile(filepath.Join(*data, "pid"), []byte(strconv.Itoa(os.Getpid())), 0o600)
	if *socketsFD >= 0 {
		if err := capture(*socketsFD); err != nil {
			fatal(err)
		}
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	socket := filepath.Join(*data, "admin.sock")
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ready\n") })
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, _ *http.Request) { note("drain") })
	go http.Serve(l, mux)
	<-term
	note("stop")
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "tulle-proxy:", err)
	os.Exit(1)
}

func capture(fd int) error {
	client, err := sockets.NewClient(fd)
	if err != nil {
		return err
	}
	fds, err := client.Sockets(sockets.Capture, sockets.IPv4, 1)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fds[0]), "capture")
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			raw, _ := c.(*net.TCPConn).SyscallConn()
			_ = raw.Control(func(fd uintptr) {
				const originalDst = 80
				if m, err := unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, originalDst); err == nil {
					fmt.Fprintln(c, "you meant", netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Multiaddr[4:8])), binary.BigEndian.Uint16(m.Multiaddr[2:])))
				}
			})
			c.Close()
		}
	}()
	return nil
}
