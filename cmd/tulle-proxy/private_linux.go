package main

import "golang.org/x/sys/unix"

// keepPrivate keeps other processes of the same user, the program behind this
// proxy first of all, from reading this one's memory and descriptors or taking
// it over (ptrace, /proc/PID), and its keys out of core dumps. Who has
// CAP_SYS_PTRACE still can.
func keepPrivate() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
