// Package run puts a program behind a tulle-proxy of its own, so that nothing
// it sends or receives goes around it: what `tulle run` does.
package run
