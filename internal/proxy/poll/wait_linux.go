package poll

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waiter decides how to wait. A blocking system call goes through the Go
// scheduler, which takes the processor back, wakes its monitor thread and costs
// some ten context switches; a raw one costs two, but holds a processor. So
// while there is traffic the loop waits raw and briefly, and when that brought
// nothing it blocks properly: an idle process sleeps, and at low rates a
// request costs at most one vain wake-up, never a tick.
type waiter struct {
	last time.Duration // when the last event came
}

const (
	// rawWait is how long a raw wait lasts.
	rawWait = 5 * time.Millisecond
	// warm is how long after an event raw waits are worth trying.
	warm = 100 * time.Millisecond
)

func (w *waiter) wait(p *epoll, until time.Duration) int {
	now := p.Now()
	left := until - now
	if left <= 0 {
		return p.rawEpollWait(0)
	}
	if now-w.last < warm {
		n := p.rawEpollWait(min(left, rawWait))
		if n != 0 || left <= rawWait {
			w.saw(p, n)
			return n
		}
		left -= rawWait
	}
	n := p.blockingEpollWait(left)
	w.saw(p, n)
	return n
}

func (w *waiter) saw(p *epoll, n int) {
	if n > 0 {
		w.last = p.Now()
	}
}

// millis rounds up, so that a timer is never looked at too early.
func millis(d time.Duration) uintptr {
	const longest = time.Hour
	return uintptr((min(d, longest) + time.Millisecond - 1) / time.Millisecond)
}

func (p *epoll) rawEpollWait(d time.Duration) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd),
		uintptr(unsafe.Pointer(&p.ready[0])), MaxEvents, millis(d), 0, 0)
	if errno != 0 {
		return -1 // interrupted, by the runtime's preemption signal mostly
	}
	return int(n)
}

func (p *epoll) blockingEpollWait(d time.Duration) int {
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd),
		uintptr(unsafe.Pointer(&p.ready[0])), MaxEvents, millis(d), 0, 0)
	if errno != 0 {
		return -1
	}
	return int(n)
}
