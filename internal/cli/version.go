package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is the release, set by the linker (-X); a build from a checkout says
// its commit.
var Version = ""

func version() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	commit, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+changes"
			}
		}
	}
	if commit == "" {
		return "dev"
	}
	return "dev-" + commit + dirty
}

func (a *app) versionCommand() *cobra.Command {
	var output string
	var clientOnly bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Versions of this program and of the control plane",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(output, formatTable, formatShort, formatJSON, formatYAML); err != nil {
				return err
			}
			control := ""
			if !clientOnly {
				control = a.controlVersion(cmd)
			}
			switch output {
			case formatShort:
				fmt.Fprintln(a.Out, version())
				return nil
			case formatJSON, formatYAML:
				var there *string
				if control != "" {
					there = &control
				}
				data, err := json.Marshal(map[string]any{"client": version(), "controlPlane": there, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
				if err != nil {
					return err
				}
				return printData(a.Out, output, data)
			}
			fmt.Fprintf(a.Out, "Client:        %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			if !clientOnly {
				if control == "" {
					control = "not running"
				}
				fmt.Fprintf(a.Out, "Control plane: %s\n", control)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: short, json or yaml")
	c.Flags().BoolVar(&clientOnly, "client", false, "don't ask the control plane")
	completeFormats(c, formatShort, formatJSON, formatYAML)
	return c
}

// controlVersion is the control plane's version, "" when none answers.
func (a *app) controlVersion(cmd *cobra.Command) string {
	conn, err := a.connect()
	if err != nil {
		return ""
	}
	ctx, cancel := a.ask(cmd)
	defer cancel()
	status, err := conn.Status(ctx)
	if err != nil {
		return ""
	}
	return status.Version
}
