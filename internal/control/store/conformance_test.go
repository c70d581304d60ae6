package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test binary be the etcd child.
func TestMain(m *testing.M) {
	if n, err := strconv.ParseInt(os.Getenv("TULLE_TEST_QUOTA"), 10, 64); err == nil {
		quota = n
	}
	if len(os.Args) > 2 && os.Args[1] == "etcd" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := ServeEtcd(ctx, os.Args[3], os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tulle") // t.TempDir's name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func startEtcd(t *testing.T, dir string) *Embedded {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := StartEmbedded(t.Context(), filepath.Join(dir, "etcd"), []string{self, "etcd"}, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// TestConformance is one suite for every implementation.
func TestConformance(t *testing.T) {
	stores := map[string]func(t *testing.T) Store{
		"memory": func(t *testing.T) Store { return NewMemory() },
		"etcd":   func(t *testing.T) Store { return startEtcd(t, shortDir(t)) },
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			defer s.Close()
			for _, c := range []struct {
				name string
				test func(*testing.T, Store, string)
			}{
				{"get and put", testGetPut}, {"conditions", testConditions}, {"list", testList},
				{"watch", testWatch}, {"watch from before", testWatchBefore}, {"leases", testLeases},
				{"one winner", testOneWinner}, {"bounds", testBounds}, {"contexts", testContexts},
				{"follow", testFollow},
			} {
				t.Run(c.name, func(t *testing.T) { c.test(t, s, "/tulle/"+t.Name()+"/") })
			}
		})
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func testGetPut(t *testing.T, s Store, p string) {
	ctx := t.Context()
	_, err := s.Get(ctx, p+"a")
	wantErr(t, err, ErrNotFound)
	r := must[int64](t)(s.Put(ctx, p+"a", []byte("1"), AnyRevision, 0))
	it := must[Item](t)(s.Get(ctx, p+"a"))
	if d := cmp.Diff(Item{Key: p + "a", Value: []byte("1"), Revision: r}, it); d != "" {
		t.Error(d)
	}
	if r2 := must[int64](t)(s.Put(ctx, p+"a", []byte("2"), AnyRevision, 0)); r2 <= r {
		t.Errorf("revision %d after %d", r2, r)
	}
	gone := must[int64](t)(s.Delete(ctx, p+"a", AnyRevision))
	if gone <= r {
		t.Errorf("revision %d after %d", gone, r)
	}
	_, err = s.Get(ctx, p+"a")
	wantErr(t, err, ErrNotFound)
	_, err = s.Delete(ctx, p+"a", AnyRevision)
	wantErr(t, err, ErrNotFound)
}

func testConditions(t *testing.T, s Store, p string) {
	ctx := t.Context()
	r := must[int64](t)(s.Put(ctx, p+"a", []byte("1"), 0, 0))
	_, err := s.Put(ctx, p+"a", []byte("2"), 0, 0)
	wantErr(t, err, ErrConflict)
	_, err = s.Put(ctx, p+"a", []byte("2"), r+1000, 0)
	wantErr(t, err, ErrConflict)
	r2 := must[int64](t)(s.Put(ctx, p+"a", []byte("2"), r, 0))
	_, err = s.Delete(ctx, p+"a", r)
	wantErr(t, err, ErrConflict)
	_, err = s.Delete(ctx, p+"none", 5)
	wantErr(t, err, ErrNotFound)
	must[int64](t)(s.Delete(ctx, p+"a", r2))
	must[int64](t)(s.Put(ctx, p+"a", []byte("3"), 0, 0))
}

func testList(t *testing.T, s Store, p string) {
	ctx := t.Context()
	const n = 1203 // more than two pages
	for i := range n {
		must[int64](t)(s.Put(ctx, fmt.Sprintf("%s%04d", p, i), []byte{byte(i)}, AnyRevision, 0))
	}
	items, revision, err := s.List(ctx, p)
	if err != nil || len(items) != n {
		t.Fatalf("%d items, %v", len(items), err)
	}
	for i, it := range items {
		if it.Key != fmt.Sprintf("%s%04d", p, i) || it.Value[0] != byte(i) {
			t.Fatalf("item %d is %v", i, it)
		}
		if it.Revision > revision {
			t.Fatalf("item of revision %d in a list of revision %d", it.Revision, revision)
		}
	}
	if items, _, err := s.List(ctx, p+"zz"); err != nil || len(items) != 0 {
		t.Errorf("empty prefix: %v %v", items, err)
	}
}

type seen struct {
	Key, Value string
	Deleted    bool
}

func collect(t *testing.T, in <-chan Changes, n int) []seen {
	t.Helper()
	var out []seen
	timeout := time.After(time.Minute)
	last := int64(0)
	for len(out) < n {
		select {
		case c, ok := <-in:
			if !ok || c.Err != nil {
				t.Fatalf("watch ended after %v: %v", out, c.Err)
			}
			for _, e := range c.Events {
				if e.Revision < last {
					t.Fatalf("revision went back from %d to %d", last, e.Revision)
				}
				last = e.Revision
				out = append(out, seen{e.Key, string(e.Value), e.Deleted})
			}
		case <-timeout:
			t.Fatalf("only %v came", out)
		}
	}
	return out
}

func testWatch(t *testing.T, s Store, p string) {
	ctx := t.Context()
	_, revision, err := s.List(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	w := s.Watch(ctx, p, revision)
	must[int64](t)(s.Put(ctx, p+"a", []byte("1"), AnyRevision, 0))
	must[int64](t)(s.Put(ctx, "/elsewhere/"+p, []byte("1"), AnyRevision, 0))
	must[int64](t)(s.Put(ctx, p+"b", []byte("2"), AnyRevision, 0))
	must[int64](t)(s.Delete(ctx, p+"a", AnyRevision))
	want := []seen{{p + "a", "1", false}, {p + "b", "2", false}, {p + "a", "", true}}
	if d := cmp.Diff(want, collect(t, w, 3)); d != "" {
		t.Error(d)
	}
}

func testWatchBefore(t *testing.T, s Store, p string) {
	ctx := t.Context()
	r := must[int64](t)(s.Put(ctx, p+"a", []byte("1"), AnyRevision, 0))
	must[int64](t)(s.Put(ctx, p+"a", []byte("2"), AnyRevision, 0))
	must[int64](t)(s.Put(ctx, p+"a", []byte("3"), AnyRevision, 0))
	want := []seen{{p + "a", "2", false}, {p + "a", "3", false}}
	if d := cmp.Diff(want, collect(t, s.Watch(ctx, p, r), 2)); d != "" {
		t.Error(d)
	}
	ctx2, cancel := context.WithCancel(ctx)
	w := s.Watch(ctx2, p, r+100)
	cancel()
	for range w { // must end
	}
}

func testLeases(t *testing.T, s Store, p string) {
	ctx := t.Context()
	const short, long = 3 * time.Second, 8 * time.Second // a busy disk may take its time between two calls
	l := must[Lease](t)(s.Grant(ctx, short))
	kept := must[Lease](t)(s.Grant(ctx, long))
	granted := time.Now()
	r := must[int64](t)(s.Put(ctx, p+"a", []byte("1"), AnyRevision, l))
	must[int64](t)(s.Put(ctx, p+"kept", []byte("1"), AnyRevision, kept))
	if it := must[Item](t)(s.Get(ctx, p+"a")); it.Lease != l {
		t.Errorf("lease %d, want %d", it.Lease, l)
	}
	w := s.Watch(ctx, p, r+1)
	stop := make(chan struct{})
	var renewed sync.WaitGroup
	renewed.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
				if err := s.Renew(ctx, kept); err != nil {
					t.Errorf("renew: %v", err)
				}
			}
		}
	})
	if d := cmp.Diff([]seen{{p + "a", "", true}}, collect(t, w, 1)); d != "" {
		t.Error(d)
	}
	time.Sleep(time.Until(granted.Add(long + time.Second))) // it would have ended, too
	close(stop)
	renewed.Wait()
	wantErr(t, s.Renew(ctx, l), ErrLeaseEnded)
	_, err := s.Put(ctx, p+"b", []byte("1"), AnyRevision, l)
	wantErr(t, err, ErrLeaseEnded)
	must[Item](t)(s.Get(ctx, p+"kept"))
	if err := s.Revoke(ctx, kept); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(ctx, p+"kept")
	wantErr(t, err, ErrNotFound)
	wantErr(t, s.Revoke(ctx, kept), ErrLeaseEnded)
}

