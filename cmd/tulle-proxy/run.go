package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/admin"
	"tulle.dev/tulle/internal/proxy/handover"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/names"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// run wires the proxy and runs it until a signal; it returns when all has ended.
func run(f *flags, log *slog.Logger) error {
	role := view.Sidecar
	if f.role == "gateway" {
		role = view.Gateway
	}
	var state *view.View
	if f.state != "" {
		v, err := loadState(f.state)
		if err != nil {
			return err
		}
		state, role = v, v.Proxy.Role
	} else if v, err := view.Load(filepath.Join(f.data, "state")); err == nil {
		role = v.Proxy.Role // what it was last time; the number of loops is fixed for life
	}
	loops, uid := proxy.Loops(f.loops, role), rand.Text()
	var taken *handover.Taken
	if f.replace {
		var err error
		if taken, err = handover.Take(f.handOverPath()); err != nil {
			return err
		}
		defer taken.Close()
		if f.loops != 0 && f.loops != int(taken.Loops) {
			return fmt.Errorf("--loops %d: the proxy that runs has %d, and each has a socket of every listener; leave the flag out, or end it and start anew", f.loops, taken.Loops)
		}
		loops, uid = int(taken.Loops), taken.UID
	}
	// One processor more than loops: handshakes, the control stream and the
	// admin listener run beside them.
	runtime.GOMAXPROCS(loops + 1)
	collect()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	figures := meter.New(loops, version)
	told, err := believe(f, state, role, uid, figures, log)
	if err != nil {
		return err
	}
	lines, err := openAccessLog(f.accessLog)
	if err != nil {
		return err
	}
	defer lines.Close()
	hangUp, ignore := hangUps()
	defer ignore()
	c := proxy.Config{Live: told, Meter: figures, Log: log, Loops: loops, Slow: f.slow, AccessLog: lines}
	resolve := names.Config{Live: told, Meter: figures, Log: log}
	if f.sockets >= 0 {
		s, err := newNamespaceSockets(f.sockets)
		if err != nil {
			return err
		}
		defer s.close()
		c.Sockets, resolve.Open = s, s.Names
		told.SetProbe(s.Probe)
	}
	if taken != nil {
		c.Inherited, resolve.Open = taken, inheritedNames(taken, resolve.Open)
	}
	p, err := proxy.New(c)
	if err != nil {
		return err
	}
	var opened atomic.Bool // the first listeners are open; names included, unless they are inherited
	ready := func() error {
		if err := p.Ready(); err != nil || opened.Load() {
			return err
		}
		return errors.New("its listeners aren't open yet")
	}
	a := admin.New(admin.Config{
		Live: told, Meter: figures, Version: version, Log: log,
		Ready: ready, Alive: p.Alive, Connections: p.ConnectionList, Stories: p.Stories, Tap: p.Tap, Drain: told.Drain,
	})
	defer a.Close()
	a.Section("pools", p.Pools)
	a.Section("endpoint_states", p.EndpointStates)
	a.Section("callers", p.Callers)
	if taken == nil {
		if err := listenAdmin(f, a, told); err != nil {
			return err
		}
	}
	if err := p.Start(); err != nil && (state != nil || taken != nil) {
		p.Stop()
		return err // alone, it would never get better
	}
	dns := names.New(resolve)
	defer dns.Close()
	if taken == nil {
		told.OnChange(dns.Follow)
	}
	told.OnChange(func(t *live.Table) { // after the others
		if t.Proxy != nil {
			opened.Store(true)
		}
	})
	if taken != nil {
		err, alone := ready(), false
		if err == nil {
			alone, err = taken.Started()
		}
		if err != nil {
			p.Stop()
			return fmt.Errorf("taking over: %w", err)
		}
		if alone {
			log.Warn("the process whose place this one takes was killed; what it had open is lost, going on with its sockets")
		}
		if err := listenAdmin(f, a, told); err != nil { // the other has left it
			log.Error("no admin listener; traffic goes on", "error", err) // nobody else is there to serve it
		}
	}
	r := &program{f: f, proxy: p, told: told, admin: a, names: dns, taken: taken, uid: uid, loops: loops, log: log}
	go reopenAccessLog(ctx, hangUp, lines)
	return r.serve(ctx, stop)
}

