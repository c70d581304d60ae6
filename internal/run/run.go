package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/run/namespace"
	"tulle.dev/tulle/internal/run/sockets"
)

// passed are the signals that go on to the program. SIGINT and SIGQUIT don't
// when the terminal has sent them: it sent them to the program as well.
var passed = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2}

// Run runs one program behind a proxy until it ends, and returns its exit code.
// The error, an *Error or one of the client's, says why Tulle couldn't do its
// part; the code is then one of the Exit constants. When ctx ends the program
// is told to stop as by SIGTERM.
func Run(ctx context.Context, c Config) (int, error) {
	// From here on signals are ours to pass on; before the program runs they
	// end the start.
	signals := make(chan os.Signal, 8)
	for _, s := range passed {
		if !signal.Ignored(s) { // as under nohup: the program is to ignore it as well
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)

	lock, err := c.lock()
	if err != nil {
		return ExitFailed, err
	}
	defer lock.Close()

	starting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ready := make(chan struct{})
	interrupted := make(chan os.Signal, 1)
	go func() {
		select {
		case s := <-signals:
			interrupted <- s
			cancel(fmt.Errorf("stopped by %v before the program started", s))
		case <-ready:
		}
	}()
	r, err := c.prepare(starting, lock)
	close(ready)
	if err != nil {
		if cause := context.Cause(starting); cause != nil {
			err = cause
		}
		return ExitFailed, err
	}
	defer r.close()
	select {
	case s := <-interrupted:
		return ExitFailed, fmt.Errorf("stopped by %v before the program started", s)
	default:
	}

	p, err := c.start(r.namespace, r.env)
	var notStarted *namespace.StartError
	switch {
	case errors.As(err, &notStarted) && notStarted.NotFound:
		return ExitNotFound, fail("", "%s: no such program", c.Path)
	case errors.As(err, &notStarted) && notStarted.Denied:
		return ExitNotAllowed, fail("", "%s: may not be executed", c.Path)
	case err != nil:
		return ExitFailed, fail("", "start %s: %w", c.Path, err)
	}
	if c.Started != nil {
		c.Started(r.mode)
	}
	code, err := r.wait(ctx, p, signals)

	// What the program had open is the proxy's to finish. A second interrupt
	// ends that at once.
	stopping, stopNow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNow()
	go func() {
		select {
		case <-signals:
			stopNow()
		case <-stopping.Done():
		}
	}()
	r.proxy.Stop(stopping)
	if r.workload != nil {
		c.forget(r.workload)
	}
	return code, err
}

// sameSignal is how soon after another a signal to stop is taken for the same.
const sameSignal = 250 * time.Millisecond

// running is all that surrounds the program.
type running struct {
	config    *Config
	lock      *os.File
	mode      Mode
	namespace *namespace.Namespace // nil in explicit mode
	workload  *v1alpha1.Workload
	env       []string
	proxy     *Proxy
	stopKeep  context.CancelFunc
	kept      chan struct{}
	// stopIdentity ends the Workload API; nil when it isn't served.
	stopIdentity func()
}

// prepare does everything up to a ready proxy.
func (c *Config) prepare(ctx context.Context, lock *os.File) (*running, error) {
	r := &running{config: c, env: c.Env, lock: lock}
	ok := false
	defer func() {
		if !ok {
			r.close()
		}
	}()
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	tokenFile, err := r.register(ctx)
	if err != nil {
		return nil, err
	}
	r.proxy, err = StartProxy(ctx, ProxyConfig{
		Name: c.Name, Namespace: c.Namespace, Binary: c.ProxyBinary, Dir: c.dir(), ControlPlane: c.ControlPlane,
		Admin: netip.AddrPortFrom(c.Address, 0).String(), TokenFile: tokenFile, LogLevel: c.LogLevel, Say: c.say, Lock: lock,
	}, r.namespace)
	if tokenFile != "" {
		_ = os.Remove(tokenFile) // used, or of no use any more
	}
	if err != nil {
		return nil, err
	}
	r.offerIdentity(ctx)
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stopKeep, r.kept = stop, make(chan struct{})
	go func() {
		defer close(r.kept)
		c.keep(keeping, r.workload)
	}()
	ok = true
	return r, nil
}

// enter makes the namespace, or says why the mode is explicit.
func (r *running) enter(ctx context.Context) error {
	c := r.config
	r.mode = c.Mode
	if c.Mode == Explicit {
		c.say("%s runs in explicit mode: its environment says where services are, and callers could go around its proxy", c.Name)
		return nil
	}
	host, _ := os.ReadFile("/etc/resolv.conf") // without one there are no search domains
	n, err := namespace.Start(ctx, namespace.Config{Resolv: resolvConf(string(host), c.searchDomains(ctx)), IPv6: hostReachesIPv6(), Resolvers: loopbackResolvers()})
	var none *namespace.UnavailableError
	switch {
	case errors.As(err, &none) && c.Mode == Auto:
		r.mode = Explicit
		c.say("%s runs in explicit mode, as there can be no network namespace here (%v): its environment says where services are, and callers could go around its proxy", c.Name, err)
		if none.Hint != "" {
			c.say("for a namespace: %s", none.Hint)
		}
		return nil
	case errors.As(err, &none):
		return fail(none.Hint, "no network namespace: %w", err)
	case err != nil:
		return err
	}
	r.mode, r.namespace = Namespace, n
	kind := "a network namespace"
	if n.User {
		kind = "an unprivileged network namespace"
	}
	c.say("%s runs in %s: all it sends and receives goes through its proxy", c.Name, kind)
	for _, note := range n.Report.Notes {
		c.say("%s", note)
	}
	return nil
}

// registration is what is kept of a workload, for a start without the control
// plane.
type registration struct {
	Workload    *v1alpha1.Workload
	Environment []string
}

// register tells the control plane about the workload and returns the file with
// the proxy's join token. With the control plane away, a workload that was
// registered before runs from what its proxy has on disk, and needs no token.
func (r *running) register(ctx context.Context) (tokenFile string, err error) {
	c := r.config
	free := new(freePorts)
	defer free.release()
	tokenFile, more, err := r.registerNow(ctx, free)
	file := filepath.Join(c.dir(), "registration.json")
	var away *client.UnreachableError
	if errors.As(err, &away) {
		saved := new(registration)
		data, readErr := os.ReadFile(file)
		if readErr != nil || json.Unmarshal(data, saved) != nil || saved.Workload == nil || !c.matches(saved.Workload, r.mode) {
			return "", err
		}
		c.say("no control plane answers; %s starts with what its proxy was last told", c.Name)
		r.workload, r.env = saved.Workload, merge(c.Env, saved.Environment)
		return "", nil
	}
	if err != nil {
		return "", err
	}
	r.env = merge(c.Env, more)
	data, err := json.Marshal(registration{Workload: r.workload, Environment: more})
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		return "", fail("", "keep the registration: %w", err)
	}
	return tokenFile, nil
}

