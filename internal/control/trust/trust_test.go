package trust

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/push"
	"tulle.dev/tulle/internal/mesh"
)

// fleet stands for the proxies: each takes roots and certificates when told.
type fleet struct {
	mu      sync.Mutex
	ca      *ca.CA
	proxies []push.Trusting
	taken   []uint64 // version of the roots each has
}

func (f *fleet) list() []push.Trusting {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, version, _ := f.ca.Trust()
	out := append([]push.Trusting(nil), f.proxies...)
	for i := range out {
		out[i].Bundle = f.taken[i] == version
	}
	return out
}

func (f *fleet) take(i int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, f.taken[i], _ = f.ca.Trust()
}

func (f *fleet) renew(i int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	roots, _, _ := f.ca.Trust()
	f.proxies[i].Root = roots[0].KeyID
}

func start(t *testing.T, n int) (*Change, *fleet, func() ca.Stage) {
	authority, err := ca.Open(ca.Config{Keys: &ca.MemoryKeys{}, TrustDomain: "mesh.local"})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{ca: authority, taken: make([]uint64, n)}
	for i := range n {
		f.proxies = append(f.proxies, push.Trusting{Proxy: mesh.Name{Namespace: "default", Name: string(rune('a' + i))}, Connected: true})
		f.take(i)
		f.renew(i)
	}
	c := New(Config{CA: authority, Proxies: f.list, Changed: func() error { return nil }, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	stage := func() ca.Stage {
		time.Sleep(2 * dwell) // time to move on, if it may
		synctest.Wait()
		_, _, s := authority.Trust()
		return s
	}
	return c, f, stage
}

// No stage is left before every proxy is ready for the next.
func TestForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, stage := start(t, 2)
		first, _, _ := f.ca.Trust()
		if err := c.Rotate(); err != nil {
			t.Fatal(err)
		}
		f.take(0)
		if s := stage(); s != ca.Added {
			t.Fatalf("at %s while a proxy doesn't know the new root", s)
		}
		if r := c.Report(); r.Waiting() != 1 || r.Proxies[1].Waiting == "" {
			t.Errorf("report %+v, want to wait for the second proxy", r)
		}
		f.take(1)
		if s := stage(); s != ca.Switched {
			t.Fatalf("at %s, want switched", s)
		}
		f.take(0)
		f.take(1)
		f.renew(0)
		f.mu.Lock()
		f.proxies[1].Connected = false // it is away, with a certificate of the old root
		f.mu.Unlock()
		if s := stage(); s != ca.Switched {
			t.Fatalf("at %s while a proxy has a certificate of the old root", s)
		}
		f.mu.Lock()
		f.proxies = f.proxies[:1] // whose certificate has ended meanwhile
		f.mu.Unlock()
		if s := stage(); s != ca.Steady {
			t.Fatalf("at %s, want steady", s)
		}
		if roots, _, _ := f.ca.Trust(); len(roots) != 1 || roots[0].Pin == first[0].Pin {
			t.Error("the root is the same as before")
		}
	})
}

func TestBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, stage := start(t, 1)
		first, _, _ := f.ca.Trust()
		if err := c.Back(); err == nil {
			t.Error("went back from nothing")
		}
		if err := c.Rotate(); err != nil {
			t.Fatal(err)
		}
		f.take(0)
		if s := stage(); s != ca.Switched {
			t.Fatal(s)
		}
		f.take(0)
		f.renew(0)
		if err := c.Back(); err != nil {
			t.Fatal(err)
		}
		f.take(0)
		if s := stage(); s != ca.Added {
			t.Fatalf("at %s while a proxy has a certificate of the root that goes", s)
		}
		f.renew(0)
		if s := stage(); s != ca.Steady {
			t.Fatalf("at %s, want steady", s)
		}
		if roots, _, _ := f.ca.Trust(); roots[0].Pin != first[0].Pin {
			t.Error("the root isn't the one from before")
		}
	})
}

// A control plane that is killed at any stage goes on when it starts again, but not
// before it has heard of every proxy that there was, or its certificate has ended:
// nobody is left behind with roots or a certificate that count no more.
func TestRestart(t *testing.T) {
	for _, away := range []ca.Stage{ca.Added, ca.Switched} {
		t.Run(string(away), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, f, stage := start(t, 2)
				file := filepath.Join(t.TempDir(), "proxies.json")
				c.mu.Lock()
				c.config.File = file
				c.mu.Unlock()
				f.mu.Lock()
				for i := range f.proxies {
					f.proxies[i].Ends = time.Now().Add(5 * time.Minute)
				}
				f.mu.Unlock()
				if err := c.Rotate(); err != nil {
					t.Fatal(err)
				}
				if away == ca.Switched {
					f.take(0)
					f.take(1)
					if s := stage(); s != ca.Switched {
						t.Fatalf("at %s", s)
					}
				}
				// It ends here, whatever it does: the next one has its files, and
				// hears of nobody at first.
				c.mu.Lock()
				c.config.Proxies = func() []push.Trusting { return f.list()[:0] }
				c.mu.Unlock()
				if _, err := os.Stat(file); err != nil {
					t.Fatal(err)
				}
				next := New(Config{CA: f.ca, File: file, Proxies: func() []push.Trusting { return f.list()[:0] }, Changed: func() error { return nil }, Log: slog.New(slog.DiscardHandler)})
				for range 100 {
					time.Sleep(look)
					next.advance()
				}
				if _, _, s := f.ca.Trust(); s != away {
					t.Fatalf("it went on to %s with nobody there", s)
				}
				if r := next.Report(); r.Waiting() != 2 || r.Proxies[0].Waiting != "has not been heard of since the control plane started, and is away" {
					t.Errorf("%+v", r.Proxies)
				}
				next.mu.Lock()
				next.config.Proxies = func() []push.Trusting { return f.list()[:1] } // the other's certificate ends
				next.mu.Unlock()
				for range int(10 * time.Minute / look) {
					time.Sleep(look)
					f.take(0)
					f.renew(0)
					f.mu.Lock()
					f.proxies[0].Ends = time.Now().Add(5 * time.Minute)
					f.mu.Unlock()
					next.advance()
				}
				if _, _, s := f.ca.Trust(); s != ca.Steady {
					t.Errorf("it stays at %s", s)
				}
				if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the list is still there: %v", err)
				}
			})
		})
	}
}

// A step that was taken, and of which the proxies couldn't be told at once, is one
// of a change that goes on.
func TestToldLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, stage := start(t, 1)
		stage() // it rests
		c.mu.Lock()
		c.config.Changed = func() error {
			c.config.Changed = func() error { return nil }
			return errors.New("the disk is full")
		}
		c.mu.Unlock()
		if c.Rotate() == nil {
			t.Fatal("no error")
		}
		f.take(0)
		if s := stage(); s != ca.Switched {
			t.Errorf("at %s", s)
		}
	})
}

func TestSeveral(t *testing.T) {
	if err := New(Config{Several: true}).Rotate(); err != ErrSeveral {
		t.Error(err)
	}
}
