//go:build !linux

package namespace

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// Namespace is one running helper; there is none outside Linux.
type Namespace struct {
	Report Report
	User   bool
}

// StartError says that the program, not the namespace, is at fault.
type StartError struct {
	Err              string
	NotFound, Denied bool
}

// Error is the kernel's error.
func (e *StartError) Error() string { return e.Err }

// IsChild reports whether this process was started to be a helper.
func IsChild([]string) bool { return false }

// Child is the helper's main; outside Linux there is none.
func Child() int { return 2 }

// Start fails: only Linux has network namespaces.
func Start(context.Context, Config) (*Namespace, error) {
	return nil, &UnavailableError{Step: "make a network namespace", Err: errors.New("this system has none, only Linux has")}
}

// PID is the helper's process.
func (*Namespace) PID() int { return 0 }

// ProxySocket fails outside Linux.
func (*Namespace) ProxySocket() (*os.File, error) { return nil, errEnded }

// Run fails outside Linux.
func (*Namespace) Run(Program) (int, error) { return 0, errEnded }

// Exited yields nothing outside Linux.
func (*Namespace) Exited() <-chan Exit { return nil }

// Signal fails outside Linux.
func (*Namespace) Signal(syscall.Signal) error { return errEnded }

// Close does nothing outside Linux.
func (*Namespace) Close() error { return nil }
