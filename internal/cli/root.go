package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is one run of the command line: its streams, its clock, and the flags
// that every command has.
type app struct {
	Streams
	getenv func(string) string
	now    func() time.Time
	paint  painter // for Out

	dataDir      string
	controlPlane string
	tokenFile    string
	caFile       string
	certFile     string
	keyFile      string
	namespace    string
	timeout      time.Duration
}

// Main runs one command and returns the exit code. args are without the
// program's name.
func Main(ctx context.Context, args []string, s Streams) int {
	a := &app{Streams: s, getenv: os.Getenv, now: time.Now}
	return a.main(ctx, args)
}

func (a *app) main(ctx context.Context, args []string) int {
	a.paint = newPainter(a.Out, a.getenv)
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "required flag(s)") { // cobra has no type for it
		err = couldNot("see `"+cmd.CommandPath()+" --help`", "%w", err)
	}
	return report(a.Err, newPainter(a.Err, a.getenv), err)
}

// The groups `tulle --help` lists commands in.
const (
	groupRun     = "run"
	groupObjects = "objects"
	groupLook    = "look"
	groupOther   = "other"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tulle",
		Short: "A light service mesh",
		Long: `Tulle puts programs into a mesh: mutual TLS with workload identity, balancing of
each request, and figures about all of it, without a change to the programs.

Start a whole mesh with a sample application in this terminal:

  tulle up --demo

and look around from another one:

  tulle check
  tulle stat
  tulle get workloads`,
		Example: `  # Put your own program into the mesh, and call it by name from another one
  tulle run --service cart --port 8080 -- ./cart
  tulle run -- curl http://cart:8080/

  # Exit codes, for scripts: 0 fine, 1 something is wrong, 2 couldn't ask
  tulle check -o short || echo "look at the mesh"`,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return couldNot("see `"+cmd.CommandPath()+" --help`", "%w", err)
	})
	f := root.PersistentFlags()
	f.StringVar(&a.dataDir, "data-dir", "", "`DIRECTORY` of the mesh on this machine (TULLE_DATA_DIR; default "+defaultDataDirText+")")
	f.StringVar(&a.controlPlane, "control-plane", "", "`HOST:PORT` of a control plane elsewhere, or unix:PATH (TULLE_CONTROL_PLANE)")
	f.StringVar(&a.tokenFile, "token-file", "", "`FILE` with the token for --control-plane (TULLE_TOKEN_FILE)")
	f.StringVar(&a.caFile, "ca", "", "PEM `FILE` with the mesh's root certificates, for --control-plane (TULLE_CA)")
	f.StringVar(&a.certFile, "certificate", "", "PEM `FILE` with a client certificate, for --control-plane (TULLE_CERTIFICATE)")
	f.StringVar(&a.keyFile, "key", "", "PEM `FILE` with the client certificate's key (TULLE_KEY)")
	f.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long to wait for the control plane's answer")
	f.SortFlags = false

	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run a mesh:"},
		&cobra.Group{ID: groupObjects, Title: "Say what should be:"},
		&cobra.Group{ID: groupLook, Title: "See what is:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupRun, a.upCommand(), a.controlPlaneCommand(), a.runCommand(), a.upgradeCommand(), a.joinTokenCommand())
	add(groupObjects, a.applyCommand(), a.diffCommand(), a.deleteCommand(), a.importCommand(), a.operatorCommand(), a.viewCommand(), a.authCommand(), a.adoptCommand())
	add(groupLook, a.checkCommand(), a.dashboardCommand(), a.explainCommand(), a.whyCommand(), a.tapCommand(), a.statCommand(), a.edgesCommand(), a.routesCommand(), a.getCommand(), a.describeCommand(), a.identityCommand(), a.trustCommand(), a.auditCommand(), a.diagnosticsCommand())
	add(groupOther, a.versionCommand(), a.completionCommand())
	root.AddCommand(a.etcdCommand())
	usageErrors(root)
	return root
}

// usageErrors gives wrong arguments of every command the exit code of wrong usage.
func usageErrors(c *cobra.Command) {
	c.DisableFlagsInUseLine = true // the lines say what matters
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil {
				return nil
			}
			if _, ok := err.(*failure); ok {
				return err
			}
			return couldNot("see `"+cmd.CommandPath()+" --help`", "%w", err)
		}
	}
	if !c.HasParent() && c.RunE == nil {
		c.Args = unknownCommand
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	} else if c.HasSubCommands() && c.RunE == nil {
		c.Args = unknownCommand
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, sub := range c.Commands() {
		usageErrors(sub)
	}
}

// unknownCommand refuses a word that isn't a subcommand and says what was
// perhaps meant.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	hint := "see `" + cmd.CommandPath() + " --help`"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean `" + cmd.CommandPath() + " " + strings.Join(near, "` or `"+cmd.CommandPath()+" ") + "`?"
	}
	return couldNot(hint, "unknown command %q", cmd.CommandPath()+" "+args[0])
}

// setting is a flag, else its environment variable.
func (a *app) setting(flag, env string) string {
	if flag != "" {
		return flag
	}
	return a.getenv(env)
}

const defaultDataDirText = "$XDG_DATA_HOME/tulle, else ~/.local/share/tulle"

// dir is the data directory of the mesh on this machine, absolute.
func (a *app) dir() (string, error) {
	dir := a.setting(a.dataDir, "TULLE_DATA_DIR")
	if dir == "" {
		base := a.getenv("XDG_DATA_HOME")
		if base == "" || !filepath.IsAbs(base) {
			home := a.getenv("HOME")
			if home == "" {
				return "", couldNot("set --data-dir or TULLE_DATA_DIR", "no data directory: neither TULLE_DATA_DIR, XDG_DATA_HOME nor HOME is set")
			}
			base = filepath.Join(home, ".local", "share")
		}
		dir = filepath.Join(base, "tulle")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", couldNot("", "data directory %s: %w", dir, err)
	}
	return abs, nil
}