// program is what runs once all is open.
type program struct {
	f     *flags
	proxy *proxy.Proxy
	told  *live.Live
	admin *admin.Server
	names *names.Server
	taken *handover.Taken // nil for one that takes no other's place
	uid   string
	loops int
	log   *slog.Logger
}

// serve follows the control plane, if there is one, until a signal, or until a
// successor has taken over; then it drains.
func (r *program) serve(ctx context.Context, stop context.CancelFunc) error {
	f, p, told, log := r.f, r.proxy, r.told, r.log
	// What runs beside the loops goes on during the drain: the control plane
	// hears of it.
	beside, end := context.WithCancelCause(context.Background())
	var running sync.WaitGroup
	if f.controlPlane != "" {
		told.OnChange(func(*live.Table) {
			told.Register(registrations(p))
			told.Fault(p.Fault())
		})
		running.Go(func() {
			if err := told.Run(beside); err != nil {
				end(err)
			}
		})
	}
	if r.taken != nil {
		running.Go(func() { r.followNames(beside) })
	}
	running.Go(func() {
		if err := p.Watch(beside); err != nil {
			buf := make([]byte, 1<<20)
			log.Error("a loop hangs; ending", "error", err, "stacks", string(buf[:runtime.Stack(buf, true)]))
			os.Exit(2)
		}
	})
	heirs := r.awaitHeir(func() {
		end(errSucceeded)
		running.Wait()
		r.admin.Close()
		r.names.Close()
	})
	log.Info("started", "version", version, "listeners", len(p.Bound()))
	select {
	case <-ctx.Done():
	case <-beside.Done():
	}
	stop() // a second signal ends the process at once
	heirs.Close()
	if errors.Is(context.Cause(beside), errSucceeded) {
		log.Info("another process has taken over; draining", "connections", p.Connections())
		p.Leave(context.Background())
		log.Info("ended")
		return nil
	}
	log.Info("draining", "connections", p.Connections())
	p.Drain(context.Background())
	failed := context.Cause(beside)
	end(nil)
	running.Wait()
	log.Info("ended")
	return failed
}

func loadState(path string) (*view.View, error) {
	v, err := view.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; render it with `tulle view -f MESH.yaml --proxy NAME --state %s`", err, path)
	}
	return v, err
}

// believe makes what the proxy has been told: from the state file, or from the
// control plane.
func believe(f *flags, state *view.View, role view.Role, uid string, figures *meter.Registry, log *slog.Logger) (*live.Live, error) {
	if state != nil {
		return live.Static(state, f.identity, log, figures)
	}
	token := ""
	if f.tokenFile != "" {
		b, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the join token: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	mode := "" // how the program's traffic comes to a sidecar
	switch {
	case f.sockets >= 0:
		mode = "netns"
	case role == view.Sidecar:
		mode = "explicit"
	}
	return live.New(live.Config{
		Control: f.controlPlane, DataDir: f.data, EphemeralKey: f.ephemeralKey, JoinToken: token,
		Hello: control.Hello{
			Name: f.name, Namespace: f.namespace, Version: version, Zone: f.zone, Role: role,
			UID: uid, PID: uint64(os.Getpid()), Mode: mode,
		},
		Log: log, Meter: figures,
	})
}

func listenAdmin(f *flags, a *admin.Server, told *live.Live) error {
	if f.data != "" {
		if err := a.ListenUnix(filepath.Join(f.data, "admin.sock")); err != nil {
			return err
		}
	}
	switch {
	case f.admin == "":
		return nil
	case f.state != "":
		_, err := a.ListenPlain(f.admin)
		return err
	}
	addr, err := a.ListenTLS(f.admin)
	if err == nil {
		told.SetAdmin(addr.String())
	}
	return err
}

// registrations says which service ports are served here.
func registrations(p *proxy.Proxy) []control.Registration {
	var list []control.Registration
	for _, l := range p.Registered() {
		service, port, ok := live.SplitKey(l.Destination)
		if !ok {
			continue
		}
		list = append(list, control.Registration{
			Service: service, Port: port, App: l.App, Mesh: l.Address, Protocol: l.Protocol,
		})
	}
	return list
}
