//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// pacedCommand is the hidden first argument that makes this program the paced
// load generator: a process of its own, so that measuring and waiting for the
// next request disturb each other least.
const pacedCommand = "paced-load"

// paced is an open loop of evenly paced requests: request i is due at i/rate,
// whether or not the ones before it were answered. One thread, one epoll, a
// timer of the kernel; connections take turns. Latency counts from when a
// request was due, so a stall is seen by every request it delayed.
type paced struct {
	target  string
	rate    float64
	length  time.Duration
	conns   int
	http2   bool
	request []byte
}

// pacedResult is what happened. Latencies are in milliseconds.
type pacedResult struct {
	Sent, Answered int64
	P50, P99, Max  float64
}

// pacedConns is how many connections share the load.
const pacedConns = 10

// pace runs the generator as a child process beside the proxies. args are
// further ones of its command line.
func pace(ctx context.Context, target string, rate float64, length time.Duration, args ...string) (pacedResult, error) {
	var res pacedResult
	self, err := os.Executable()
	if err != nil {
		return res, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{pacedCommand, "-target", target, "-rate", fmt.Sprint(rate), "-length", length.String()}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return res, fmt.Errorf("paced load: %w", err)
	}
	return res, json.Unmarshal(out, &res)
}

func pacedMain(args []string) int {
	fs := flag.NewFlagSet(pacedCommand, flag.ExitOnError)
	p := paced{conns: pacedConns}
	fs.StringVar(&p.target, "target", "", "HOST:PORT")
	fs.Float64Var(&p.rate, "rate", 1000, "requests a second")
	fs.DurationVar(&p.length, "length", 5*time.Second, "how long")
	fs.BoolVar(&p.http2, "http2", false, "HTTP/2")
	first := fs.Bool("urgent", false, "run before every other program, if that is permitted")
	fs.Parse(args)
	runtime.LockOSThread()
	err := setAffinity(otherCPUs())
	if err == nil && *first {
		err = everyThread(urgent)
	}
	var res pacedResult
	if err == nil {
		res, err = p.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "paced load:", err)
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(res)
	return 0
}

// pacedConn is one connection: idle, or waiting for one answer. Over HTTP/2 it
// is never busy.
type pacedConn struct {
	fd   int
	h2   *paced2       // nil: HTTP/1.1
	due  time.Duration // of the request in flight
	busy bool
	got  []byte
}

