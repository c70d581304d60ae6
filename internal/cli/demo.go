package cli

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/examples/shop"
)

// demo runs the sample shop: each program as a person would start it, through
// `tulle run`.
type demo struct {
	mesh   *upMesh
	self   string // this program
	binary string // the shop's

	programs []*demoProgram
}

// demoProgram is one program, started again when it ends by itself.
type demoProgram struct {
	demo *demo
	what shop.Program

	mu       sync.Mutex // guards process and stopping
	process  *os.Process
	stopping bool
	done     chan struct{}
}

// shopAddress reads the value of --shop.
func shopAddress(s string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(s)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return at, couldNot("", "--shop %q: want ADDRESS:PORT, for instance 127.0.0.1:8081", s)
	}
	return at, nil
}

// moveGateway has a gateway with one listener serve at another address.
func moveGateway(g *gatewayv1.Gateway, at netip.AddrPort) {
	kind := gatewayv1.IPAddressType
	g.Spec.Addresses = []gatewayv1.GatewaySpecAddress{{Type: &kind, Value: at.Addr().String()}}
	g.Spec.Listeners[0].Port = gatewayv1.PortNumber(at.Port())
}

func newDemo(m *upMesh) (*demo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, couldNot("", "find this program: %w", err)
	}
	d := &demo{mesh: m, self: self, binary: filepath.Join(filepath.Dir(self), "shop")}
	if info, err := os.Stat(d.binary); err != nil || !info.Mode().IsRegular() {
		path, err := exec.LookPath("tulle-shop")
		if err != nil {
			return nil, couldNot("build it with `make shop`", "the sample shop isn't beside tulle: there is no %s", d.binary)
		}
		d.binary = path
	}
	return d, nil
}

// start starts all programs; those that only call others begin when the others
// are ready, so that the figures don't begin with errors.
func (d *demo) start(ctx context.Context) {
	for _, p := range shop.Programs() {
		one := &demoProgram{demo: d, what: p, done: make(chan struct{})}
		d.programs = append(d.programs, one)
		go func() {
			if p.Service == "" {
				d.awaitReady(ctx)
			}
			one.keep()
		}()
	}
}

// awaitReady waits until every program that serves is ready, but not for long.
func (d *demo) awaitReady(ctx context.Context) {
	const most, pause = 15 * time.Second, 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		ready := map[string]bool{}
		if proxies, err := d.mesh.conn.Proxies(ctx); err == nil {
			for _, p := range proxies {
				ready[p.Name] = p.Ready && p.Connected
			}
		}
		all := true
		for _, p := range shop.Programs() {
			all = all && (p.Service == "" || ready[p.Name])
		}
		if all {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// stop ends the programs in order: who calls before who is called.
func (d *demo) stop(hurry context.Context) {
	for _, p := range slices.Backward(d.programs) {
		p.signal(syscall.SIGTERM)
		if p.what.Service == "" { // the load: nothing else is to see errors of the end
			select {
			case <-p.done:
			case <-hurry.Done():
			}
		}
	}
	for _, p := range d.programs {
		select {
		case <-p.done:
		case <-hurry.Done():
			p.insist()
		}
	}
}

// insist ends a program that was told to stop: without draining, then without
// waiting for its proxy, then at once.
func (p *demoProgram) insist() {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGKILL} {
		p.signal(s)
		select {
		case <-p.done:
			return
		case <-time.After(2 * sameSignal):
		}
	}
	<-p.done
}

const (
	demoRestart    = 500 * time.Millisecond
	demoRestartMax = 10 * time.Second
)

func (p *demoProgram) keep() {
	defer close(p.done)
	runtime.LockOSThread() // childAttributes wants it; the thread ends with the goroutine
	wait := demoRestart
	for {
		p.mu.Lock()
		stopping := p.stopping
		p.mu.Unlock()
		if stopping {
			return
		}
		began := time.Now()
		err := p.run()
		p.mu.Lock()
		stopping = p.stopping
		p.mu.Unlock()
		if stopping {
			return
		}
		p.demo.mesh.board.note("%s ended (%v); its log is %s; starting it again", p.what.Name, err, p.demo.mesh.logFile(p.what.Name))
		if time.Since(began) > demoRestartMax {
			wait = demoRestart
		}
		time.Sleep(wait)
		wait = min(2*wait, demoRestartMax)
	}
}

// run starts the program once and waits for its end.
func (p *demoProgram) run() error {
	m := p.demo.mesh
	args := []string{"--data-dir", m.dir, "run", "--name", p.what.Name, "--service-account", p.what.Name, "--proxy-binary", m.proxy, "--mode", m.flags.mode}
	if p.what.Service != "" {
		args = append(args, "--service", p.what.Service, "--port", strconv.Itoa(int(p.what.ServicePort))+":"+strconv.Itoa(int(p.what.Port)))
	}
	for _, key := range sortedNames(p.what.Labels) {
		args = append(args, "--label", key+"="+p.what.Labels[key])
	}
	args = append(append(args, "--", p.demo.binary), p.what.Args...)
	cmd := exec.Command(p.demo.self, args...)
	log, err := m.openLog(p.what.Name)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		return nil
	}
	err = cmd.Start()
	if err == nil {
		p.process = cmd.Process
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	err = cmd.Wait()
	if err == nil {
		err = fmt.Errorf("exit status 0")
	}
	return err
}

func (p *demoProgram) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	if p.process != nil {
		_ = p.process.Signal(s)
	}
}
