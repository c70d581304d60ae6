// Package e2e tests what only real programs, a real kernel and real processes
// can show: unmodified programs under `tulle run`, signals and terminals, and
// what happens when a part of the mesh is killed under load.
//
// Each test starts a mesh of its own with the built binaries, in a directory of
// its own. A test whose counterpart or right is missing is skipped with how to
// get it.
package e2e
