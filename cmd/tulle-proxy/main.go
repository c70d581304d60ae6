// Command tulle-proxy is the data plane: one small program beside a workload or
// at the edge of the mesh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
)

// version is set by the build.
var version = "dev"

type flags struct {
	state       string
	identity    string
	loops       int
	admin       string
	logLevel    slog.Level
	showVersion bool
}

func main() {
	var f flags
	flag.StringVar(&f.state, "state", "", "run alone from this state `file` (see tulle view)")
	flag.StringVar(&f.identity, "identity", "", "`directory` with the SVID, key and bundle, instead of the state file's")
	flag.IntVar(&f.loops, "loops", 0, "event loops; 0 means min(2, CPU limit) for a sidecar, one per CPU for a gateway")
	flag.StringVar(&f.admin, "admin", "", "`address` of the admin listener")
	flag.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	flag.BoolVar(&f.showVersion, "version", false, "print the version and exit")
	flag.Parse()
	if f.showVersion {
		fmt.Println("tulle-proxy", version, runtime.Version())
		return
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: f.logLevel}))
	if err := run(f, log); err != nil {
		fmt.Fprintln(os.Stderr, "tulle-proxy:", err)
		os.Exit(1)
	}
}

func run(f flags, log *slog.Logger) error {
	if f.state == "" {
		return errors.New("want --state FILE or --control-plane ADDR")
	}
	v, err := view.Load(f.state)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; render it with `tulle view -f MESH.yaml --proxy NAME --state %s`", err, f.state)
	}
	if err != nil {
		return err
	}
	loops := proxy.Loops(f.loops, v.Proxy.Role)
	runtime.GOMAXPROCS(loops + 1)
	figures := meter.New(loops, version)
	told, err := live.Static(v, f.identity, log, figures)
	if err != nil {
		return err
	}
	p, err := proxy.New(proxy.Config{Live: told, Meter: figures, Log: log, Loops: loops})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := p.Start(); err != nil {
		p.Stop()
		return err
	}
	log.Info("ready", "name", v.Proxy.Name, "loops", loops, "listeners", len(p.Bound()))
	<-ctx.Done()
	stop()
	p.Stop()
	return nil
}
