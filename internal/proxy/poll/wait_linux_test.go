package poll

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a poller and both ends of a connection; it watches the reading one.
func pair(t *testing.T) (p *epoll, r, w int) {
	t.Helper()
	poller, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(poller.Shut)
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ends[0]); unix.Close(ends[1]) })
	if err := poller.Add(FD(ends[0])); err != nil {
		t.Fatal(err)
	}
	// The first event says that it is writable.
	if n := poller.Wait(make([]Event, MaxEvents), poller.Now()+10*time.Second); n != 1 {
		t.Fatalf("%d events of a new connection, want 1", n)
	}
	return poller.(*epoll), ends[0], ends[1]
}

// TestWait: an event ends a wait at once, whether the waiter is cool or hot,
// a deadline ends it no earlier than it says, and nothing is lost between.
func TestWait(t *testing.T) {
	for _, block := range []bool{false, true} {
		t.Run(map[bool]string{false: "parked", true: "blocked"}[block], func(t *testing.T) {
			p, r, w := pair(t)
			p.wait.block = block
			events := make([]Event, MaxEvents)
			// next waits for one byte that is written after a while.
			next := func(after time.Duration) {
				t.Helper()
				go func() {
					time.Sleep(after)
					unix.Write(w, []byte("x"))
				}()
				for deadline := p.Now() + 10*time.Second; ; {
					if p.Now() > deadline {
						t.Fatalf("no event in 10 s, hot: %v", p.wait.hot)
					}
					if n := p.Wait(events, deadline); n > 0 {
						break
					}
				}
				if n, err := p.Read(FD(r), make([]byte, 8)); n != 1 || err != nil {
					t.Fatalf("read %d, %v", n, err)
				}
			}
			next(0)
			next(20 * time.Millisecond)
			if p.wait.hot {
				t.Error("hot after two events")
			}
			for range 200 {
				if next(0); p.wait.hot {
					break
				}
			}
			if !p.wait.hot {
				t.Error("200 events in a row didn't make it hot")
			}
			for range 50 {
				next(0)
			}
			next(3 * rawWait) // longer than a hot wait
			if p.wait.hot {
				t.Error("still hot after a wait that brought nothing")
			}
			next(0)
			for _, d := range []time.Duration{0, time.Millisecond, 30 * time.Millisecond} {
				until := p.Now() + d
				for p.Now() < until {
					if n := p.Wait(events, until); n != 0 {
						t.Fatalf("%d events, and there was none", n)
					}
				}
			}
		})
	}
}

// TestWake: another goroutine ends a wait, and a wake before a wait isn't lost.
func TestWake(t *testing.T) {
	p, _, _ := pair(t)
	events := make([]Event, MaxEvents)
	p.Wake()
	p.Wait(events, p.Now()+10*time.Second)
	done := make(chan struct{})
	go func() {
		for range 3 {
			p.Wait(events, p.Now()+10*time.Second)
		}
		close(done)
	}()
	for start := time.Now(); ; p.Wake() {
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
		if time.Since(start) > 9*time.Second {
			t.Fatal("waits that nobody ended")
		}
	}
}

// TestQuiet: a poller with ten events a second makes no thread of the process
// tick between them.
func TestQuiet(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has threads of its own")
	}
	p, r, w := pair(t)
	go func() {
		for range 10 {
			time.Sleep(50 * time.Millisecond)
			unix.Write(w, []byte("x"))
		}
	}()
	events := make([]Event, MaxEvents)
	before := switches(t)
	for got := 0; got < 10; {
		if p.Wait(events, p.Now()+time.Second) > 0 {
			p.Read(FD(r), make([]byte, 8))
			got++
		}
	}
	// Parked it is some 75, the writer's own included; blocked in epoll_wait 200 and more.
	if n := switches(t) - before; n > 150 {
		t.Errorf("%d context switches for 10 events", n)
	}
}

// switches counts the voluntary context switches of this process's threads.
func switches(t *testing.T) (n int) {
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) == 0 {
		t.Fatal("no /proc", err)
	}
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		if _, rest, ok := strings.Cut(string(b), "\nvoluntary_ctxt_switches:"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			k, _ := strconv.Atoi(strings.TrimSpace(line))
			n += k
		}
	}
	return n
}
