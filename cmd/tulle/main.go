// Command tulle is the command line and the control plane of Tulle.
package main

import (
	"context"
	"os"

	"tulle.dev/tulle/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
