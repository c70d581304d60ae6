package namespace

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// withheld are the capabilities a program never gets, even as root: with one of
// them it could change the redirection, leave the namespace, or take over a
// process outside of it.
var withheld = []uintptr{
	unix.CAP_NET_ADMIN,
	unix.CAP_SYS_ADMIN,
	unix.CAP_SYS_PTRACE,
	unix.CAP_SYS_MODULE,
	unix.CAP_SYS_RAWIO,
	unix.CAP_BPF,
	unix.CAP_PERFMON,
	unix.CAP_SETPCAP,
}

// helperCapabilities are what the helper needs inside a user namespace, where
// it isn't root and an exec would take them away.
var helperCapabilities = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}

// withholdCapabilities changes the calling thread, so that what it starts never
// has the withheld capabilities, nor any that come only from the namespace.
func withholdCapabilities(ownUserNamespace bool) error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	drop := withheld
	if ownUserNamespace {
		drop = nil
		for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
			drop = append(drop, c)
		}
	}
	for _, c := range drop {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: an older kernel
			return fmt.Errorf("withhold capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for _, c := range drop {
		data[c/32].Inheritable &^= 1 << (c % 32)
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set inheritable capabilities: %w", err)
	}
	return nil
}

// Confine changes the calling thread, so that what it starts has no capability
// but those kept (where the thread has them) and can gain none by an exec
// (no_new_privs). The thread must not be used for anything else afterwards.
func Confine(keep ...uintptr) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if data[unix.CAP_SETPCAP/32].Effective&(1<<(unix.CAP_SETPCAP%32)) == 0 {
		return nil // without it the bounding set stays, but neither has it anything to give
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
		data[c/32].Inheritable &^= 1 << (c % 32)
	}
	return unix.Capset(&header, &data[0])
}