// testOneWinner: of many who delete the same key, one succeeds. (Join tokens
// are used once because of this.)
func testOneWinner(t *testing.T, s Store, p string) {
	ctx := t.Context()
	r := must[int64](t)(s.Put(ctx, p+"token", []byte("1"), 0, 0))
	var wins, losses int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := s.Delete(ctx, p+"token", r)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				wins++
			} else if errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) {
				losses++
			}
		})
	}
	all.Wait()
	if wins != 1 || losses != 7 {
		t.Errorf("%d wins and %d losses, want 1 and 7", wins, losses)
	}
}

func testBounds(t *testing.T, s Store, p string) {
	ctx := t.Context()
	if _, err := s.Put(ctx, p+"big", make([]byte, MaxValue+1), AnyRevision, 0); err == nil {
		t.Error("a value too large was taken")
	}
	must[int64](t)(s.Put(ctx, p+"big", make([]byte, MaxValue), AnyRevision, 0))
	if _, err := s.Put(ctx, "", nil, AnyRevision, 0); err == nil {
		t.Error("an empty key was taken")
	}
}

func testContexts(t *testing.T, s Store, p string) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Put(ctx, p+"a", nil, AnyRevision, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	for range s.Watch(ctx, p, 0) {
	}
}

func testFollow(t *testing.T, s Store, p string) {
	ctx, cancel := context.WithCancel(t.Context())
	must[int64](t)(s.Put(ctx, p+"a", []byte("1"), AnyRevision, 0))
	type step struct {
		reset bool
		seen  []seen
	}
	steps := make(chan step, 10)
	var done sync.WaitGroup
	done.Go(func() {
		Follow(ctx, s, p, func(reset bool, c Changes) {
			st := step{reset: reset}
			for _, e := range c.Events {
				st.seen = append(st.seen, seen{e.Key, string(e.Value), e.Deleted})
			}
			steps <- st
		})
	})
	if d := cmp.Diff(step{true, []seen{{p + "a", "1", false}}}, <-steps, cmp.AllowUnexported(step{})); d != "" {
		t.Error(d)
	}
	must[int64](t)(s.Put(ctx, p+"b", []byte("2"), AnyRevision, 0))
	if d := cmp.Diff(step{false, []seen{{p + "b", "2", false}}}, <-steps, cmp.AllowUnexported(step{})); d != "" {
		t.Error(d)
	}
	cancel()
	done.Wait()
}
