// Package run puts a program behind a tulle-proxy of its own, so that nothing
// it sends or receives goes around it: what `tulle run` does, and how `tulle up`
// runs a gateway's proxy.
//
// In comes a Config (which program, which service ports, which mesh); out comes
// the program's exit code. Run registers the workload with the control plane
// (register.go), starts and watches the proxy (proxy.go), starts the program
// behind it (program.go) in a network namespace (run/namespace) or, where there
// can be none, in explicit mode (explicit.go), and takes both down in order. It
// is called by internal/cli; it never carries traffic itself.
package run
