//go:build linux

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/poll"
)

// piper is a poller that counts its pipes and what goes through them.
type piper struct {
	poll.Poller
	none    bool // there are no pipes
	open    atomic.Int64
	spliced atomic.Int64
	pipes   map[poll.FD]bool // of the loop's goroutine
}

func (p *piper) Pipe(size int) (poll.Pipe, error) {
	if p.none {
		return poll.Pipe{}, poll.ErrUnsupported
	}
	pipe, err := p.Poller.Pipe(size)
	if err == nil {
		p.open.Add(1)
		p.pipes[pipe.W] = true
	}
	return pipe, err
}

func (p *piper) Close(fd poll.FD) {
	if p.pipes[fd] {
		delete(p.pipes, fd)
		p.open.Add(-1)
	}
	p.Poller.Close(fd)
}

func (p *piper) Splice(from, to poll.FD, most int) (int, error) {
	n, err := p.Poller.Splice(from, to, most)
	if p.pipes[to] {
		p.spliced.Add(int64(n))
	}
	return n, err
}

// pipers are those of a proxy's loops.
type pipers []*piper

func (p pipers) spliced() (n int64) {
	for _, x := range p {
		n += x.spliced.Load()
	}
	return n
}

// gone waits until no pipe is left.
func (p pipers) gone(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		n := int64(0)
		for _, x := range p {
			n += x.open.Load()
		}
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d pipes are left", n)
		}
	}
}

// splicing is an edge whose pipes are tally.
func splicing(t *testing.T, loops int, none bool, backend netip.AddrPort) (*running, pipers) {
	t.Helper()
	all := make(pipers, loops)
	for i := range all {
		p, err := poll.New()
		if err != nil {
			t.Fatal(err)
		}
		all[i] = &piper{Poller: p, none: none, pipes: map[poll.FD]bool{}}
	}
	return startWith(t, edgeView(backend), proxy.Config{Loops: loops, Poller: func(i int) (poll.Poller, error) { return all[i], nil }}), all
}

// pattern is bytes of which each place can be told from its neighbours.
func pattern(n int) []byte {
	b := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(b)
	return b
}

// pieces writes b in pieces of any size.
func pieces(rnd *rand.Rand, w io.Writer, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), 1+rnd.IntN([]int{100, 5000, 100_000, 2 << 20}[rnd.IntN(4)]))
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		if rnd.IntN(20) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// same reads n bytes in pieces of any size and compares them.
func same(rnd *rand.Rand, r io.Reader, want []byte) error {
	buf := make([]byte, 1<<20)
	for at := 0; at < len(want); {
		n, err := r.Read(buf[:min(len(want)-at, 1+rnd.IntN(len(buf)))])
		if !bytes.Equal(buf[:n], want[at:at+n]) {
			return fmt.Errorf("other bytes between %d and %d", at, at+n)
		}
		if at += n; err != nil && at < len(want) {
			return fmt.Errorf("%d of %d bytes: %w", at, len(want), err)
		}
	}
	return nil
}

