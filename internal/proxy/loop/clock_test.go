package loop

import (
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/proxy/poll"
)

// clock is a Poller with nothing but time, which Wait moves on.
type clock struct{ now time.Duration }

func (c *clock) Now() time.Duration { return c.now }
func (c *clock) Wall() time.Time    { return time.Unix(0, int64(c.now)) }
func (c *clock) Wait(_ []poll.Event, until time.Duration) int {
	if until != poll.Forever {
		c.now = max(c.now, until)
	}
	return 0
}
func (c *clock) Wake()                                   {}
func (c *clock) Add(poll.FD) error                       { return nil }
func (c *clock) ConnectError(poll.FD) error              { return nil }
func (c *clock) Connect(netip.AddrPort) (poll.FD, error) { return poll.None, poll.ErrUnsupported }
func (c *clock) Original(poll.FD) (netip.AddrPort, error) {
	return netip.AddrPort{}, poll.ErrUnsupported
}
func (c *clock) Accept(poll.FD) (poll.FD, netip.AddrPort, error) {
	return poll.None, netip.AddrPort{}, poll.ErrAgain
}
func (c *clock) Read(poll.FD, []byte) (int, error)          { return 0, poll.ErrAgain }
func (c *clock) Write(_ poll.FD, p []byte) (int, error)     { return len(p), nil }
func (c *clock) Writev(_ poll.FD, a, b []byte) (int, error) { return len(a) + len(b), nil }
func (c *clock) Shutdown(poll.FD) error                     { return nil }
func (c *clock) Reset(poll.FD)                              {}
func (c *clock) Close(poll.FD)                              {}
func (c *clock) Pipe(int) (poll.Pipe, error)                { return poll.Pipe{}, poll.ErrUnsupported }
func (c *clock) Splice(poll.FD, poll.FD, int) (int, error)  { return 0, poll.ErrUnsupported }
func (c *clock) Shut()                                      {}
func (c *clock) Listen(a netip.AddrPort, _ bool) (poll.FD, netip.AddrPort, error) {
	return poll.None, a, poll.ErrUnsupported
}
