// Command tulle is the command line and the control plane of Tulle.
package main

import (
	"context"
	"os"

	"tulle.dev/tulle/internal/cli"
	"tulle.dev/tulle/internal/run/namespace"
)

func main() {
	if namespace.IsChild(os.Args) {
		os.Exit(namespace.Child())
	}
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
