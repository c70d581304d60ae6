package live

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tulle.dev/tulle/internal/wire/control"
)

// fakeSharer always needs the same and notes what it gets.
type fakeSharer struct {
	mu      sync.Mutex
	elapsed []time.Duration
	got     []control.Share
}

func (s *fakeSharer) Demand(elapsed time.Duration) []control.LimitDemand {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.elapsed = append(s.elapsed, elapsed)
	return []control.LimitDemand{{Limit: "l", Part: 7}}
}

func (s *fakeSharer) Take(limit string, part uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, control.Share{Limit: limit, Part: part})
}

// silent reports that the proxy says nothing for a while.
func (s *session) silent(d time.Duration) bool {
	select {
	case m := <-s.in:
		return m.Status != nil && s.silent(d)
	case <-time.After(d):
		return true
	}
}

// TestShare: what is needed is said once a second, only to a control plane that
// understands it and only once something is shared; parts are put into force; and
// a message of a newer control plane is ignored.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		l, stop := run(t, c.config(""))
		s, hello := c.accept()
		if !hello.Shares {
			t.Error("the proxy doesn't say that it understands Shares")
		}
		f := &fakeSharer{}
		l.Share(f)
		if !s.silent(5 * time.Second) {
			t.Error("an older control plane is told what it can't read")
		}
		s.send(t, &control.ControlMessage{})
		s.send(t, &control.ControlMessage{Shares: &control.Shares{}})
		began := time.Now()
		for range 3 {
			m := s.next()
			if m.Demand == nil || !slices.Equal(m.Demand.Limits, []control.LimitDemand{{Limit: "l", Part: 7}}) {
				t.Fatalf("got %+v, want what is needed", m)
			}
		}
		if d := time.Since(began); d < 2*time.Second || d > 3*time.Second {
			t.Errorf("three times in %s", d)
		}
		s.send(t, &control.ControlMessage{Shares: &control.Shares{Limits: []control.Share{{Limit: "l", Part: 5}, {Limit: "m", Part: 6}}}})
		time.Sleep(time.Millisecond)
		f.mu.Lock()
		if !slices.Equal(f.got, []control.Share{{Limit: "l", Part: 5}, {Limit: "m", Part: 6}}) {
			t.Errorf("got %v", f.got)
		}
		f.mu.Unlock()
		// The next conversation is with an older one.
		c.stop()
		time.Sleep(time.Second)
		c.start()
		s, _ = c.accept()
		if !s.silent(5 * time.Second) {
			t.Error("an older control plane is told what it can't read")
		}
		s.send(t, &control.ControlMessage{Shares: &control.Shares{}})
		if m := s.next(); m.Demand == nil {
			t.Errorf("got %+v, want what is needed", m)
		}
		stop()
		c.stop()
	})
}

// TestShareNothing: a proxy without such limits says nothing.
func TestShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		_, stop := run(t, c.config(""))
		s, _ := c.accept()
		s.send(t, &control.ControlMessage{Shares: &control.Shares{Limits: []control.Share{{Limit: "l", Part: 5}}}})
		if !s.silent(time.Minute) {
			t.Error("something was said")
		}
		stop()
		c.stop()
	})
}

// TestSharesKept: another process of the proxy begins with the parts that this one
// was told, unless that is long ago or can't be read.
func TestSharesKept(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		l, stop := run(t, c.config(dir))
		s, _ := c.accept()
		s.send(t, update(1, proxyResource(1)))
		s.next()
		s.send(t, &control.ControlMessage{Shares: &control.Shares{Limits: []control.Share{{Limit: "l", Part: 500_000}, {Limit: "m", Part: 6}}}})
		time.Sleep(5 * time.Second) // on disk by now, whatever becomes of the process
		path := filepath.Join(dir, sharesFile)
		kept := func(limit string, want uint64) {
			t.Helper()
			next, err := New(c.config(dir))
			if err != nil {
				t.Fatal(err)
			}
			if got := next.KeptShare(limit); got != want {
				t.Errorf("of %s %d is kept, want %d", limit, got, want)
			}
		}
		kept("l", 500_000)
		kept("m", 6)
		kept("other", 0)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.send(t, &control.ControlMessage{Shares: &control.Shares{Limits: []control.Share{{Limit: "l", Part: 501_000}}}})
		time.Sleep(5 * time.Second)
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, before) {
			t.Errorf("a small change is written at once: %v", err)
		}
		if err := l.Save(); err != nil { // another process is about to take over
			t.Fatal(err)
		}
		kept("l", 501_000)
		stop()
		c.stop()
		for age, want := range map[time.Duration]uint64{keptFor - time.Second: 501_000, keptFor + time.Second: 0} {
			at := time.Now().Add(-age)
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
			kept("l", want)
		}
		if err := os.WriteFile(path, []byte("\xff\xff\xff"), 0o600); err != nil {
			t.Fatal(err)
		}
		kept("l", 0)
	})
}
