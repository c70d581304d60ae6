package poll

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waiter decides how to wait. It is hot while there is much traffic and cool
// otherwise.
//
// Hot, it waits in raw system calls that the Go runtime doesn't notice: two
// context switches a wait, but a processor of the runtime is held, and its
// monitor thread ticks. So hot waits are short, and one that brings nothing
// cools the waiter.
//
// Cool, it parks its goroutine as a net.Conn's reader is parked, in the
// runtime's own poller, which watches our epoll descriptor through a gate: an
// epoll descriptor with one member. A blocking system call would do as well,
// but entering one wakes the runtime's monitor thread, which then ticks some
// sixty times before it sleeps again: at 10 requests a second that was four
// fifths of a request's cost (1,100 µs of CPU instead of 210).
//
// The gate is opened only while cool: otherwise each event of a hot loop would
// wake an idle thread of the runtime too.
type waiter struct {
	hot   bool
	since time.Duration // when the current window began
	gave  time.Duration // when the runtime was last given the chance to schedule
	waits int           // waits in it that brought something

	gate  *os.File // nil before the first park
	fd    int      // the gate's
	conn  syscall.RawConn
	due   time.Duration      // the gate's read deadline
	look  func(uintptr) bool // made once: parking doesn't allocate
	found int                // what look brought
	// block says that the runtime doesn't take the gate: block in the system
	// call instead.
	block bool
}

const (
	// rawWait is how long a hot wait lasts.
	rawWait = 5 * time.Millisecond
	// hotWaits in a window of coolWindow make the waiter hot: 800 a second.
	hotWaits   = 8
	coolWindow = 10 * time.Millisecond
	// yieldEvery is well within the 10 ms after which the runtime's monitor
	// interrupts a goroutine, a hot wait included.
	yieldEvery = rawWait - time.Millisecond
	// longestPark bounds a park, so that deadlines stay in range.
	longestPark = time.Hour
)

func (w *waiter) wait(p *epoll, until time.Duration) int {
	now := p.Now()
	left := until - now
	if now-w.gave >= yieldEvery {
		w.gave = now
		yield()
	}
	if left <= 0 {
		n := p.rawEpollWait(0)
		if n > 0 && !w.hot {
			w.saw(p)
		}
		return n
	}
	if w.hot {
		n := p.rawEpollWait(min(left, rawWait))
		if n != 0 || left <= rawWait {
			return n
		}
		w.cool(p)
		if now = p.Now(); now >= until {
			return 0
		}
	}
	n := w.park(p, now, until)
	if n > 0 {
		w.saw(p)
	}
	return n
}

// saw counts a wait that brought something, and makes the waiter hot when there
// were many of late.
func (w *waiter) saw(p *epoll) {
	if now := p.Now(); now-w.since > coolWindow {
		w.since, w.waits = now, 0
	}
	if w.waits++; w.waits >= hotWaits {
		w.hot = true
		if w.gate != nil {
			w.watch(p, unix.EPOLL_CTL_DEL)
		}
	}
}

func (w *waiter) cool(p *epoll) {
	w.hot, w.since, w.waits = false, p.Now(), 0
	if w.gate != nil {
		w.watch(p, unix.EPOLL_CTL_ADD)
	}
}

// park waits with the goroutine off its thread.
func (w *waiter) park(p *epoll, now, until time.Duration) int {
	if w.gate == nil && !w.block {
		w.open(p)
	}
	until = min(until, now+longestPark)
	if w.block {
		return p.blockingEpollWait(until - now)
	}
	// A deadline that is too early only costs a look.
	if w.due <= now || until < w.due {
		w.gate.SetReadDeadline(time.Now().Add(until - now))
		w.due = until
	}
	w.found = 0
	w.conn.Read(w.look) // its error says that the deadline has come
	return w.found
}

// open makes the gate.
func (w *waiter) open(p *epoll) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		w.block = true
		return
	}
	unix.SetNonblock(fd, true) // by this os.NewFile knows that it can be polled
	w.fd, w.due = fd, p.Now()+longestPark
	gate := os.NewFile(uintptr(fd), "epoll")
	if err = gate.SetReadDeadline(time.Now().Add(longestPark)); err == nil {
		w.conn, err = gate.SyscallConn()
	}
	if err == nil {
		err = w.watch(p, unix.EPOLL_CTL_ADD)
	}
	if err != nil {
		gate.Close()
		w.block = true
		return
	}
	w.gate = gate
	w.look = func(uintptr) bool {
		w.found = p.rawEpollWait(0)
		return w.found != 0
	}
}

// watch makes the gate watch the poller, or no longer.
func (w *waiter) watch(p *epoll, operation uintptr) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN}
	if _, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(w.fd), operation, uintptr(p.fd), uintptr(unsafe.Pointer(&event)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func (w *waiter) shut() {
	if w.gate != nil {
		w.gate.Close()
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
