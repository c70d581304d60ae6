package run

import (
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
)

// Mode is how a program's traffic comes to its proxy.
type Mode string

// Auto takes Namespace where the kernel allows it, else Explicit.
const (
	Auto      Mode = "auto"
	Namespace Mode = "netns"
	Explicit  Mode = "explicit"
)

// ParseMode reads a --mode.
func ParseMode(s string) (Mode, error) {
	if m := Mode(s); slices.Contains([]Mode{Auto, Namespace, Explicit}, m) {
		return m, nil
	}
	return "", fmt.Errorf("mode %q: want auto, netns or explicit", s)
}

// Port is one service port that the program serves.
type Port struct {
	// Service is "cart" or "cart.NAMESPACE".
	Service string
	// Port is the service's port; App where the program listens on its loopback
	// address, 0 for what the Service says (targetPort).
	Port, App uint16
	// Protocol is one of Protocols, or "" for what the Service says.
	Protocol string
	// ProxyProtocol is "v1" or "v2", the PROXY header with which each connection to
	// the program begins, or "" for none. Protocol is "tcp" then.
	ProxyProtocol string
}

// Config is one program to run.
type Config struct {
	// Name is the workload's, unique in its namespace. With NameTaken set it is
	// a suggestion: a number is added while another `tulle run` has it.
	Name, Namespace string
	Suggested       bool
	// ServiceAccount is the last part of its identity.
	ServiceAccount string
	Labels         map[string]string
	Ports          []Port
	Mode           Mode
	// Path is the executable; Args what it is told, its name first; Env its
	// environment; Dir its working directory.
	Path string
	Args []string
	Env  []string
	Dir  string

	// Mesh is the control plane to register with, ControlPlane where the proxy
	// finds it (unix:PATH or HOST:PORT).
	Mesh         *client.Client
	ControlPlane string
	// Address is this machine's, where other proxies reach this one.
	Address netip.Addr
	// DataDir is the mesh's data directory; workloads live in DataDir/workloads.
	DataDir string
	// ProxyBinary is tulle-proxy.
	ProxyBinary string
	// LogLevel is the proxy's.
	LogLevel string
	// Say is where Run tells people what it does; nil for silence.
	Say io.Writer
	// Started, when set, is called with the mode once the program runs.
	Started func(Mode)
}

// Exit codes that are Tulle's own; all others are the program's, 128 + N when
// signal N ended it.
const (
	ExitFailed     = 125 // Tulle couldn't do its part
	ExitNotAllowed = 126 // the program can't be executed
	ExitNotFound   = 127 // there is no such program
)

// readyTimeout bounds how long a proxy may take until it is ready.
const readyTimeout = 30 * time.Second

// Error is why Run couldn't do its part, with what to do about it.
type Error struct {
	Err  error
	Hint string
}

// Error is the reason.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func fail(hint, format string, a ...any) error {
	return &Error{Err: fmt.Errorf(format, a...), Hint: hint}
}

// dir is where the workload's proxy keeps its state.
func (c *Config) dir() string {
	name := c.Name
	if c.Namespace != "default" {
		name += "." + c.Namespace
	}
	return filepath.Join(c.DataDir, "workloads", name)
}

func (c *Config) say(format string, a ...any) {
	if c.Say != nil {
		fmt.Fprintf(c.Say, "tulle: "+format+"\n", a...)
	}
}
