// Command tulle-proxy is the data plane: one small program beside a workload or
// at the edge of the mesh. It runs from a state file alone (--state), or follows
// a control plane (--control-plane).
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"tulle.dev/tulle/internal/proxy/story"
)

// version is set by the build.
var version = "dev"

// flags is the command line.
type flags struct {
	state        string
	identity     string
	controlPlane string
	role         string
	data         string
	name         string
	namespace    string
	zone         string
	tokenFile    string
	ephemeralKey bool
	loops        int
	admin        string
	sockets      int
	replace      bool
	handOver     string
	slow         time.Duration
	accessLog    string
	logLevel     slog.Level
	showVersion  bool
}

func parse() *flags {
	f := &flags{}
	flag.StringVar(&f.state, "state", "", "run alone from this state `file` (see tulle view)")
	flag.StringVar(&f.identity, "identity", "", "with --state: the `directory` with the SVID, its key and the bundle")
	flag.StringVar(&f.controlPlane, "control-plane", "", "follow the control plane at this `address`, unix:PATH or HOST:PORT")
	flag.StringVar(&f.data, "data", "", "`directory` for the state, the key and the SVID (kept across restarts)")
	flag.StringVar(&f.name, "name", "", "the workload's `name`")
	flag.StringVar(&f.namespace, "namespace", "default", "the workload's `namespace`")
	flag.StringVar(&f.role, "role", "sidecar", "what the proxy is when it first asks the control plane: sidecar or gateway")
	flag.StringVar(&f.zone, "zone", "", "where this machine is, for people and balancing")
	flag.StringVar(&f.tokenFile, "join-token-file", "", "`file` with a join token, needed once")
	flag.BoolVar(&f.ephemeralKey, "ephemeral-key", false, "keep the key in memory only; a restart then needs the control plane")
	flag.IntVar(&f.loops, "loops", 0, "event loops; 0 means min(2, CPU limit) for a sidecar, one per CPU for a gateway")
	flag.StringVar(&f.admin, "admin", "", "`address` of the admin listener: plain HTTP on loopback with --state, else mutual TLS for the control plane")
	flag.IntVar(&f.sockets, "sockets", -1, "inherited Unix socket `descriptor` to tulle run, which makes sockets in the program's network namespace")
	flag.BoolVar(&f.replace, "replace", false, "take the place of the proxy that runs with the same --data or --hand-over, and lose no connection")
	flag.StringVar(&f.handOver, "hand-over", "", "Unix `socket` where a successor started with --replace gets the listening sockets; with --data it is DATA/handover.sock")
	flag.DurationVar(&f.slow, "slow", story.DefaultSlow, "keep the story of a request that waits this long for its answer, whatever is usual (see tulle why)")
	flag.StringVar(&f.accessLog, "access-log", "-", "`file` for the access log, should the Mesh object ask for one; - is standard output")
	flag.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	flag.BoolVar(&f.showVersion, "version", false, "print the version and exit")
	flag.Parse()
	return f
}

func (f *flags) check() error {
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q: everything is a flag", flag.Arg(0))
	case (f.state == "") == (f.controlPlane == ""):
		return errors.New("want either --state FILE or --control-plane ADDRESS")
	case f.controlPlane != "" && f.name == "":
		return errors.New("--control-plane needs --name, the workload's name")
	case f.controlPlane != "" && f.identity != "":
		return errors.New("--identity is for --state; with a control plane the SVID comes from there")
	case f.role != "sidecar" && f.role != "gateway":
		return fmt.Errorf("--role %q: want sidecar or gateway", f.role)
	case f.replace && f.handOverPath() == "":
		return errors.New("--replace needs --data DIRECTORY or --hand-over SOCKET, the same as of the proxy that runs")
	case f.replace && f.ephemeralKey:
		return errors.New("--replace with --ephemeral-key: the key of the proxy that runs is in its memory alone; keep keys in --data, or end it and start anew")
	case f.slow <= 0:
		return fmt.Errorf("--slow %s: want more than 0", f.slow)
	case f.loops < 0 || f.loops > 256:
		return fmt.Errorf("--loops %d: want 0 to 256", f.loops)
	}
	return nil
}

// handOverPath is where a successor asks; empty: nowhere.
func (f *flags) handOverPath() string {
	if f.handOver == "" && f.data != "" {
		return filepath.Join(f.data, "handover.sock")
	}
	return f.handOver
}

func main() {
	f := parse()
	if f.showVersion {
		fmt.Println("tulle-proxy", version, runtime.Version())
		return
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: f.logLevel}))
	err := f.check()
	if err == nil {
		if e := keepPrivate(); e != nil {
			log.Warn("other processes of this user can read this one's memory", "error", e)
		}
		err = run(f, log)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tulle-proxy:", err)
		os.Exit(1)
	}
}
