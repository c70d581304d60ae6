package control

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
)

// TestFullDiskWhileTheRootChanges: with no room left a change of the root doesn't
// begin, and says why; one that has begun rests where it is, with everybody's
// certificates good; with room again it goes to its end, and a control plane that
// starts then is of the new root.
func TestFullDiskWhileTheRootChanges(t *testing.T) {
	dir := shortDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=150m"); err != nil {
		t.Skipf("this test mounts a small tmpfs, which this user may not (%v): run it as root", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	r := start(t, dir)
	web := r.proxy("web", r.token("default/web"))
	trust := func() *client.Trust {
		t.Helper()
		var s *client.Trust
		eventually(t, "the control plane says which roots there are", func() (ok bool) {
			var err error
			s, err = r.client.Trust(t.Context())
			return err == nil
		})
		return s
	}
	signs := func(s *client.Trust) string {
		for _, root := range s.Roots {
			if root.Signs {
				return root.SHA256
			}
		}
		return ""
	}
	eventually(t, "web has taken the roots", func() bool {
		s := trust()
		return len(s.Proxies) == 1 && s.Proxies[0].Roots && s.Proxies[0].Certificate
	})
	first := signs(trust())

	// It doesn't begin.
	fill := filepath.Join(dir, "fill")
	fillDisk(t, fill)
	_, err := r.client.ChangeTrust(t.Context(), client.TrustRotate)
	var status *client.Status
	if !errors.As(err, &status) || status.Code < 500 {
		t.Errorf("a change of the root on a full disk: %v, want a failure that says why", err)
	}
	if s := trust(); s.Stage != "steady" || len(s.Roots) != 1 || signs(s) != first {
		t.Errorf("after that: %+v", s)
	}

	// It begins and can't go on.
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	eventually(t, "with room again it begins", func() bool {
		_, err := r.client.ChangeTrust(t.Context(), client.TrustRotate)
		return err == nil
	})
	fillDisk(t, fill)
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		s := trust()
		if len(s.Roots) != 2 && s.Stage != "steady" || signs(s) == "" {
			t.Fatalf("on a full disk: %+v", s)
		}
		if svid := web.Credentials().SVID(); svid == nil || !svid.Leaf.NotAfter.After(time.Now()) {
			t.Fatal("the proxy has no good certificate")
		}
	}
	t.Logf("the disk is full at stage %s", trust().Stage)

	// It goes to its end.
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	eventually(t, "with room again the change ends", func() bool { return trust().Stage == "steady" })
	after := trust()
	if signs(after) == first || len(after.Roots) != 1 {
		t.Errorf("at the end: %+v, want the new root alone", after)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, dir)
	if s := trust(); s.Stage != "steady" || signs(s) != signs(after) {
		t.Errorf("after a restart: %+v, want %+v", s, after)
	}
	eventually(t, "web is connected again, with a certificate of the new root", func() bool {
		s := trust()
		return len(s.Proxies) == 1 && s.Proxies[0].Connected && s.Proxies[0].Roots && s.Proxies[0].Certificate
	})
}

// fillDisk takes all the room that is left.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for block := make([]byte, size); err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}
