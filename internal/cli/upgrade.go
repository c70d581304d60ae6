package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/run"
)

func (a *app) upgradeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade [WORKLOAD | GATEWAY]...",
		Short: "Have running proxies replaced by the tulle-proxy that is installed now",
		Long: `Starts a new process of tulle-proxy for each proxy that ` + "`tulle run` or `tulle up`" + ` runs on
this machine for the mesh of the data directory, one after the other, and lets it take
the place of the one that runs. No connection is refused or reset and no request lost:
the new process gets the listening sockets, the old one ends what it has under way. The
programs don't notice.

Use it after a new tulle-proxy has been put where the old one was. A proxy that something
else starts is replaced by starting it once more with --replace.`,
		Example: `  tulle upgrade
  tulle upgrade web cart.shop`,
		ValidArgsFunction: a.completeProxies,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			failed := 0
			asked, err := run.UpgradeAll(cmd.Context(), dir, args, func(u run.Upgraded) {
				if u.Err != nil {
					failed++
					fmt.Fprintf(a.Err, "%s %s: %v\n", a.paint.bad("×"), u.Name, u.Err)
					return
				}
				fmt.Fprintf(a.Out, "%s %s\n", a.paint.good("√"), u.Name)
			})
			switch {
			case err != nil:
				return err
			case asked == 0:
				return wrong("--data-dir (TULLE_DATA_DIR) says which mesh", "no proxy of %s runs on this machine", dir)
			case failed > 0:
				return exit(ExitWrong)
			}
			return nil
		},
	}
}
