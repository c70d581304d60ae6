package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// logEverything has the access log of each proxy have each request.
const logEverything = `---
apiVersion: tulle.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec: {accessLog: {mode: All}}
`

// linesOf counts the lines of files, each of which must be a whole one: but for the
// last, which may just be written, and then it is -1.
func linesOf(t *testing.T, files ...string) (n int) {
	t.Helper()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			switch {
			case !bytes.HasSuffix(line, []byte("\n")):
				return -1
			case !json.Valid(line):
				t.Fatalf("%s: not a line: %q", file, line)
			}
			n++
		}
	}
	return n
}

// The disk of a gateway's proxy is full, under load: requests go on, what the access
// log loses is counted, an upgrade is refused with the reason and changes nothing,
// and even a proxy that is killed comes back. With room again all is as before.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	m := bare(t)
	dir := filepath.Join(m.dir, "gateways", "default_edge")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=700"); err != nil {
		t.Skipf("this test mounts a small tmpfs, which this user may not (%v): run it as root", err)
	}
	// Before the directory is removed, and after all has ended.
	t.Cleanup(func() {
		m.stop()
		syscall.Unmount(dir, syscall.MNT_DETACH)
	})
	port := freePort(t)
	m.up(gatewayTo("edge", port) + outsideEcho(t) + logEverything)
	serves(t, port)
	log := filepath.Join(dir, "access.log")
	eventually(t, "the access log has lines", func() bool {
		info, err := os.Stat(log)
		return err == nil && info.Size() > 0
	})
	filler := filepath.Join(dir, "filler")
	fill := func() {
		t.Helper()
		f, err := os.OpenFile(filler, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for size := 1 << 20; size > 0; size /= 2 {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, size))
			}
		}
	}
	load := ask8("127.0.0.1:" + port)
	fill()
	pid := m.gatewayPID(t, "edge")
	eventually(t, "lines are lost and counted", func() bool {
		return m.metricAt(dir, `tulle_access_log_lines_total\{result="dropped"`) > 100
	})
	out, err := m.try("upgrade", "edge")
	if err == nil || !strings.Contains(out, "no space left") {
		t.Errorf("upgrade on a full disk: %v\n%s", err, out)
	}
	if now := m.gatewayPID(t, "edge"); now != pid {
		t.Errorf("process %d is now %d", pid, now)
	}
	load.more(t, 500)
	load.stop(t)

	syscall.Kill(pid, syscall.SIGKILL)
	serves(t, port)
	fill()
	serves(t, port)

	load = ask8("127.0.0.1:" + port)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	before := m.metricAt(dir, `tulle_access_log_lines_total\{result="written"`)
	eventually(t, "lines are written again", func() bool {
		return m.metricAt(dir, `tulle_access_log_lines_total\{result="written"`) > before
	})
	eventually(t, "an upgrade works again", func() bool {
		_, err := m.try("upgrade", "edge")
		return err == nil
	})
	load.more(t, 200)
	load.stop(t)
	m.gatewayPID(t, "edge")
	eventually(t, "the access log is one of lines", func() bool { return linesOf(t, log) > 0 })
}

// The access log's file is renamed and removed under load: no line is lost but those
// in the file that is gone, no request fails, and SIGHUP, which logrotate is often
// told to send, ends nothing.
func TestAccessLogRotated(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	m, _ := up(t, gatewayTo("edge", port)+outsideEcho(t)+logEverything)
	serves(t, port)
	dir := filepath.Join(m.dir, "gateways", "default_edge")
	log := filepath.Join(dir, "access.log")
	hasLines := func() bool {
		info, err := os.Stat(log)
		return err == nil && info.Size() > 0
	}
	eventually(t, "the access log has lines", hasLines)
	pid := m.gatewayPID(t, "edge")
	load := ask8("127.0.0.1:" + port)
	files := []string{log}
	for i := range 3 {
		load.more(t, 100)
		old := log + ".old" + string(rune('0'+i))
		if err := os.Rename(log, old); err != nil {
			t.Fatal(err)
		}
		files = append(files, old)
		if i > 0 {
			syscall.Kill(pid, syscall.SIGHUP)
		}
		eventually(t, "there is another access log", hasLines)
	}
	load.more(t, 100)
	close(load.quit)
	load.clients.Wait()
	if n := load.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed, the first: %v", n, load.done.Load(), *load.first.Load())
	}
	counted := func(result string) int {
		return int(m.metricAt(dir, `tulle_access_log_lines_total\{result="`+result+`"`))
	}
	eventually(t, "each line is in one of the files", func() bool {
		n := linesOf(t, files...)
		return n >= 0 && n == counted("written") && n+counted("dropped") >= int(load.done.Load())
	})
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	load = ask8("127.0.0.1:" + port)
	eventually(t, "there is one after it was removed", hasLines)
	load.stop(t)
	if now := m.gatewayPID(t, "edge"); now != pid {
		t.Errorf("process %d is now %d", pid, now)
	}
}
