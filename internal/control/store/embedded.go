package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 5 * time.Second
	firstRestart = 100 * time.Millisecond
	mostRestart  = 10 * time.Second
	tendInterval = time.Minute
)

// Embedded is a Store in an etcd of its own, run as a child process. Its
// goroutines end with Close, and so does the child.
type Embedded struct {
	*Etcd
	cancel context.CancelFunc
	done   sync.WaitGroup
	log    *slog.Logger

	mu       sync.Mutex
	pid      int
	restarts int
	down     error // why the child isn't there; nil while it answers
}

// StartEmbedded starts an etcd with its files in dir (made with mode 0700) by
// running command with "--dir DIR" added, and waits until it answers.
func StartEmbedded(ctx context.Context, dir string, command []string, log *slog.Logger) (*Embedded, error) {
	if n := len(filepath.Join(dir, clientSocket)); n > maxSocketPath {
		return nil, fmt.Errorf("the data directory's path is too long for a Unix socket: %s has %d bytes, %d are possible; choose a shorter --data-dir", filepath.Join(dir, clientSocket), n, maxSocketPath)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcd's directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcd's directory: %w", err)
	}
	client, err := newEtcd(EtcdConfig{Endpoints: []string{"unix://" + filepath.Join(dir, clientSocket)}}, "embedded etcd")
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.Background())
	e := &Embedded{Etcd: client, cancel: cancel, log: log}
	args := append(append([]string{}, command...), "--dir", dir)
	first := make(chan error, 1)
	e.done.Go(func() { e.supervise(run, args, first) })

	start, stop := context.WithTimeout(ctx, startTimeout)
	defer stop()
	opened := make(chan error, 1)
	go func() { opened <- client.await(start) }()
	select {
	case err = <-opened:
	case err = <-first: // the child ended before it ever answered
		stop()
		<-opened
		if err != nil && !errors.Is(err, ErrFull) {
			err = fmt.Errorf("the store in %s can't be opened: %w; bring a copy of the directory back, or move it away to begin with an empty store (identities stay, objects have to be applied again)", dir, err)
		}
	}
	if err != nil {
		e.Close()
		return nil, err
	}
	e.quota = quota
	e.done.Go(func() { e.tend(run) })
	return e, nil
}

// supervise runs the child again and again until the context ends. The
// goroutine keeps its thread, because Linux ties a child's life to the thread
// that started it.
func (e *Embedded) supervise(ctx context.Context, args []string, first chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wait := firstRestart
	for n := 0; ; n++ {
		began := time.Now()
		err := e.runOnce(ctx, args)
		if ctx.Err() != nil {
			return
		}
		if n == 0 && time.Since(began) < startTimeout {
			select {
			case first <- err:
			default:
			}
		}
		if time.Since(began) > mostRestart {
			wait = firstRestart
		}
		e.mu.Lock()
		e.down = err
		e.mu.Unlock()
		e.log.Error("embedded etcd ended, starting it again", "error", err, "in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, mostRestart)
		e.mu.Lock()
		e.restarts++
		e.mu.Unlock()
	}
}

func (e *Embedded) runOnce(ctx context.Context, args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	var tail tailWriter
	cmd.Stderr = &tail
	cmd.SysProcAttr = childAttributes()
	// etcd reads settings from ETCD_… variables; it gets none.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	hold, err := cmd.StdinPipe() // ends with this process, and the child with it
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	e.mu.Lock()
	e.pid = cmd.Process.Pid
	e.mu.Unlock()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	answers, stop := context.WithCancel(ctx)
	defer stop()
	e.done.Go(func() { e.awaitAnswer(answers) })
	select {
	case err = <-ended:
	case <-ctx.Done():
		hold.Close()
		select {
		case err = <-ended:
		case <-time.After(stopTimeout):
			cmd.Process.Kill()
			err = <-ended
		}
		return err
	}
	hold.Close()
	text := tail.String()
	if strings.Contains(text, "no space left on device") {
		return fmt.Errorf("%w: no space is left on the disk of the data directory", ErrFull)
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	if text == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, text)
}

// awaitAnswer waits until a child that was started again answers.
func (e *Embedded) awaitAnswer(ctx context.Context) {
	for e.isDown() != nil && ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, time.Second)
		_, err := e.Etcd.Get(one, ObjectsPrefix)
		cancel()
		if err == nil || errors.Is(err, ErrNotFound) {
			e.mu.Lock()
			e.down = nil
			e.mu.Unlock()
			e.log.Info("embedded etcd answers again")
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// isDown returns why the child isn't there, or nil.
func (e *Embedded) isDown() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.down == nil:
		return nil
	case errors.Is(e.down, ErrFull):
		return e.down
	}
	return fmt.Errorf("%w: the embedded etcd ended and is being started again: %w", ErrUnavailable, e.down)
}

