package cli

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/run"
)

// runFlags are what `tulle run` is told.
type runFlags struct {
	services       []string
	ports          []string
	protocols      []string
	headers        []string
	labels         []string
	name           string
	serviceAccount string
	mode           string
	address        string
	proxyBinary    string
	proxyLogLevel  string
	quiet          bool
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [--service NAME --port PORT] -- PROGRAM [ARGUMENT...]",
		Short: "Run a program in the mesh, behind a proxy of its own",
		Long: `Starts a proxy, and when it is ready the program, so that all the program sends and
receives goes through the proxy: services are called by their names
(http://cart:8080/), over mutual TLS, balanced, measured. The program isn't changed
and needn't know.

The program gets this terminal, its input and its signals, and its exit code is
passed on. On SIGTERM the mesh is told first that the program is going, so that no
request is lost. When the program has ended, the proxy finishes what is open and
ends as well; if it dies before, it is started again, and connections are refused
meanwhile: never sent in plaintext around it.

Where the kernel allows it (Linux, no privileges needed) the program runs in a
network namespace of its own. Elsewhere, as on macOS, it runs in explicit mode:
environment variables say at which loopback port each service is (CART_SERVICE_HOST,
CART_SERVICE_PORT, http_proxy), and callers could go around its proxy. The command
says which.

--port is the service's port; write SERVICE-PORT:PROGRAM-PORT when the program
listens elsewhere. A service that doesn't exist yet is made. Without --port the
program serves every port of the service. Without --service it only calls others.

Exit codes: the program's own; 128 + N when signal N ended it; 125 when Tulle
couldn't do its part, 126 when the program can't be executed, 127 when there is none.`,
		Example: `  tulle run --service cart --port 8080 -- ./cart --listen :8080
  tulle run --service web --port 80:3000 -- npm start
  tulle run --service db --port 5432 --app-protocol tcp -- postgres -D data
  tulle run --service mail --port 25 --proxy-protocol v2 -- ./mail    # it sees who calls
  tulle run --service api --port 8080 --service metrics --port 9090 -- ./api
  tulle run -- curl http://cart:8080/      # a client: serves nothing
  tulle run -- bash                        # look around from inside the mesh`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return couldNot("write it after --: tulle run --service cart --port 8080 -- ./cart", "which program?")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := a.run(cmd.Context(), f, args)
			if err == nil {
				return exit(code)
			}
			var own *run.Error
			var nobody *client.UnreachableError
			var answered *client.Status
			hint := ""
			switch {
			case errors.As(err, &own):
				hint = own.Hint
			case errors.As(err, &nobody), errors.As(err, &answered):
				var explained *failure
				if errors.As(advise(err), &explained) {
					err, hint = explained.err, explained.hint
				}
			default:
				var f *failure
				if errors.As(err, &f) {
					hint = f.hint
				}
			}
			return &failure{code: code, err: err, hint: hint}
		},
	}
	flags := c.Flags()
	flags.SetInterspersed(false) // everything after the program is the program's
	flags.StringArrayVarP(&f.services, "service", "s", nil, "service that the program serves, `NAME` or NAME.NAMESPACE; may be repeated")
	flags.StringArrayVarP(&f.ports, "port", "p", nil, "`PORT` of the service, or SERVICE-PORT:PROGRAM-PORT; may be repeated")
	flags.StringArrayVar(&f.protocols, "app-protocol", nil, "`PROTOCOL` of the ports: http, http2 (kubernetes.io/h2c), grpc or tcp; left out, the first bytes tell; for all ports, or one for each")
	flags.StringArrayVar(&f.headers, "proxy-protocol", nil, "`VERSION` of the PROXY header with which each connection to the program begins, v1 or v2, or none: the program sees who calls; the ports carry TCP then; for all ports, or one for each")
	flags.StringArrayVarP(&f.labels, "label", "l", nil, "label `KEY=VALUE` of the workload; may be repeated")
	flags.StringVar(&f.name, "name", "", "`NAME` of the workload (default: the service's or the program's, with a number when it is taken)")
	flags.StringVar(&f.serviceAccount, "service-account", "", "last part of its identity, a `NAME` (default: the service's name, else the workload's)")
	flags.StringVar(&f.mode, "mode", string(run.Auto), "`MODE`: auto, netns or explicit")
	flags.StringVar(&f.address, "address", "", "`ADDRESS` of this machine that other proxies reach (default: loopback; with --control-plane the one that leads there)")
	flags.StringVar(&f.proxyBinary, "proxy-binary", "", "`FILE` of tulle-proxy (default: beside tulle, else in PATH)")
	flags.StringVar(&f.proxyLogLevel, "proxy-log-level", "", "`LEVEL`: debug, info, warn or error; the log is DATA-DIR/workloads/NAME/proxy.log")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "say nothing beside the program")
	a.namespaceFlag(c)
	_ = c.RegisterFlagCompletionFunc("service", a.completeServices)
	_ = c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"auto", "netns", "explicit"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("app-protocol", cobra.FixedCompletions(run.Protocols, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("proxy-protocol", cobra.FixedCompletions(headerVersions, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// headerVersions are what --proxy-protocol may be.
var headerVersions = []string{"v1", "v2", "none"}

func (a *app) run(ctx context.Context, f runFlags, args []string) (int, error) {
	c, err := a.runConfig(f, args)
	if err != nil {
		return run.ExitFailed, err
	}
	path, err := exec.LookPath(args[0])
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return run.ExitNotFound, couldNot("", "%s: no such program", args[0])
	case err != nil && !errors.Is(err, exec.ErrDot):
		return run.ExitNotAllowed, couldNot("", "%s: may not be executed: %w", args[0], err)
	}
	if c.Path, err = filepath.Abs(path); err != nil {
		return run.ExitFailed, couldNot("", "%w", err)
	}
	return run.Run(ctx, *c)
}

// runConfig turns flags into a configuration. Its errors are of usage.
func (a *app) runConfig(f runFlags, args []string) (*run.Config, error) {
	ports, err := parsePorts(f.services, f.ports, f.protocols, f.headers)
	if err != nil {
		return nil, err
	}
	mode, err := run.ParseMode(f.mode)
	if err != nil {
		return nil, couldNot("", "--%w", err)
	}
	c := &run.Config{Name: f.name, Namespace: a.namespace, ServiceAccount: f.serviceAccount, Ports: ports, Mode: mode,
		Args: args, Env: os.Environ(), LogLevel: f.proxyLogLevel, Labels: map[string]string{}}
	for _, l := range f.labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return nil, couldNot("", "--label %q: want KEY=VALUE", l)
		}
		c.Labels[key] = value
	}
	base := objectName(filepath.Base(args[0]))
	if len(ports) > 0 {
		base, _, _ = strings.Cut(ports[0].Service, ".")
	}
	if c.Name == "" {
		c.Name, c.Suggested = base, true
	}
	if objectName(c.Name) != c.Name {
		return nil, couldNot("use a-z, 0-9 and -, such as "+objectName(c.Name), "--name %q can't be a workload's name", c.Name)
	}
	if c.ServiceAccount == "" {
		c.ServiceAccount = base
		if len(ports) == 0 && !c.Suggested {
			c.ServiceAccount = c.Name
		}
	}
	if c.Dir, err = os.Getwd(); err != nil {
		return nil, couldNot("", "%w", err)
	}
	if c.DataDir, err = a.dir(); err != nil {
		return nil, err
	}
	if c.Mesh, err = a.connect(); err != nil {
		return nil, err
	}
	c.ControlPlane = a.proxyTarget(c.DataDir)
	if f.address == "" {
		if c.Address, err = run.OutboundAddress(c.ControlPlane); err != nil {
			return nil, couldNot("say it with --address", "find the address of this machine that others reach: %w", err)
		}
	} else if c.Address, err = netip.ParseAddr(f.address); err != nil {
		return nil, couldNot("", "--address %q: want an IP address", f.address)
	}
	if c.ProxyBinary, err = findProxy(f.proxyBinary); err != nil {
		return nil, err
	}
	if !f.quiet {
		c.Say = a.Err
	}
	return c, nil
}

// proxyTarget is where proxies of this mesh find their control plane.
func (a *app) proxyTarget(dir string) string {
	target := a.setting(a.controlPlane, "TULLE_CONTROL_PLANE")
	if target == "" || a.dataDir != "" && a.controlPlane == "" {
		return "unix:" + filepath.Join(dir, control.ProxySocket)
	}
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		return "unix:" + filepath.Join(filepath.Dir(path), control.ProxySocket)
	}
	return target
}

