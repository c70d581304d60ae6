package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/examples/shop"
	"tulle.dev/tulle/internal/control"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/run"
)

type upFlags struct {
	controlFlags
	files       []string
	demo        bool
	shop        string // where its gateway serves
	proxyBinary string
	mode        string
}

func (a *app) upCommand() *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use:   "up [-f FILE|DIR]... [--demo]",
		Short: "Run a whole mesh in this terminal, until Ctrl-C",
		Long: `Starts a control plane, applies the objects of the given files, and runs a proxy for
each Gateway among them. Your own programs join with ` + "`tulle run`" + ` from other terminals.
--demo adds the sample shop: eight small programs, each behind its proxy, with load.

Ctrl-C takes everything down in order, a second one at once. What was applied is
kept in the data directory and is there again next time.`,
		Example: `  tulle up --demo
  tulle up -f mesh.yaml
  tulle up --demo --shop 127.0.0.1:8081    # 8080 is taken
  tulle up --data-dir /tmp/second --listen 127.0.0.1:0 --dashboard 127.0.0.1:0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.up(cmd, f) },
	}
	c.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "`FILE` or directory with objects to apply; may be repeated")
	c.Flags().BoolVar(&f.demo, "demo", false, "add the sample shop")
	c.Flags().StringVar(&f.shop, "shop", strings.TrimSuffix(strings.TrimPrefix(shop.Page, "http://"), "/"), "`ADDRESS` where the gateway of the sample shop serves")
	f.add(c)
	c.Flags().StringVar(&f.proxyBinary, "proxy-binary", "", "`FILE` of tulle-proxy (default: beside tulle, else in PATH)")
	c.Flags().StringVar(&f.mode, "mode", string(run.Auto), "`MODE` in which the demo's programs are intercepted: auto, netns or explicit")
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json")
	a.namespaceFlag(c)
	return c
}

// sameSignal is how soon after another a signal to stop is taken for the same.
const sameSignal = 250 * time.Millisecond

// upMesh is a running `tulle up`: what it started, in the order of its start.
type upMesh struct {
	app      *app
	flags    upFlags
	dir      string
	proxy    string // tulle-proxy
	conn     *client.Client
	gateways *gateways
	shop     *demo
	board    *board
}

func (a *app) up(cmd *cobra.Command, f upFlags) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	level, err := f.level()
	if err != nil {
		return err
	}
	if _, err := run.ParseMode(f.mode); err != nil {
		return couldNot("", "--%w", err)
	}
	m := &upMesh{app: a, flags: f, dir: dir, board: newBoard(a)}
	if m.proxy, err = findProxy(f.proxyBinary); err != nil {
		return err
	}
	var documents []object.Document
	if len(f.files) > 0 {
		if documents, err = a.read(f.files); err != nil {
			return err
		}
	}
	if f.demo {
		more, err := object.Decode("examples/shop/mesh.yaml", shop.Mesh)
		if err != nil {
			return wrong("", "%w", err)
		}
		at, err := shopAddress(f.shop)
		if err != nil {
			return err
		}
		for i := range more {
			if g, ok := more[i].Object.(*gatewayv1.Gateway); ok {
				moveGateway(g, at)
			}
			if more[i].Object.GetNamespace() == "" && object.Of(more[i].Object).Namespaced {
				more[i].Object.SetNamespace("default")
			}
		}
		documents = append(documents, more...)
		if m.shop, err = newDemo(m); err != nil {
			return err
		}
	}
	log, err := m.openLog("control-plane")
	if err != nil {
		return err
	}
	defer log.Close()

	// The first signal ends the mesh in order, a second one at once.
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	hurry, hurryNow := context.WithCancel(context.WithoutCancel(ctx))
	defer hurryNow()
	go func() {
		<-ctx.Done()
		time.Sleep(sameSignal) // timeout(1) and others signal the process and its group
		again := make(chan os.Signal, 1)
		signal.Notify(again, syscall.SIGINT, syscall.SIGTERM)
		defer signal.Stop(again)
		select {
		case <-again:
			hurryNow()
		case <-hurry.Done():
		}
	}()

	// The control plane outlives what depends on it.
	controlCtx, stopControl := context.WithCancel(context.WithoutCancel(ctx))
	ready := make(chan control.Addresses, 1)
	config := f.config
	config.DataDir, config.Version = dir, version()
	config.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level}))
	config.Ready = func(at control.Addresses) { ready <- at }
	ended := make(chan error, 1)
	go func() { ended <- runControl(controlCtx, config) }()

	began := time.Now()
	m.board.progress("control plane starts")
	err = func() error {
		select {
		case at := <-ready:
			m.board.done("control plane", fmt.Sprintf("ready after %s", since(began)))
			return m.serve(ctx, hurry, at, documents, ended)
		case err := <-ended:
			ended <- nil
			return err
		case <-ctx.Done():
			return nil
		}
	}()
	m.board.stop()
	stopControl()
	if controlErr := <-ended; err == nil {
		err = controlErr
	}
	if err == nil && ctx.Err() != nil {
		fmt.Fprintln(a.Out, "the mesh is down")
	}
	return err
}

// serve applies, starts everything, shows its state until ctx ends, and takes
// it down.
func (m *upMesh) serve(ctx, hurry context.Context, at control.Addresses, documents []object.Document, ended chan error) error {
	m.conn = client.New(client.Config{Socket: at.ControlSocket})
	defer m.conn.Close()
	if err := m.applyAll(ctx, documents); err != nil {
		return err
	}
	target := "unix:" + at.ProxySocket
	m.gateways = newGateways(m, target)
	defer m.gateways.stop(hurry)
	if m.shop != nil {
		m.shop.start(ctx)
		defer m.shop.stop(hurry)
	}
	if err := m.gateways.follow(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	if at.Dashboard != "" {
		m.board.done("dashboard", m.dashboard(ctx, at))
	}
	switch {
	case m.shop != nil && len(m.gateways.failed) > 0:
		m.board.bad("shop", m.page()+" is not the shop before its gateway is ready")
	case m.shop != nil:
		m.board.done("shop", m.page())
	}
	m.board.done("look around", m.hint("check")+", "+m.hint("stat")+", "+m.hint("get workloads"))
	if m.shop == nil {
		m.board.done("add programs", m.hint("run --service NAME --port PORT -- PROGRAM"))
	}
	m.board.done("stop", "Ctrl-C")
	return m.watch(ctx, ended)
}

// dashboard says where the dashboard is, and how one gets in.
func (m *upMesh) dashboard(ctx context.Context, at control.Addresses) string {
	page := m.flags.dashboardURL(at)
	operators, err := m.conn.List(ctx, resource(object.Operator), "")
	if err == nil && len(operators.Items) > 0 {
		page += " (there are operators: log in with " + m.hint("dashboard") + ")"
	}
	return page
}

// page is where the sample shop is.
func (m *upMesh) page() string { return "http://" + m.flags.shop + "/" }

// hint is a command that finds this mesh.
func (m *upMesh) hint(command string) string {
	if m.app.dataDir != "" {
		return "tulle --data-dir " + m.app.dataDir + " " + command
	}
	return "tulle " + command
}

func (m *upMesh) applyAll(ctx context.Context, documents []object.Document) error {
	var failures []error
	counts := map[string]int{}
	for _, d := range documents {
		asked, cancel := context.WithTimeout(ctx, m.app.timeout)
		result, err := put(asked, m.conn, d.Object, false)
		cancel()
		var status *client.Status
		switch {
		case errors.As(err, &status):
			failures = append(failures, locate(d, status)...)
		case err != nil:
			return advise(err)
		default:
			counts[result]++
		}
	}
	if len(failures) > 0 {
		return wrong("", "%w", errors.Join(failures...))
	}
	if len(documents) > 0 {
		var parts []string
		for _, result := range []string{"created", "configured", "unchanged"} {
			if counts[result] > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", counts[result], result))
			}
		}
		m.board.done("objects", strings.Join(parts, ", "))
	}
	return nil
}

// The rhythm of the live status.
const (
	statusEvery = 2 * time.Second
	statWindow  = 30 * time.Second
)

// watch shows the state until the mesh is told to end, or the control plane
// ends by itself.
func (m *upMesh) watch(ctx context.Context, ended chan error) error {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		m.board.status(m.state(ctx))
		select {
		case <-ctx.Done():
			m.board.progress("stopping (Ctrl-C again to hurry)")
			return nil
		case err := <-ended:
			ended <- nil
			if err == nil {
				err = wrong("its log is "+m.logFile("control-plane"), "the control plane ended by itself")
			}
			return err
		case <-tick.C:
			_ = m.gateways.follow(ctx)
		}
	}
}

// state is the mesh in one line.
func (m *upMesh) state(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, statusEvery)
	defer cancel()
	proxies, err := m.conn.Proxies(ctx)
	if err != nil {
		return "control plane doesn't answer"
	}
	ready, all := 0, 0
	for _, p := range proxies {
		if !p.Connected && !p.Ready {
			continue
		}
		all++
		if p.Ready {
			ready++
		}
	}
	line := fmt.Sprintf("%d of %d proxies ready", ready, all)
	stat, err := m.conn.Stat(ctx, statWindow)
	if err != nil {
		return line
	}
	var rps, good, mutual, worst float64
	for _, s := range stat.Services {
		if s.RPS == nil || *s.RPS == 0 {
			continue
		}
		rps += *s.RPS
		if s.SuccessRate != nil {
			good += *s.RPS * *s.SuccessRate
		}
		if s.MutualTLS != nil {
			mutual += *s.RPS * *s.MutualTLS
		}
		if s.Latency.P99 != nil {
			worst = max(worst, *s.Latency.P99)
		}
	}
	if rps > 0 {
		line += fmt.Sprintf(" · %.1f requests/s · %s success · %s mutual TLS · p99 up to %s", rps, percent(good/rps), percent(mutual/rps), milliseconds(&worst))
	}
	return line
}

// maxLog is how long a log may be for the next run to be added to it.
const maxLog = 8 << 20

func (m *upMesh) logFile(name string) string { return filepath.Join(m.dir, "logs", name+".log") }

func (m *upMesh) openLog(name string) (*os.File, error) {
	file := m.logFile(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, couldNot("", "logs: %w", err)
	}
	// Appended to: why a program ended is still there when it was started again.
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, couldNot("", "logs: %w", err)
	}
	if info, err := f.Stat(); err == nil && info.Size() > maxLog {
		_ = f.Truncate(0)
	}
	return f, nil
}

func since(t time.Time) string { return fmt.Sprintf("%.1f s", time.Since(t).Seconds()) }