// TestSplicedBody: bodies of any size arrive whole and in order, both ways, one
// request after the other on the same connections, and are tally to the byte.
func TestSplicedBody(t *testing.T) {
	sizes := []int{0, 1, 4 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 200_000, 1 << 20, 5<<20 + 3, 64 << 20}
	if testing.Short() {
		sizes = sizes[:len(sizes)-1]
	}
	data := pattern(64 << 20)
	for _, none := range []bool{false, true} {
		t.Run(fmt.Sprintf("no pipes %v", none), func(t *testing.T) {
			var failed atomic.Pointer[error]
			backend := serve(t, func(c net.Conn) {
				rnd := rand.New(rand.NewPCG(1, 1))
				r := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					down, _ := strconv.Atoi(req.URL.Query().Get("down"))
					if err := same(rnd, req.Body, data[:max(req.ContentLength, 0)]); err != nil {
						failed.Store(&err)
						return
					}
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", down)
					if pieces(rnd, c, data[:down]) != nil {
						return
					}
				}
			})
			p, pipers := splicing(t, 1, none, backend)
			c, err := net.Dial("tcp", p.addr(t, "http"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			count := &tally{Conn: c}
			rnd, r := rand.New(rand.NewPCG(2, 2)), bufio.NewReaderSize(count, 1)
			for i := range sizes {
				up, down := sizes[i], sizes[len(sizes)-1-i]
				c.SetDeadline(time.Now().Add(wait))
				sent := make(chan error, 1)
				fmt.Fprintf(count, "POST /?down=%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", down, up)
				go func() { sent <- pieces(rand.New(rand.NewPCG(3, 3)), count, data[:up]) }()
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(same(rnd, resp.Body, data[:down]), <-sent); err != nil {
					t.Fatalf("%d bytes there, %d back: %v", up, down, err)
				}
			}
			if e := failed.Load(); e != nil {
				t.Error(*e)
			}
			if n := pipers.spliced(); none != (n == 0) {
				t.Errorf("%d bytes were spliced", n)
			}
			c.Close()
			settled(t, p)
			for name, want := range map[string]int64{"received": count.wrote.Load(), "sent": count.read.Load()} {
				if got := sumOf(t, p.metrics(t), "tulle_"+name+"_bytes_total"); got != want {
					t.Errorf("%s: %d bytes are tally, %d went over the connection", name, got, want)
				}
			}
			pipers.gone(t)
		})
	}
}

// tally counts what is read and written.
type tally struct {
	net.Conn
	read, wrote atomic.Int64
}

func (c *tally) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

func (c *tally) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.wrote.Add(int64(n))
	return n, err
}

// sumOf adds up a metric's series.
func sumOf(t *testing.T, text, name string) (sum int64) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name) {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += int64(v)
		}
	}
	return sum
}

