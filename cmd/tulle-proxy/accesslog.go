package main

import (
	"fmt"
	"io"
	"os"
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
