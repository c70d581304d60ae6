package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"tulle.dev/tulle/internal/proxy/record"
)

// openAccessLog opens where the access log goes. Standard output is a descriptor of
// its own: on the process's own, a reader that went away would end the process.
func openAccessLog(path string) (io.WriteCloser, error) {
	if path != "-" {
		return record.OpenFile(path)
	}
	fd, err := syscall.Dup(int(os.Stdout.Fd()))
	if err != nil {
		return nil, fmt.Errorf("standard output: %w", err)
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "stdout"), nil
}

// reopenAccessLog has the access log's file looked for anew on each SIGHUP, until the
// context ends. Whatever the log is, that signal doesn't end the proxy.
func reopenAccessLog(ctx context.Context, hangUp <-chan os.Signal, lines io.Writer) {
	for {
		select {
		case <-hangUp:
			if f, ok := lines.(interface{ Reopen() }); ok {
				f.Reopen()
			}
		case <-ctx.Done():
			return
		}
	}
}

// hangUps are the SIGHUPs that come; stop gives the signal its usual meaning back.
func hangUps() (c chan os.Signal, stop func()) {
	c = make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