// TestSplicedBodyCut: who goes away in the middle of a body leaves neither a client
// that takes a part for the whole nor a pipe.
func TestSplicedBodyCut(t *testing.T) {
	const size = 32 << 20
	data := pattern(size)
	for _, reset := range []bool{false, true} {
		leave := func(c net.Conn) {
			if reset {
				c.(*net.TCPConn).SetLinger(0)
			}
			c.Close()
		}
		t.Run(fmt.Sprintf("the endpoint leaves, reset %v", reset), func(t *testing.T) {
			p, pipers := splicing(t, 1, false, serve(t, func(c net.Conn) {
				readHead(bufio.NewReader(c))
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
				c.Write(data[:size/2])
				leave(c)
			}))
			c := dialTo(t, p.addr(t, "http"))
			c.SetDeadline(time.Now().Add(wait))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err == nil || !bytes.HasPrefix(data, got) || !reset && len(got) != size/2 {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			settled(t, p)
			pipers.gone(t)
			if pipers.spliced() == 0 {
				t.Error("nothing was spliced")
			}
		})
		t.Run(fmt.Sprintf("the client leaves, reset %v", reset), func(t *testing.T) {
			over := make(chan error, 1)
			p, pipers := splicing(t, 1, false, serve(t, func(c net.Conn) {
				readHead(bufio.NewReader(c))
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
				_, err := c.Write(data)
				over <- err
			}))
			c := dialTo(t, p.addr(t, "http"))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			c.SetDeadline(time.Now().Add(wait))
			io.ReadFull(c, make([]byte, 1<<20))
			leave(c)
			settled(t, p)
			pipers.gone(t)
			select {
			case <-over: // all of it may have fitted into the sockets
			case <-time.After(wait):
				t.Error("the endpoint isn't told")
			}
		})
		t.Run(fmt.Sprintf("the client leaves in its request, reset %v", reset), func(t *testing.T) {
			over := make(chan error, 1)
			p, pipers := splicing(t, 1, false, serve(t, func(c net.Conn) {
				r := bufio.NewReader(c)
				readHead(r)
				_, err := io.CopyN(io.Discard, r, size)
				over <- err
			}))
			c := dialTo(t, p.addr(t, "http"))
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
			c.Write(data[:size/2])
			leave(c)
			select {
			case err := <-over:
				if err == nil {
					t.Error("the endpoint got all of it")
				}
			case <-time.After(wait):
				t.Error("the endpoint isn't told")
			}
			settled(t, p)
			pipers.gone(t)
		})
	}
}

// TestSplicedRequestRefused: an endpoint that answers in the middle of a body and
// takes no more of it is heard.
func TestSplicedRequestRefused(t *testing.T) {
	p, pipers := splicing(t, 1, false, serve(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		readHead(r)
		io.CopyN(io.Discard, r, 1<<20)
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
		c.(*net.TCPConn).CloseWrite()
		io.CopyN(io.Discard, r, 1<<20)
	}))
	c := dialTo(t, p.addr(t, "http"))
	c.SetDeadline(time.Now().Add(wait))
	const size = 64 << 20
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
	go c.Write(pattern(size))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 413 {
		t.Fatalf("got %v, %v", resp, err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "much" {
		t.Errorf("got %q, %v", b, err)
	}
	c.Close()
	settled(t, p)
	pipers.gone(t)
	if pipers.spliced() == 0 {
		t.Error("nothing was spliced")
	}
}

// TestSplicedBodyDrain: a drain waits for a long body; and one that nobody reads
// meanwhile holds up nobody else of its loop.
func TestSplicedBodyDrain(t *testing.T) {
	const size = 64 << 20
	data := pattern(size)
	p, pipers := splicing(t, 1, false, serve(t, func(c net.Conn) {
		head, _ := readHead(bufio.NewReader(c))
		if strings.HasPrefix(head, "GET /small") {
			io.WriteString(c, hello)
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		c.Write(data)
	}))
	c := dialTo(t, p.addr(t, "http"))
	c.SetDeadline(time.Now().Add(wait))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	if err := same(rnd, resp.Body, data[:size/8]); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := talk(t, p.addr(t, "http"), "GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(got, "hello") {
			t.Fatalf("beside a reader that has stopped: %q", got)
		}
	}
	drained := make(chan struct{})
	go func() {
		p.Drain(context.Background())
		close(drained)
	}()
	if err := same(rnd, resp.Body, data[size/8:]); err != nil {
		t.Error(err)
	}
	c.Close()
	select {
	case <-drained:
	case <-time.After(wait):
		t.Error("the drain doesn't end")
	}
	if pipers.spliced() == 0 {
		t.Error("nothing was spliced")
	}
}

// TestSplicedUntilClose: a body that lasts until the end, to a client of HTTP/1.0.
func TestSplicedUntilClose(t *testing.T) {
	data := pattern(8 << 20)
	for _, cut := range []bool{false, true} {
		p, pipers := splicing(t, 1, false, serve(t, func(c net.Conn) {
			readHead(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
			c.Write(data)
			if cut {
				c.(*net.TCPConn).SetLinger(0)
			}
		}))
		c := dialTo(t, p.addr(t, "http"))
		c.SetDeadline(time.Now().Add(wait))
		io.WriteString(c, "GET / HTTP/1.0\r\nHost: x\r\n\r\n")
		got, err := io.ReadAll(c)
		_, body, _ := bytes.Cut(got, []byte("\r\n\r\n"))
		if !bytes.HasPrefix(data, body) || cut != (err != nil) || !cut && len(body) != len(data) {
			t.Errorf("cut %v: got %d bytes, %v", cut, len(body), err)
		}
		settled(t, p)
		pipers.gone(t)
		if pipers.spliced() == 0 {
			t.Error("nothing was spliced")
		}
	}
}
