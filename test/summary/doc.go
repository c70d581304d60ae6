// Command summary runs the repository's tests and says what happened: it is
// what `make test` calls.
//
//	summary [-race auto|on|off] [-run REGEXP] [package ...]
//
// It runs `go test -json`, with the race detector where cgo works. (The
// dashboard's own tests, in TypeScript and in a browser, are started by
// internal/dashboard's.) A line is printed for each
// package, the whole output of what failed, and each skipped test with its
// reason; the last line is always
//
//	N passed, N failed, N skipped
//
// and the exit code is 0 only when nothing failed. Tests, subtests included,
// are counted; a package that doesn't build, or that fails outside any test,
// counts as one failure.
//
// A test that can't be measured under the race detector (allocations, sizes,
// times) skips with a reason that contains "race detector": it is then run
// again without it, and that result counts.
package main
