package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a shell on a terminal of its own, as a person has it.
type terminal struct {
	t      *testing.T
	master *os.File
	out    *buffer
	seen   int // how much of out has been waited for
}

func openTerminal(t *testing.T, env []string) *terminal {
	t.Helper()
	bash := need(t, "bash", "bash")
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	cmd := exec.Command(bash, "--norc", "--noprofile", "-i")
	cmd.Env = append(env, "PS1=$ ", "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, master: master, out: new(buffer)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(x.out, master) // ends when the last program on it has
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGHUP)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		master.Close()
		<-read
		if t.Failed() {
			t.Logf("the terminal:\n%s", x.out)
		}
	})
	return x
}

// typed writes keys, if there are any, and waits until the terminal shows a text
// after them, and after what was waited for before.
func (x *terminal) typed(keys, want string) {
	x.t.Helper()
	if keys != "" {
		x.seen = len(x.out.String())
	}
	if _, err := io.WriteString(x.master, keys); err != nil {
		x.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if at := strings.Index(x.out.String()[x.seen:], want); at >= 0 {
			x.seen += at + len(want)
			return
		}
	}
	x.t.Fatalf("typed %q, waited for %q; the terminal:\n%s", keys, want, x.out)
}

// A program under tulle run has the terminal as it would have it without:
// input, size, Ctrl-C, Ctrl-Z and fg, pipelines, exit codes.
func TestTerminal(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	for _, mode := range []string{"netns", "explicit"} {
		t.Run(mode, func(t *testing.T) {
			m := newMesh(t)
			x := openTerminal(t, m.env)
			run := "tulle run -q --mode " + mode + " -- "
			x.typed(run+"bash -c 'test -t 0 && test -t 1 && echo is-a-$((1+1))-way-terminal; stty size'\n", "is-a-2-way-terminal")
			x.typed("", "33 77")
			x.typed(run+"bash -c 'read -p \"na\"\"me? \" name; echo hello, $name'\n", "name? ")
			x.typed("reader\n", "hello, reader")
			// Ctrl-C reaches the program once, and its exit code the shell.
			x.typed(run+"bash -c 'n=0; trap \"n=\\$((n+1))\" INT; echo wai\"\"ting; sleep 1; sleep 1; echo interrupted $n times; exit 5'\n", "waiting\r\n")
			x.typed("\x03", "interrupted 1 times")
			x.typed("echo code=$?\n", "code=5\r\n")
			x.typed(run+"sleep 100\n", "sleep 100\r\n")
			time.Sleep(500 * time.Millisecond)
			x.typed("\x03", "$ ")
			x.typed("echo code=$?\n", "code=130\r\n")
			// Ctrl-Z stops it, fg goes on.
			x.typed(run+"bash -c 'echo be\"\"gins; read line; echo got $line'\n", "begins\r\n")
			x.typed("\x1a", "Stopped")
			x.typed("echo at the prompt\n", "at the prompt\r\n")
			x.typed("fg\n", "tulle run")
			x.typed("a line\n", "got a line")
			// In a pipeline, and in the background.
			x.typed("echo through | "+run+"cat | tr a-z A-Z\n", "THROUGH")
			x.typed(run+"bash -c 'exit 3' & wait $!; echo code=$?\n", "code=3\r\n")
		})
	}
}

func TestExitCodesAndSignals(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	bash := need(t, "bash", "bash")
	for script, want := range map[string]int{"exit 0": 0, "exit 42": 42, "kill -KILL $$": 128 + 9, "kill -SEGV $$": 128 + 11} {
		p := m.serve("--", bash, "-c", script)
		p.wait(patience)
		if got := p.cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: exit code %d, want %d", script, got, want)
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT} {
		p := m.serve("--", bash, "-c", fmt.Sprintf("trap 'exit 99' %d; echo ready; while :; do sleep 0.01; done", int(s)))
		p.await("ready")
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		p.wait(patience)
		if got := p.cmd.ProcessState.ExitCode(); got != 99 {
			t.Errorf("%v: exit code %d, want 99 (from the program's handler)", s, got)
		}
	}
}

// When tulle run itself is killed, neither the program nor the proxy stays.
func TestRunKilled(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	for _, mode := range []string{"netns", "explicit"} {
		name := "victim-" + mode
		p := m.serve("--name", name, "--mode", mode, "--", need(t, "bash", "bash"), "-c", "echo pid=$$; while :; do sleep 0.01; done")
		p.await("pid=")
		_, text, _ := strings.Cut(p.out.String(), "pid=")
		pid, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			t.Fatal(err)
		}
		proxy := m.proxyPID(name)
		p.kill()
		for what, pid := range map[string]int{"program": pid, "proxy": proxy} {
			for deadline := time.Now().Add(patience); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
				if state, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")); strings.Contains(string(state), ") Z ") {
					break // dead, and its adoptive parent hasn't looked yet
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s: the %s still runs", mode, what)
				}
			}
		}
	}
}
