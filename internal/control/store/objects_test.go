package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
)

func service(t *testing.T, name, more string) *corev1.Service {
	t.Helper()
	docs, err := object.Decode("test", fmt.Appendf(nil, "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{port: 80}]%s}\n", name, more))
	if err != nil {
		t.Fatal(err)
	}
	return docs[0].Object.(*corev1.Service)
}

func TestApply(t *testing.T) {
	ctx := t.Context()
	o := NewObjects(NewMemory())
	dry, action, err := o.Apply(ctx, service(t, "cart", ""), true)
	if err != nil || action != Created || dry.GetName() != "cart" {
		t.Fatalf("dry run: %v %v", action, err)
	}
	if _, err := o.Fetch(ctx, object.Service, "default", "cart"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a dry run wrote: %v", err)
	}
	first, action, err := o.Apply(ctx, service(t, "cart", ""), false)
	if err != nil || action != Created || first.GetGeneration() != 1 || first.GetUID() == "" || first.GetResourceVersion() == "" {
		t.Fatalf("%+v %v %v", first, action, err)
	}
	if len(first.(*corev1.Service).Spec.ClusterIPs) != 2 {
		t.Errorf("addresses: %v", first.(*corev1.Service).Spec.ClusterIPs)
	}
	same, action, err := o.Apply(ctx, service(t, "cart", ""), false)
	if err != nil || action != Unchanged || same.GetResourceVersion() != first.GetResourceVersion() {
		t.Errorf("the same again: %v %v", action, err)
	}
	changed, action, err := o.Apply(ctx, service(t, "cart", ", selector: {a: b}"), false)
	if err != nil || action != Configured || changed.GetGeneration() != 2 || changed.GetUID() != first.GetUID() {
		t.Errorf("%+v %v %v", changed, action, err)
	}
	if fmt.Sprint(changed.(*corev1.Service).Spec.ClusterIPs) != fmt.Sprint(first.(*corev1.Service).Spec.ClusterIPs) {
		t.Error("the addresses changed")
	}
	old := service(t, "cart", "")
	old.ResourceVersion = first.GetResourceVersion()
	if _, _, err := o.Apply(ctx, old, false); !errors.Is(err, ErrConflict) {
		t.Errorf("an old resourceVersion: %v", err)
	}
	old.ResourceVersion = changed.GetResourceVersion()
	if _, _, err := o.Apply(ctx, old, false); err != nil {
		t.Errorf("the current resourceVersion: %v", err)
	}
	if _, err := o.Remove(ctx, object.Service, "default", "cart", "1", false); !errors.Is(err, ErrConflict) {
		t.Errorf("remove with an old resourceVersion: %v", err)
	}
	if _, err := o.Remove(ctx, object.Service, "default", "cart", "", true); err != nil {
		t.Error(err)
	}
	if _, err := o.Remove(ctx, object.Service, "default", "cart", "", false); err != nil {
		t.Error(err)
	}
	if _, err := o.Remove(ctx, object.Service, "default", "cart", "", false); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	again, _, err := o.Apply(ctx, service(t, "cart", ""), false)
	if err != nil || fmt.Sprint(again.(*corev1.Service).Spec.ClusterIPs) != fmt.Sprint(first.(*corev1.Service).Spec.ClusterIPs) {
		t.Error("a service made again got other addresses")
	}
}

func TestAddressesAreUnique(t *testing.T) {
	ctx := t.Context()
	o := NewObjects(NewMemory())
	taken := service(t, "first", "")
	v4, v6 := object.VirtualAddresses(object.VirtualIndex("default", "second"))
	taken.Spec.ClusterIPs = []string{v4.String(), v6.String()}
	if _, _, err := o.Apply(ctx, taken, false); err != nil {
		t.Fatal(err)
	}
	second, _, err := o.Apply(ctx, service(t, "second", ""), false)
	if err != nil || second.(*corev1.Service).Spec.ClusterIPs[0] == v4.String() {
		t.Errorf("the address of another was given: %v %v", second, err)
	}
	third := service(t, "third", "")
	third.Spec.ClusterIPs = taken.Spec.ClusterIPs
	if _, _, err := o.Apply(ctx, third, false); err == nil || !strings.Contains(err.Error(), "default/first") {
		t.Errorf("taken by hand: %v", err)
	}
	seen := map[string]string{}
	for i := range 300 {
		name := fmt.Sprintf("s-%d", i)
		s, _, err := o.Apply(ctx, service(t, name, ""), false)
		if err != nil {
			t.Fatal(err)
		}
		for _, ip := range s.(*corev1.Service).Spec.ClusterIPs {
			if seen[ip] != "" {
				t.Fatalf("%s has the address of %s", name, seen[ip])
			}
			seen[ip] = name
		}
	}
}