func (r *running) registerNow(ctx context.Context, free *freePorts) (tokenFile string, env []string, err error) {
	c := r.config
	if err := c.services(ctx); err != nil {
		return "", nil, err
	}
	var families []sockets.Family
	var outbound []v1alpha1.WorkloadOutbound
	forward := ""
	if r.namespace != nil {
		families = append(families, sockets.IPv4)
		if len(r.namespace.Report.Families) > 1 {
			families = append(families, sockets.IPv6)
		}
	} else if outbound, forward, env, err = c.explicitOutbound(ctx, free); err != nil {
		return "", nil, err
	}
	if r.workload, err = c.workload(r.mode, families, outbound, forward, free); err != nil {
		return "", nil, err
	}
	if err := c.apply(ctx, r.workload); err != nil {
		return "", nil, err
	}
	if tokenFile, err = c.token(ctx); err != nil {
		return "", nil, err
	}
	// A new registration starts with a new identity: what an earlier run of the
	// same name left would only be in its way.
	for _, name := range []string{"state", "svid.pem", "key.pem"} {
		if err := os.Remove(filepath.Join(c.dir(), name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", nil, fail("", "remove what an earlier run left: %w", err)
		}
	}
	return tokenFile, env, nil
}

// matches reports whether a kept registration is of the same workload.
func (c *Config) matches(w *v1alpha1.Workload, mode Mode) bool {
	if w.Spec.ServiceAccount != c.ServiceAccount || len(w.Spec.Ports) != len(c.Ports) || (len(w.Spec.Capture) > 0) != (mode == Namespace) {
		return false
	}
	for i, p := range c.Ports {
		if w.Spec.Ports[i].Service != p.Service || p.Port != 0 && w.Spec.Ports[i].Port != int32(p.Port) {
			return false
		}
	}
	return true
}

// wait passes signals on until the program has ended. Before SIGTERM goes on,
// the mesh is told that the program is going, so that no request is lost.
func (r *running) wait(ctx context.Context, p program, signals <-chan os.Signal) (int, error) {
	done := ctx.Done()
	drained := make(chan syscall.Signal, 1)
	draining, stopDrain := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDrain()
	asked := false
	var first time.Time
	leave := func(s syscall.Signal) {
		if asked || len(r.config.Ports) == 0 {
			drained <- s
			return
		}
		asked = true
		go func() {
			if err := r.proxy.Drain(draining); err != nil && draining.Err() == nil {
				r.config.say("drain: %v", err)
			}
			drained <- s
		}()
	}
	for {
		select {
		case exit, ok := <-p.Exited():
			if !ok {
				return ExitFailed, errors.New("the helper in the program's namespace has ended, and the program with it")
			}
			return exitCode(exit), nil
		case <-done:
			done = nil
			leave(syscall.SIGTERM)
		case s := <-drained:
			if err := p.Signal(s); err != nil {
				return ExitFailed, fmt.Errorf("pass %v on: %w", s, err)
			}
		case got := <-signals:
			s := got.(syscall.Signal)
			switch {
			case (s == syscall.SIGINT || s == syscall.SIGQUIT) && inForeground():
				// The terminal has told the program itself.
			case (s == syscall.SIGTERM || s == syscall.SIGINT) && first.IsZero():
				first = time.Now()
				leave(s)
			case (s == syscall.SIGTERM || s == syscall.SIGINT) && time.Since(first) < sameSignal:
				// timeout(1) and others signal the process and its group.
			default:
				stopDrain() // asked twice: at once
				if err := p.Signal(s); err != nil {
					return ExitFailed, fmt.Errorf("pass %v on: %w", s, err)
				}
			}
		}
	}
}

// close takes down what is still up. It may be called when only a part is.
func (r *running) close() {
	if r.stopKeep != nil {
		r.stopKeep()
		<-r.kept
	}
	if r.stopIdentity != nil {
		r.stopIdentity()
	}
	if r.proxy != nil {
		r.proxy.Kill() // ended already, in an ordinary end
	}
	if r.namespace != nil {
		r.namespace.Close()
	}
}

// lock takes the workload's directory; no other `tulle run` may have it. A
// suggested name gets a number when it is taken.
func (c *Config) lock() (*os.File, error) {
	const (
		most      = 1000
		patience  = time.Second
		lookAgain = 10 * time.Millisecond
	)
	name, began := c.Name, time.Now()
	for i := 2; ; i++ {
		if err := os.MkdirAll(c.dir(), 0o700); err != nil {
			return nil, fail("", "the workload's directory: %w", err)
		}
		f, err := os.OpenFile(filepath.Join(c.dir(), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fail("", "the workload's directory: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fail("", "lock %s: %w", c.dir(), err)
		}
		if !c.Suggested && i < most && time.Since(began) < patience {
			time.Sleep(lookAgain) // the proxy of one that was killed may still drain
			continue
		}
		if !c.Suggested || i > most {
			return nil, fail("give this one another --name", "a workload %q of this mesh is running already", c.Name)
		}
		c.Name = fmt.Sprintf("%s-%d", name, i)
	}
}

// searchDomains are where a name without a dot is looked up first, as in
// Kubernetes: in the mesh, before anything is asked of the host's resolver.
func (c *Config) searchDomains(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cluster := object.DefaultClusterDomain
	if status, err := c.Mesh.Status(ctx); err == nil && status.ClusterDomain != "" {
		cluster = status.ClusterDomain
	}
	return []string{c.Namespace + ".svc." + cluster, "svc." + cluster, cluster}
}

// resolvConf is the host's resolv.conf with the proxy as its only name server:
// options stay, search domains come after the mesh's.
func resolvConf(host string, search []string) string {
	var options []string
	for line := range strings.Lines(host) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "search", "domain":
			search = append(search, fields[1:]...)
		case "options":
			options = append(options, strings.Join(fields, " "))
		}
	}
	lines := append([]string{"nameserver " + namespace.Resolver.String(), "search " + strings.Join(search, " ")}, options...)
	return strings.Join(lines, "\n") + "\n"
}

// loopbackResolvers are the name servers on loopback that resolv.conf names;
// 127.0.0.1 when it names none, as C libraries take it.
func loopbackResolvers() []netip.Addr {
	data, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return []netip.Addr{loopback}
	}
	var all []netip.Addr
	named := false
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		named = true
		if ip, err := netip.ParseAddr(fields[1]); err == nil && ip.IsLoopback() {
			all = append(all, ip)
		}
	}
	if !named {
		all = append(all, loopback)
	}
	return all
}

// hostReachesIPv6 reports whether this machine has a way to IPv6 addresses of
// the world.
func hostReachesIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	world := netip.MustParseAddr("2000::1")
	return unix.Connect(fd, &unix.SockaddrInet6{Port: 53, Addr: world.As16()}) == nil
}