func (p *paced) run() (pacedResult, error) {
	var res pacedResult
	p.request = []byte("GET / HTTP/1.1\r\nHost: " + p.target + "\r\n\r\n")
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		return res, err
	}
	defer unix.Close(ep)
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK)
	if err != nil {
		return res, err
	}
	defer unix.Close(timer)
	watch := func(fd, i int) error {
		return unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
	}
	if err := watch(timer, -1); err != nil {
		return res, err
	}
	conns := make([]*pacedConn, p.conns)
	for i := range conns {
		// One request before the clock runs, so that nobody's dialling counts.
		if conns[i], err = p.open(); err != nil {
			return res, err
		}
		fd := conns[i].fd
		defer unix.Close(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			return res, err
		}
		if err := watch(fd, i); err != nil {
			return res, err
		}
	}
	gap := time.Duration(float64(time.Second) / p.rate)
	total := int64(p.length / gap)
	latencies := make([]time.Duration, 0, total)
	start := time.Now()
	var (
		next   int             // whose turn it is
		late   []time.Duration // due, but no connection was free
		events [64]unix.EpollEvent
		buf    [64 << 10]byte
	)
	free := func() *pacedConn {
		for range conns {
			c := conns[next]
			next = (next + 1) % len(conns)
			if !c.busy {
				return c
			}
		}
		return nil
	}
	send := func(c *pacedConn, due time.Duration) error {
		res.Sent++
		if c.h2 != nil {
			return c.h2.send(due)
		}
		c.busy, c.due = true, due
		_, err := unix.Write(c.fd, p.request)
		return err
	}
	var scheduled int64
	deadline := p.length + 5*time.Second
	for int64(len(latencies)) < total {
		now := time.Since(start)
		if now > deadline {
			break
		}
		for scheduled < total && time.Duration(scheduled)*gap <= now {
			due := time.Duration(scheduled) * gap
			scheduled++
			if c := free(); c != nil {
				if err := send(c, due); err != nil {
					return res, err
				}
			} else {
				late = append(late, due)
			}
		}
		if scheduled < total {
			wait := max(time.Duration(scheduled)*gap-time.Since(start), 1)
			spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}
			if err := unix.TimerfdSettime(timer, 0, &spec, nil); err != nil {
				return res, err
			}
		}
		n, err := unix.EpollWait(ep, events[:], 1000)
		if err != nil && err != unix.EINTR {
			return res, err
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd < 0 {
				unix.Read(timer, buf[:8])
				continue
			}
			c := conns[e.Fd]
			n, err := unix.Read(c.fd, buf[:])
			if err == unix.EAGAIN {
				continue
			}
			if err != nil || n == 0 {
				return res, fmt.Errorf("the proxy closed a connection after %d answers (%v)", len(latencies), err)
			}
			if c.h2 != nil {
				if err := c.h2.take(buf[:n], func(due time.Duration) { latencies = append(latencies, time.Since(start)-due) }); err != nil {
					return res, err
				}
				continue
			}
			c.got = append(c.got, buf[:n]...)
			whole, err := answered(c.got)
			if err != nil {
				return res, err
			}
			if !whole {
				continue
			}
			latencies = append(latencies, time.Since(start)-c.due)
			c.busy, c.got = false, c.got[:0]
			if len(late) > 0 {
				due := late[0]
				late = late[1:]
				if err := send(c, due); err != nil {
					return res, err
				}
			}
		}
	}
	res.Answered = int64(len(latencies))
	if res.Answered < total {
		return res, fmt.Errorf("%d of %d requests were not answered", total-res.Answered, total)
	}
	slices.Sort(latencies)
	at := func(q float64) float64 {
		return float64(latencies[min(int(q*float64(len(latencies))), len(latencies)-1)]) / 1e6
	}
	res.P50, res.P99, res.Max = at(0.50), at(0.99), at(1)
	return res, nil
}

// open connects and makes one request.
func (p *paced) open() (*pacedConn, error) {
	if p.http2 {
		h, err := connect2(p.target)
		if err != nil {
			return nil, err
		}
		return &pacedConn{fd: h.fd, h2: h}, nil
	}
	fd, err := connect(p.target)
	if err != nil {
		return nil, err
	}
	c := &pacedConn{fd: fd}
	if err := c.once(p.request); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

func connect(address string) (int, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0, err
	}
	to := &unix.SockaddrInet4{Port: n}
	copy(to.Addr[:], net.ParseIP(host).To4())
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, to); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("connect %s: %w", address, err)
	}
	return fd, nil
}

// once sends one request on a blocking socket and reads its answer.
func (c *pacedConn) once(request []byte) error {
	if _, err := unix.Write(c.fd, request); err != nil {
		return err
	}
	var buf [16 << 10]byte
	var got []byte
	for {
		n, err := unix.Read(c.fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return fmt.Errorf("the first request wasn't answered (%v)", err)
		}
		got = append(got, buf[:n]...)
		if whole, err := answered(got); whole || err != nil {
			return err
		}
	}
}

// answered says whether b is one whole answer, which must be 200.
func answered(b []byte) (bool, error) {
	head, length, ok := parseHead(b)
	if !ok {
		return false, nil
	}
	if !slices.Equal(b[:12], []byte("HTTP/1.1 200")) {
		return false, fmt.Errorf("an answer that isn't 200: %.60q", b)
	}
	if len(b) > head+length {
		return false, errors.New("more bytes than the answer has")
	}
	return len(b) == head+length, nil
}
