// Package cli is the command line of Tulle: it reads arguments, asks the
// control plane's API (or starts a part of the mesh) and prints for people or
// for programs.
//
// cmd/tulle calls Main and exits with what it returns. A command that only asks
// the control plane goes through conn.go; the parts that run (`up`,
// `control-plane`, `run`) are assembled in files of their own.
package cli