// parsePorts pairs --service, --port and --app-protocol: one service has all
// the ports, several have one each.
func parsePorts(services, ports, protocols, headers []string) ([]run.Port, error) {
	switch {
	case len(services) == 0 && len(headers) > 0:
		return nil, couldNot("say which with --service", "--proxy-protocol %s: of which service's ports?", headers[0])
	case len(services) == 0 && len(ports) > 0:
		return nil, couldNot("say which with --service", "--port %s: of which service?", ports[0])
	case len(services) == 0:
		return nil, nil
	case len(services) > 1 && len(ports) > 0 && len(ports) != len(services):
		return nil, couldNot("give one --port for each --service", "%d services and %d ports", len(services), len(ports))
	}
	for _, p := range protocols {
		if !slices.Contains(run.Protocols, p) {
			return nil, couldNot("", "--app-protocol %q: want %s", p, strings.Join(run.Protocols, ", "))
		}
	}
	for _, h := range headers {
		if !slices.Contains(headerVersions, h) {
			return nil, couldNot("", "--proxy-protocol %q: want %s", h, strings.Join(headerVersions, ", "))
		}
	}
	var all []run.Port
	for i := range max(len(services), len(ports)) {
		p := run.Port{Service: services[min(i, len(services)-1)]}
		if name, namespace, ok := strings.Cut(p.Service, "."); objectName(name) != name || ok && objectName(namespace) != namespace {
			return nil, couldNot("use a-z, 0-9 and -", "--service %q can't be a service's name", p.Service)
		}
		if i < len(ports) {
			var err error
			if p.Port, p.App, err = parsePort(ports[i]); err != nil {
				return nil, err
			}
		}
		p.Protocol, p.ProxyProtocol = nth(protocols, i), nth(headers, i)
		switch {
		case p.ProxyProtocol == "" || p.ProxyProtocol == "none":
			p.ProxyProtocol = ""
		case p.Protocol == "":
			p.Protocol = "tcp"
		case p.Protocol != "tcp":
			return nil, couldNot("leave --app-protocol out, or say tcp", "--proxy-protocol %s with --app-protocol %s: a connection that carries requests is of many callers", p.ProxyProtocol, p.Protocol)
		}
		all = append(all, p)
	}
	if len(headers) > 1 && len(headers) != len(all) {
		return nil, couldNot("give one for all ports, or one for each", "%d ports and %d times --proxy-protocol", len(all), len(headers))
	}
	if len(protocols) > 1 && len(protocols) != len(all) {
		return nil, couldNot("give one for all ports, or one for each", "%d ports and %d times --app-protocol", len(all), len(protocols))
	}
	return all, nil
}

