package cli

import "github.com/spf13/cobra"

func (a *app) upCommand() *cobra.Command {
	return &cobra.Command{Use: "up", Short: "Run a whole mesh in this terminal", RunE: func(*cobra.Command, []string) error { return couldNot("", "not built yet") }}
}

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{Use: "run", Short: "Run a program in the mesh", RunE: func(*cobra.Command, []string) error { return couldNot("", "not built yet") }}
}

func (a *app) viewCommand() *cobra.Command {
	return &cobra.Command{Use: "view", Short: "Show what one proxy would be told", RunE: func(*cobra.Command, []string) error { return couldNot("", "not built yet") }}
}

func (a *app) etcdCommand() *cobra.Command {
	return &cobra.Command{Use: "etcd", Hidden: true, RunE: func(*cobra.Command, []string) error { return couldNot("", "not built yet") }}
}
