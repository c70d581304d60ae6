//go:build profile

package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"syscall"
)

// init writes a profile of the CPU into the directory that TULLE_PROFILE names,
// until the program is asked to end: `make profile` makes default.pgo of them.
func init() {
	dir := os.Getenv("TULLE_PROFILE")
	if dir == "" {
		return
	}
	f, err := os.Create(filepath.Join(dir, strconv.Itoa(os.Getpid())))
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tulle-proxy:", err)
		os.Exit(1)
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go func() {
		<-asked
		pprof.StopCPUProfile()
		f.Close()
		os.Exit(0)
	}()
}
