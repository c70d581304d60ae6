package control

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
)

// TestFullDisk fills the disk under a control plane: writing fails with the
// reason, reading goes on, nothing that was written is lost, and with room
// again everything works.
func TestFullDisk(t *testing.T) {
	dir := shortDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=150m"); err != nil {
		t.Skipf("this test mounts a small tmpfs, which this user may not (%v): run it as root", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	r := start(t, dir)
	r.apply(cartService)
	fill := filepath.Join(dir, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(block)
	}
	f.Close()
	put := func(name string) error {
		docs, err := object.Decode("", []byte(strings.ReplaceAll(cartService, "cart", name)))
		if err != nil {
			t.Fatal(err)
		}
		o := docs[0].Object
		o.SetAnnotations(map[string]string{"filler": strings.Repeat("x", 200_000)})
		data, err := object.Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.client.Apply(t.Context(), resource(object.Service), "default", name, data, false)
		return err
	}
	// A page of etcd's file is there already, so the first writes may succeed.
	var full *client.Status
	written := map[string]bool{}
	eventually(t, "a write fails for want of room", func() bool {
		name := "s" + strings.ToLower(strings.Repeat("x", len(written)))
		if err := put(name); err == nil {
			written[name] = true
			return false
		} else if errors.As(err, &full) && full.Code == 507 {
			return true
		}
		return false
	})
	if !strings.Contains(full.Message, "space") {
		t.Errorf("the message doesn't say why: %s", full.Message)
	}
	if _, err := r.client.Get(t.Context(), resource(object.Service), "default", "cart"); err != nil {
		t.Errorf("reading: %v", err)
	}
	check, err := r.client.Check(t.Context())
	if err != nil || check.Result != client.Failure {
		t.Errorf("check: %+v %v", check, err)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	eventually(t, "writing works again", func() bool { return put("after") == nil })
	for name := range written {
		if _, err := r.client.Get(t.Context(), resource(object.Service), "default", name); err != nil {
			t.Errorf("%s was written and is lost: %v", name, err)
		}
	}
}