// Get implements Store; while the child is away it fails at once.
func (e *Embedded) Get(ctx context.Context, key string) (Item, error) {
	if err := e.isDown(); err != nil {
		return Item{}, err
	}
	return e.Etcd.Get(ctx, key)
}

// List implements Store.
func (e *Embedded) List(ctx context.Context, prefix string) ([]Item, int64, error) {
	if err := e.isDown(); err != nil {
		return nil, 0, err
	}
	return e.Etcd.List(ctx, prefix)
}

// Put implements Store.
func (e *Embedded) Put(ctx context.Context, key string, value []byte, revision int64, lease Lease) (int64, error) {
	if err := e.isDown(); err != nil {
		return 0, err
	}
	r, err := e.Etcd.Put(ctx, key, value, revision, lease)
	return r, e.because(err)
}

// Delete implements Store.
func (e *Embedded) Delete(ctx context.Context, key string, revision int64) (int64, error) {
	if err := e.isDown(); err != nil {
		return 0, err
	}
	r, err := e.Etcd.Delete(ctx, key, revision)
	return r, e.because(err)
}

// Status implements Store.
func (e *Embedded) Status(ctx context.Context) (Status, error) {
	if err := e.isDown(); err != nil {
		return Status{Kind: e.kind, Quota: e.quota}, err
	}
	return e.Etcd.Status(ctx)
}

// because says why a write that was cut off was cut off.
func (e *Embedded) because(err error) error {
	if errors.Is(err, ErrUnavailable) {
		if down := e.isDown(); down != nil {
			return down
		}
	}
	return err
}

// PID returns the child's process id, and how often it was started again.
func (e *Embedded) PID() (pid, restarts int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pid, e.restarts
}

// tend gives space back: when the quota was reached and compaction made room,
// the file is defragmented and the alarm taken off.
func (e *Embedded) tend(ctx context.Context) {
	t := time.NewTicker(tendInterval)
	defer t.Stop()
	for {
		if err := e.reclaim(ctx); err != nil && ctx.Err() == nil {
			e.log.Warn("embedded etcd can't be tended", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (e *Embedded) reclaim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	endpoint := e.client.Endpoints()[0]
	s, err := e.client.Status(ctx, endpoint)
	if err != nil {
		return say(err)
	}
	alarms, err := e.client.AlarmList(ctx)
	if err != nil {
		return say(err)
	}
	wasteful := s.DbSize > quota/2 && s.DbSizeInUse < s.DbSize/2
	if len(alarms.Alarms) == 0 && !wasteful {
		return nil
	}
	if len(alarms.Alarms) > 0 {
		if _, err := e.client.Compact(ctx, s.Header.Revision); err != nil && !errors.Is(say(err), ErrCompacted) {
			return say(err)
		}
	}
	if _, err := e.client.Defragment(ctx, endpoint); err != nil {
		return say(err)
	}
	if s, err = e.client.Status(ctx, endpoint); err != nil {
		return say(err)
	}
	if s.DbSize < quota*9/10 {
		for _, a := range alarms.Alarms {
			if _, err := e.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(a)); err != nil {
				return say(err)
			}
		}
	}
	return nil
}

// Close stops the child and waits for it.
func (e *Embedded) Close() error {
	err := e.Etcd.Close()
	e.cancel()
	e.done.Wait()
	return err
}

// tailWriter keeps the last of what is written, for an error's text. Of a crash
// it keeps what was said before the stacks.
type tailWriter struct {
	mu      sync.Mutex
	buf     []byte
	crashed bool
}

const maxTail = 2048

func (t *tailWriter) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.crashed {
		return len(p), nil
	}
	t.buf = append(t.buf, p...)
	if i := bytes.Index(t.buf, []byte("\npanic: ")); i >= 0 {
		t.buf, t.crashed = t.buf[:i], true
	}
	if len(t.buf) > maxTail {
		t.buf = t.buf[len(t.buf)-maxTail:]
	}
	return len(p), nil
}

func (t *tailWriter) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}
