package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// asking sends requests to address from many clients, on connections that are kept
// and on new ones, until it is stopped, and counts.
type asking struct {
	done, failed atomic.Int64
	first        atomic.Pointer[error]
	quit         chan struct{}
	clients      sync.WaitGroup
}

func ask8(address string) *asking {
	a := &asking{quit: make(chan struct{})}
	for i := range 8 {
		a.clients.Go(func() { a.client(address, i%2 == 0) })
	}
	return a
}

// client asks until it is told to stop: with one connection until the proxy ends
// it, or with a new one each time.
func (a *asking) client(address string, keep bool) {
	for {
		c, err := net.Dial("tcp", address)
		if err != nil {
			a.fail(fmt.Errorf("dial: %w", err))
			return
		}
		r := bufio.NewReader(c)
		for last := false; !last; {
			select {
			case <-a.quit:
				c.Close()
				return
			default:
			}
			c.SetDeadline(time.Now().Add(patience))
			if !keep {
				fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			} else {
				fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			}
			resp, err := http.ReadResponse(r, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				if resp.StatusCode != http.StatusOK {
					err = errors.New(resp.Status)
				}
			}
			a.done.Add(1)
			if err != nil {
				a.fail(err)
				break
			}
			last = resp.Close
		}
		c.Close()
	}
}

func (a *asking) fail(err error) {
	a.failed.Add(1)
	a.first.CompareAndSwap(nil, &err)
}

// more waits for so many more answers.
func (a *asking) more(t *testing.T, n int64) {
	t.Helper()
	want := a.done.Load() + n
	eventually(t, "more answers come", func() bool { return a.done.Load() >= want })
}

func (a *asking) stop(t *testing.T) {
	t.Helper()
	close(a.quit)
	a.clients.Wait()
	if n := a.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed, the first: %v", n, a.done.Load(), *a.first.Load())
	}
}

// A proxy's place is taken by another process, three times, under load from clients
// that keep connections and from such that don't: no connection is refused or reset,
// no request fails, and the old process ends.
func TestReplaceLosesNothing(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer origin.Close()
	m := bare(t)
	_, originPort, _ := net.SplitHostPort(origin.Listener.Addr().String())
	port := freePort(t)
	example, err := os.ReadFile(filepath.Join("..", "..", "examples", "edge", "mesh.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	objects := strings.NewReplacer("port: 8080", "port: "+port, "port: 9000", "port: "+originPort).Replace(string(example))
	state := filepath.Join(m.dir, "edge.state")
	m.tulle("view", "-f", m.write(objects), "--proxy", "edge", "--state", state)
	args := []string{"--state", state, "--hand-over", filepath.Join(m.dir, "ho.sock"), "--loops", "2"}
	proxy := m.start("proxy 0", filepath.Join(bin, "tulle-proxy"), args...)
	proxy.await("msg=started")
	load := ask8("127.0.0.1:" + port)
	for i := range 3 {
		load.more(t, 200)
		next := m.start(fmt.Sprint("proxy ", i+1), filepath.Join(bin, "tulle-proxy"), append(args, "--replace")...)
		next.await("msg=started")
		load.more(t, 200)
		proxy.wait(patience)
		if !proxy.cmd.ProcessState.Success() || !strings.Contains(proxy.out.String(), "taken over") {
			t.Errorf("proxy %d ended with %v", i, proxy.cmd.ProcessState)
		}
		proxy = next
	}
	// One that can't take over changes nothing.
	other := m.start("other", filepath.Join(bin, "tulle-proxy"), append(args, "--replace", "--loops", "3")...)
	other.wait(patience)
	if out := other.out.String(); other.cmd.ProcessState.Success() || !strings.Contains(out, "the proxy that runs has 2") {
		t.Errorf("with other loops it ended with %v and said %q", other.cmd.ProcessState, out)
	}
	load.more(t, 200)
	load.stop(t)
	proxy.stop()
	lonely := m.start("lonely", filepath.Join(bin, "tulle-proxy"), append(args, "--replace")...)
	lonely.wait(patience)
	if out := lonely.out.String(); lonely.cmd.ProcessState.Success() || !strings.Contains(out, "no proxy hands over at") {
		t.Errorf("with nobody to replace it ended with %v and said %q", lonely.cmd.ProcessState, out)
	}
	if proxy.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Error("the last proxy didn't end by itself")
	}
}

// `tulle upgrade` under load: the proxies of a caller and of two endpoints are
// replaced, twice, and no request fails; the mesh goes on with the new ones.
func TestUpgrade(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one")
	m.server("two")
	m.ready("echo", 2)
	load := m.load(100, 10*time.Minute)
	before := map[string]int{}
	for _, w := range []string{"one", "two"} {
		before[w] = m.proxyPID(w)
	}
	for range 2 {
		if out := m.tulle("upgrade"); strings.Count(out, "√") < 3 {
			t.Errorf("upgrade of all said %q, want three proxies", out)
		}
	}
	for w, pid := range before {
		eventually(t, "the first proxy of "+w+" has ended", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
		if now := m.proxyPID(w); now == pid {
			t.Errorf("the proxy of %s is still process %d", w, pid)
		}
	}
	m.ready("echo", 2)
	load.stop()
	r := load.result(patience)
	r.noneFailed(t, 20)
	if r.Servers["one"] == 0 || r.Servers["two"] == 0 {
		t.Errorf("answers of %v, want some of both", r.Servers)
	}
	if out, err := m.try("upgrade", "nobody"); err == nil || !strings.Contains(out, "nobody") {
		t.Errorf("upgrade of a workload that isn't there: %v, %q", err, out)
	}
}
