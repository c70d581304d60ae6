// Package poll is the small door between an event loop and its sockets: wait,
// accept, connect, read, write, splice, shut down, close, and what time it is.
//
// A Poller belongs to one loop (internal/proxy/loop), which is its only caller;
// Wake alone may be called from any goroutine. There are three: epoll on Linux,
// kqueue on macOS and FreeBSD, and a simulated network with virtual time
// (internal/proxy/sim). Readiness is edge-triggered everywhere: an event says
// that something changed, and whoever gets it reads or writes until the poller
// answers ErrAgain (or a read comes back short, which says the same).
//
// It is not a framework: it knows no connections, no buffers and no timers.
package poll
