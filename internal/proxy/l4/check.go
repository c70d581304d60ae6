package l4

import (
	"errors"
	"io"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

// resetWait is how long a check waits for the other proxy to say that it can't
// reach its program: it accepts before it knows.
const resetWait = 100 * time.Millisecond

// check connects to an endpoint and hangs up.
type check struct {
	conn  loop.Conn
	timer loop.Timer
	mesh  bool
	over  bool
	done  func(healthy bool, why string)
	loop  *loop.Loop
}

// Check connects to the cluster's endpoint; through the endpoint's proxy, if it
// has one, to its program. done is called once, on the loop and not from within;
// why says what is wrong. The function that is returned gives the question up.
func Check(d *dial.Dialer, cluster *dial.Cluster, h *policy.HealthCheck, done func(healthy bool, why string)) (cancel func()) {
	c := &check{loop: d.Loop, done: done}
	c.timer.Init(d.Loop, c)
	list := cluster.Endpoints()
	if len(list) == 0 {
		c.end(false, "destination_unavailable")
		return c.cancel
	}
	c.mesh = list[0].Identity != ""
	d.Dial(&c.conn, cluster, list[0], ALPN, c, c)
	return c.cancel
}

// Connected takes the connection.
func (c *check) Connected(err error) {
	switch {
	case c.over:
		c.conn.Close()
	case err != nil:
		c.end(false, dial.Reason(err))
	case c.mesh:
		c.timer.Set(resetWait)
		c.Ready()
	default:
		c.end(true, "")
	}
}

// Ready looks whether the other proxy has something to say.
func (c *check) Ready() {
	if c.over || c.conn.Connecting() {
		return
	}
	_, err := c.conn.Fill(loop.SmallBuffer)
	switch {
	case errors.Is(err, poll.ErrAgain):
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, loop.ErrFull):
		c.end(true, "") // the program has spoken
	default:
		c.end(false, "connection_terminated")
	}
}

// Expire is the end of the wait.
func (c *check) Expire(*loop.Timer) { c.end(true, "") }

func (c *check) end(healthy bool, why string) {
	if c.over {
		return
	}
	c.over = true
	c.timer.Stop()
	c.conn.Close()
	c.loop.Later(func() { c.done(healthy, why) })
}

func (c *check) cancel() {
	c.over = true
	c.timer.Stop()
	c.conn.Close()
}
