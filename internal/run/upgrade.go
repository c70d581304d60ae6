package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// upgradeSocket, in a proxy's directory, is where its user asks for another
	// process in its place.
	upgradeSocket = "upgrade.sock"
	// upgradeTimeout bounds how long the new process may take.
	upgradeTimeout = 60 * time.Second
)

// Upgrade has a new process of the proxy's program take the place of the one that
// runs, so that no connection is refused or reset: the new one gets the listening
// sockets, the old one drains and ends. It returns when the new one serves; with
// an error nothing has changed.
func (p *Proxy) Upgrade(ctx context.Context) error {
	p.upgrading.Lock()
	defer p.upgrading.Unlock()
	ctx, cancel := context.WithTimeout(ctx, upgradeTimeout)
	defer cancel()
	before, err := os.Stat(p.admin())
	if err != nil {
		return fail("", "the proxy isn't running: %w", err)
	}
	p.mu.Lock()
	old := p.process
	var next *os.Process
	var ended <-chan error
	if old == nil {
		err = errors.New("it has just ended")
	} else {
		next, ended, err = p.launch("--replace")
		p.heir = next
	}
	p.mu.Unlock()
	if err != nil {
		return fail("", "start the proxy's successor: %w", err)
	}
	defer func() {
		p.mu.Lock()
		p.heir = nil
		p.mu.Unlock()
	}()
	tick := time.NewTicker(pollReady)
	defer tick.Stop()
	for {
		// The old process leaves its admin socket to the new one, as the last thing
		// before that serves alone.
		// (Its inode may be the same one again.)
		if now, err := os.Stat(p.admin()); err == nil && (!os.SameFile(before, now) || !now.ModTime().Equal(before.ModTime())) {
			break
		}
		select {
		case <-ended:
			what := "and the proxy goes on"
			if old.Signal(syscall.Signal(0)) != nil {
				what = "and so did the proxy, which is started again"
			}
			return fail("its log is "+p.log(), "the proxy's successor ended, %s:\n%s", what, p.tail())
		case <-ctx.Done():
			next.Kill()
			<-ended
			return fail("its log is "+p.log(), "the proxy's successor isn't ready after %v", upgradeTimeout)
		case <-tick.C:
		}
	}
	p.mu.Lock()
	p.process, p.previous = next, append(p.previous, old)
	p.mu.Unlock()
	select {
	case <-p.heirs: // its place is taken already, before anybody has heard of it
	default:
	}
	p.heirs <- ended
	return nil
}

// await waits for the end of a process, or of the last that took its place.
func (p *Proxy) await(ended <-chan error) error {
	for {
		select {
		case err := <-ended:
			p.upgrading.Lock() // another may be about to be known
			p.upgrading.Unlock()
			select {
			case ended = <-p.heirs:
			default:
				return err
			}
		case ended = <-p.heirs: // the one before drains, and ends by itself
		}
	}
}

// endPrevious ends processes that still drain.
func (p *Proxy) endPrevious() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, old := range p.previous {
		_ = old.Kill() // most have ended long ago
	}
	p.previous = nil
}

// serveUpgrades lets the proxy's user ask for an upgrade, until the proxy ends.
func (p *Proxy) serveUpgrades() error {
	path := filepath.Join(p.config.Dir, upgradeSocket)
	_ = os.Remove(path) // of an earlier run; the directory is ours
	l, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return fail("", "the proxy's upgrade socket: %w", err)
	}
	go func() {
		<-p.done
		l.Close()
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.answerUpgrade(c) // one after the other
		}
	}()
	return nil
}

func (p *Proxy) answerUpgrade(c net.Conn) {
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // it ends with the connection
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	text := ""
	if err := p.Upgrade(ctx); err != nil {
		text = err.Error()
	} else {
		p.config.Say("process %d has taken over as the proxy of %s", p.PID(), p.config.Name)
	}
	c.SetDeadline(time.Now().Add(time.Second))
	io.WriteString(c, text)
}

// Upgraded is one proxy of this machine that was asked.
type Upgraded struct {
	Name string // of the workload or gateway, with its namespace unless that is default
	Err  error
}

// UpgradeAll asks the proxies of a mesh's data directory on this machine, one after
// the other, to be replaced by a new process each, and tells of each. Without names
// it asks all.
func UpgradeAll(ctx context.Context, dataDir string, names []string, tell func(Upgraded)) (asked int, err error) {
	var sockets []string
	for _, kind := range []string{"workloads", "gateways"} {
		found, err := filepath.Glob(filepath.Join(dataDir, kind, "*", upgradeSocket))
		if err != nil {
			return 0, err
		}
		sockets = append(sockets, found...)
	}
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[strings.TrimSuffix(n, ".default")] = true
	}
	for _, path := range sockets {
		name := proxyNamed(filepath.Base(filepath.Dir(path)))
		if len(names) > 0 && !wanted[name] {
			continue
		}
		delete(wanted, name)
		err := askUpgrade(ctx, path)
		if errors.Is(err, errNobody) {
			if len(names) == 0 {
				continue // it was left by a workload that is gone
			}
		}
		asked++
		tell(Upgraded{Name: name, Err: err})
	}
	for n := range wanted {
		asked++
		tell(Upgraded{Name: n, Err: errNobody})
	}
	return asked, ctx.Err()
}

// proxyNamed is what a proxy's directory is called for people: NAME, or
// NAME.NAMESPACE. Gateways' directories are NAMESPACE_NAME.
func proxyNamed(dir string) string {
	namespace, name, gateway := strings.Cut(dir, "_")
	switch {
	case !gateway:
		return dir
	case namespace == "default":
		return name
	}
	return name + "." + namespace
}

// errNobody says that a proxy doesn't run.
var errNobody = errors.New("no `tulle run` or `tulle up` runs its proxy on this machine")

func askUpgrade(ctx context.Context, path string) error {
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("%w (%w)", errNobody, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })()
	const most = 64 << 10
	text, err := io.ReadAll(io.LimitReader(c, most))
	if err == nil && len(text) > 0 {
		err = errors.New(string(text))
	}
	return err
}
