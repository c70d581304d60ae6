package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/object"
)

// completionTimeout keeps a tab key from hanging.
const completionTimeout = 500 * time.Millisecond

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the completion script of a shell",
		Long: `Prints a script that completes commands, flags and the names of objects in the mesh.

  bash:        source <(tulle completion bash)
               or once: tulle completion bash > /etc/bash_completion.d/tulle
  zsh:         tulle completion zsh > "${fpath[1]}/_tulle"
  fish:        tulle completion fish > ~/.config/fish/completions/tulle.fish
  powershell:  tulle completion powershell | Out-String | Invoke-Expression`,
		ValidArgs: shells,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Out, true)
			case "zsh":
				return root.GenZshCompletion(a.Out)
			case "fish":
				return root.GenFishCompletion(a.Out, true)
			}
			return root.GenPowerShellCompletionWithDesc(a.Out)
		},
	}
}

func completeFormats(c *cobra.Command, formats ...string) {
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// completeObjects completes KIND, then names of that kind.
func (a *app) completeObjects(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) == 0 {
		if kindName, _, ok := strings.Cut(prefix, "/"); ok {
			kind, err := object.LookupName(kindName)
			if err != nil {
				return nil, none
			}
			names := a.names(cmd, kind)
			for i, n := range names {
				names[i] = kindName + "/" + n
			}
			return names, none
		}
		var kinds []string
		for _, k := range object.Kinds() {
			kinds = append(kinds, k.Plural)
		}
		return kinds, none
	}
	kind, err := object.LookupName(args[0])
	if err != nil {
		return nil, none
	}
	return a.names(cmd, kind), none
}

func (a *app) completeServices(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.names(cmd, object.Service), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeNamespaces(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	seen := map[string]bool{"default": true}
	conn, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := contextFor(cmd)
	defer cancel()
	objects, _, err := list(ctx, conn, object.Service, "")
	if err == nil {
		for _, o := range objects {
			seen[o.GetNamespace()] = true
		}
	}
	var all []string
	for n := range seen {
		all = append(all, n)
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// names are the objects of a kind, none when the control plane doesn't answer.
func (a *app) names(cmd *cobra.Command, kind *object.Kind) []string {
	conn, err := a.connect()
	if err != nil {
		return nil
	}
	ctx, cancel := contextFor(cmd)
	defer cancel()
	objects, _, err := list(ctx, conn, kind, a.namespaceOrDefault())
	if err != nil {
		return nil
	}
	var names []string
	for _, o := range objects {
		names = append(names, o.GetName())
	}
	return names
}

func contextFor(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithTimeout(ctx, completionTimeout)
}

// completeCaller completes --from with a workload or gateway, whatever else the
// command line has.
func (a *app) completeCaller(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.completeProxies(cmd, nil, prefix)
}

// completeStories completes the id of a request that went badly of late.
func (a *app) completeStories(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	conn, err := a.connect()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := contextFor(cmd)
	defer cancel()
	answer, err := conn.WhyLast(ctx, "", lastListed)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, s := range answer.Stories {
		ids = append(ids, fmt.Sprintf("%s\t%d %s %s", s.ID, s.Status, s.Method, s.Path))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// lastListed is how many requests are offered.
const lastListed = 20