func TestStatusIsTheControlPlanes(t *testing.T) {
	ctx := t.Context()
	o := NewObjects(NewMemory())
	w := object.Workload.New().(*v1alpha1.Workload)
	w.Name = "cart-1"
	object.Default(w)
	ready := true
	w.Status.Ready = &ready // sent by somebody: not taken
	stored, _, err := o.Apply(ctx, w, false)
	if err != nil || stored.(*v1alpha1.Workload).Status.Ready != nil {
		t.Fatalf("%+v %v", stored, err)
	}
	updated, err := o.Update(ctx, object.Workload, "default", "cart-1", false, func(obj object.Object) bool {
		obj.(*v1alpha1.Workload).Status.Ready = &ready
		return true
	})
	if err != nil || updated.GetGeneration() != 1 {
		t.Fatalf("%+v %v", updated, err)
	}
	w.Spec.Zone = "a"
	w.Status.Ready = nil
	stored, action, err := o.Apply(ctx, w, false)
	if err != nil || action != Configured || stored.(*v1alpha1.Workload).Status.Ready == nil {
		t.Errorf("the status was lost: %+v %v", stored, err)
	}
}

// TestConcurrentUpdates: none of many writers' changes is lost.
func TestConcurrentUpdates(t *testing.T) {
	ctx := t.Context()
	o := NewObjects(NewMemory())
	if _, _, err := o.Apply(ctx, service(t, "cart", ""), false); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for {
				_, err := o.Update(ctx, object.Service, "default", "cart", false, func(obj object.Object) bool {
					labels := obj.GetLabels()
					if labels == nil {
						labels = map[string]string{}
					}
					labels[fmt.Sprint("l", i)] = "x"
					obj.SetLabels(labels)
					return true
				})
				if err == nil {
					return
				}
				if !errors.Is(err, ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	got, err := o.Fetch(ctx, object.Service, "default", "cart")
	if err != nil || len(got.GetLabels()) != 4 {
		t.Errorf("%v %v", got.GetLabels(), err)
	}
}

func TestKeysOfObjects(t *testing.T) {
	for _, k := range object.Kinds() {
		ns := ""
		if k.Namespaced {
			ns = "default"
		}
		got, gotNS, name, ok := ParseKey(Key(k, ns, "a.b-c"))
		if !ok || got != k || gotNS != ns || name != "a.b-c" {
			t.Errorf("%s: %v %q %q %v", k.Name, got, gotNS, name, ok)
		}
	}
	for _, bad := range []string{"", "/tulle/objects/core/services/default", "/elsewhere/core/services/default/a", "/tulle/objects/x/y/z/a"} {
		if _, _, _, ok := ParseKey(bad); ok {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestFull(t *testing.T) {
	m := NewMemory()
	o := NewObjects(m)
	if _, _, err := o.Apply(t.Context(), service(t, "cart", ""), false); err != nil {
		t.Fatal(err)
	}
	m.SetFull(true)
	if _, _, err := o.Apply(t.Context(), service(t, "web", ""), false); !errors.Is(err, ErrFull) {
		t.Errorf("writing: %v", err)
	}
	if _, err := o.Fetch(t.Context(), object.Service, "default", "cart"); err != nil {
		t.Errorf("reading: %v", err)
	}
}

// TestFollowAfterCompaction: a follower whose revision is gone starts again
// with everything.
func TestFollowAfterCompaction(t *testing.T) {
	m := NewMemory()
	m.Put(t.Context(), "/a", nil, AnyRevision, 0)
	_, old, _ := m.List(t.Context(), "/")
	m.Put(t.Context(), "/b", nil, AnyRevision, 0)
	m.Compact()
	c := <-m.Watch(t.Context(), "/", old)
	if !errors.Is(c.Err, ErrCompacted) {
		t.Errorf("got %+v", c)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); err == nil || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a second lock: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// TestEtcdSurvives: everything is there after the child was killed, and after
// the parent began again; leases too.
func TestEtcdSurvives(t *testing.T) {
	dir := shortDir(t)
	e := startEtcd(t, dir)
	ctx := t.Context()
	must[int64](t)(e.Put(ctx, "/a", []byte("1"), AnyRevision, 0))
	lease := must[Lease](t)(e.Grant(ctx, time.Minute))
	must[int64](t)(e.Put(ctx, "/leased", []byte("1"), AnyRevision, lease))
	_, revision, err := e.List(ctx, "/")
	if err != nil {
		t.Fatal(err)
	}
	w := e.Watch(ctx, "/", revision)
	pid, _ := e.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err := e.Put(ctx, "/b", []byte("2"), AnyRevision, 0); err == nil {
			break
		} else if !errors.Is(err, ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			t.Logf("while it is away: %v", err)
		}
		if time.Now().After(deadline) {
			t.Fatal("not back after a minute")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if got := collect(t, w, 1); got[0].Key != "/b" {
		t.Errorf("the watch missed it: %v", got)
	}
	if now, restarts := e.PID(); now == pid || restarts != 1 {
		t.Errorf("pid %d, restarted %d times", now, restarts)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	again := startEtcd(t, dir)
	for _, key := range []string{"/a", "/b", "/leased"} {
		if _, err := again.Get(ctx, key); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := again.Renew(ctx, lease); err != nil {
		t.Errorf("the lease: %v", err)
	}
	status, err := again.Status(ctx)
	if err != nil || status.Quota != Quota || status.Bytes == 0 {
		t.Errorf("%+v %v", status, err)
	}
}

// TestEtcdEndsWithItsParent starts a process that starts etcd, kills it with
// SIGKILL, and expects the grandchild to end.
func TestEtcdEndsWithItsParent(t *testing.T) {
	if dir := os.Getenv("TULLE_TEST_PARENT"); dir != "" {
		e := startEtcd(t, dir)
		pid, _ := e.PID()
		fmt.Printf("child %d\n", pid)
		select {} // until it is killed
	}
	dir := shortDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestEtcdEndsWithItsParent$", "-test.v")
	cmd.Env = append(os.Environ(), "TULLE_TEST_PARENT="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	var line string
	for child == 0 {
		if _, err := fmt.Fscanln(out, &line, &child); errors.Is(err, os.ErrClosed) || err != nil && err.Error() == "EOF" {
			t.Fatal("the parent ended")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	deadline := time.Now().Add(time.Minute)
	for syscall.Kill(child, 0) == nil {
		// A zombie adopted by a process that doesn't wait is ended as well.
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child)); err == nil && strings.Contains(string(stat), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			syscall.Kill(child, syscall.SIGKILL)
			t.Fatal("etcd outlived its parent by a minute")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestQuota: with the quota reached writing fails and says why, reading and
// deleting go on, and what was deleted makes room again.
func TestQuota(t *testing.T) {
	old := quota
	quota = 4 << 20
	defer func() { quota = old }()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The child gets no variable of ours, so env sets the test's.
	e, err := StartEmbedded(t.Context(), filepath.Join(shortDir(t), "etcd"),
		[]string{"/usr/bin/env", fmt.Sprintf("TULLE_TEST_QUOTA=%d", quota), self, "etcd"}, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx := t.Context()
	value := make([]byte, 200_000)
	n := 0
	for ; err == nil; n++ {
		if n > 100 {
			t.Fatal("the quota is never reached")
		}
		_, err = e.Put(ctx, fmt.Sprintf("/fill/%03d", n), value, AnyRevision, 0)
	}
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "quota") {
		t.Fatalf("got %v", err)
	}
	if _, err := e.Status(ctx); !errors.Is(err, ErrFull) {
		t.Errorf("status: %v", err)
	}
	if _, err := e.Get(ctx, "/fill/000"); err != nil {
		t.Errorf("reading: %v", err)
	}
	for i := range n - 1 {
		if _, err := e.Delete(ctx, fmt.Sprintf("/fill/%03d", i), AnyRevision); err != nil {
			t.Fatalf("deleting: %v", err)
		}
	}
	if err := e.reclaim(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Put(ctx, "/after", value, AnyRevision, 0); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if _, err := e.Status(ctx); err != nil {
		t.Errorf("status: %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if _, err := StartEmbedded(t.Context(), long, []string{self, "etcd"}, discard()); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a long path: %v", err)
	}
	if _, err := StartEmbedded(t.Context(), filepath.Join(shortDir(t), "e"), []string{"/nonexistent/tulle", "etcd"}, discard()); err == nil || !strings.Contains(err.Error(), "/nonexistent/tulle") {
		t.Errorf("no such program: %v", err)
	}
	dir := shortDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "etcd"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etcd", "data"), []byte("no directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := StartEmbedded(t.Context(), filepath.Join(dir, "etcd"), []string{self, "etcd"}, discard()); err == nil {
		t.Error("a data directory that is none was taken")
	} else if time.Since(start) > time.Minute {
		t.Errorf("took %s to say: %v", time.Since(start), err)
	}
}