// nth is what a flag that is given once for all ports, or for each, says of one.
func nth(values []string, i int) string {
	switch {
	case len(values) == 1:
		return values[0]
	case i < len(values):
		return values[i]
	}
	return ""
}

// parsePort reads "8080" or "80:8080".
func parsePort(s string) (service, program uint16, err error) {
	first, second, both := strings.Cut(s, ":")
	for i, text := range []string{first, second} {
		if i == 1 && !both {
			break
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return 0, 0, couldNot("", "--port %q: want PORT or SERVICE-PORT:PROGRAM-PORT, each 1 to 65535", s)
		}
		if i == 0 {
			service = uint16(n)
		} else {
			program = uint16(n)
		}
	}
	return service, program, nil
}

var notInNames = regexp.MustCompile(`[^a-z0-9-]+`)

// objectName makes an object's name (an RFC 1123 label) of any text.
func objectName(s string) string {
	const longest = 63
	s = strings.Trim(notInNames.ReplaceAllString(strings.ToLower(s), "-"), "-")
	s = strings.Trim(s[:min(len(s), longest)], "-")
	if s == "" {
		return "program"
	}
	return s
}

// findProxy finds tulle-proxy: named, beside this program, or in PATH.
func findProxy(named string) (string, error) {
	const name = "tulle-proxy"
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil && !errors.Is(err, exec.ErrDot) {
			return "", couldNot("", "--proxy-binary: %w", err)
		}
		return filepath.Abs(path)
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	return "", couldNot("build it with `make build`, put it beside tulle or in PATH, or name it with --proxy-binary", "there is no %s", name)
}
