// Package shop describes the sample application: which programs it has, how
// they are started, and the objects that put a mesh around them.
//
// The application itself is the folders beside this file, one a service, built
// into one program with a sub-command for each (go build ./examples/shop/cmd).
// It knows nothing of a mesh: services call each other by the names that
// Kubernetes would give them (see package service). Who calls this package:
// `tulle up --demo`, and tests that need a small system of real programs.
package shop
