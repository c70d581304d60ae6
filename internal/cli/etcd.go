package cli

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/store"
)

// etcdCommand is the embedded etcd: the control plane starts it as a child of
// the same program, since etcd ends its process when a write fails.
func (a *app) etcdCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:    "etcd --dir DIR",
		Short:  "Run the control plane's own etcd (the control plane starts it)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// The terminal's interrupt is for the control plane, which stops etcd last.
			signal.Ignore(syscall.SIGINT)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM)
			defer stop()
			return store.ServeEtcd(ctx, dir, a.In)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "directory of its data and sockets")
	_ = c.MarkFlagRequired("dir")
	return c
}
