package dial

import (
	"slices"
	"time"

	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/eject"
)

// What a service's limits (policy.Limits) allow holds for all loops together. A
// connection that rests on one loop must not keep another from making one: when
// the limit is reached the loops are asked to give up one that rests, and the
// attempt waits for that. A request that wants to (Patient) takes its place in the
// line of all loops (eject.Place), and is served in its turn: by a connection of
// its own loop to its endpoint that comes to rest, or by one that may be made
// because another has ended.
const (
	// reclaimWait is how long an attempt waits for one when all loops have answered;
	// reclaimPause is how long nobody is asked again after that was in vain, unless
	// an exchange ends: all are in use.
	reclaimWait  = 10 * time.Millisecond
	reclaimPause = 50 * time.Millisecond
	// turn is how long a loop goes on with a connection while others wait longer.
	turn = 20 * time.Millisecond
	// pendingTime is how long a request waits for a connection, where the policy
	// says nothing.
	pendingTime = time.Second
)

// Patient is a Waiter that waits for its turn when the limit of connections is
// reached.
type Patient interface {
	Waiter
	// Waits says at which time of the loop's clock it wants to be asked again, or
	// that it doesn't wait any longer. rival says that it has no other way than to
	// have somebody else's connection end.
	Waits(now time.Duration) (again time.Duration, rival, ok bool)
}

// taker is a Waiter that may go on with a connection that has come to rest.
type taker interface {
	Takes() bool
	TakeOver(Pooled)
}

// PendingTime is how long a request waits for a connection at most.
func (c *Cluster) PendingTime() time.Duration {
	if d := c.Policy().Limits.PendingTime; d > 0 {
		return d
	}
	return pendingTime
}

var unlimited = func() {}

// permit allows a connection, and returns how to give that back; nil when the
// limit is reached, or others wait.
func (c *Cluster) permit() (release func()) {
	limit := c.Policy().Limits.Connections
	if c.shared == nil || limit == 0 {
		return unlimited
	}
	if c.shared.Queued() {
		return nil
	}
	h, ok := c.shared.Connections.Take(limit)
	if !ok && c.GiveUp() {
		h, ok = c.shared.Connections.Take(limit)
	}
	if !ok {
		return nil
	}
	return c.releasing(h)
}

// releasing gives back what a connection holds, to whoever waits for it.
func (c *Cluster) releasing(h eject.Hold) func() {
	return func() {
		h.Release()
		c.shared.Serve()
	}
}

// reclaim has the loops give up what rests, and reports whether it makes sense to
// ask again a little later.
func (c *Cluster) reclaim(now time.Duration) bool {
	return c.shared.Reclaim(int64(now), int64(reclaimWait), int64(reclaimPause))
}

// Rested is told that a connection to the endpoint, made at some time, rests in its
// pool: while others wait it is handed on.
func (c *Cluster) Rested(e *balance.Endpoint, conn Pooled, made, now time.Duration) {
	if c.shared == nil || !c.shared.Queued() {
		return
	}
	p := PoolOf(e)
	for len(p.inLine) > 0 {
		a := p.inLine[0]
		waited, first := c.shared.First(&a.place, int64(now))
		if !first && waited > int64(turn) && now-made > turn {
			break // it is another's turn
		}
		p.inLine = p.inLine[1:]
		if !c.shared.Quit(&a.place) {
			continue // it may make one of its own
		}
		a.timer.Stop()
		a.over = true
		a.queued = false
		p.Remove(conn)
		a.waiter.(taker).TakeOver(conn)
		return
	}
	if c.shared.Queued() {
		p.Remove(conn)
		conn.Retire()
	}
}

// Yield lets go of a connection that carries requests, once they are over.
func (c *Cluster) Yield() {
	for _, e := range c.set.All() {
		if s, ok := PoolOf(e).Shared.(interface{ Yield() bool }); ok && s.Yield() {
			return
		}
	}
}

// line waits for the attempt's turn.
func (a *Attempt) line(p Patient) {
	now, s := a.dialer.Loop.Now(), a.cluster.shared
	if a.place.Wake == nil {
		a.place.Wake = func() { a.dialer.Loop.Post(a.granted) }
	}
	granted, waits := s.Join(&a.place, int64(now))
	switch {
	case granted:
		a.dialer.Loop.Later(a.granted)
	case !waits:
		a.dialer.Loop.Later(func() { a.end(ErrLimit) })
	default:
		if t, ok := p.(taker); ok && t.Takes() {
			pool := PoolOf(a.endpoint)
			pool.inLine = append(pool.inLine, a)
		}
		a.cluster.reclaim(now)
		a.dialer.Loop.Later(func() {
			if a.InLine() {
				a.wait(p)
			}
		})
	}
}

// wait asks whoever waits whether it still does.
func (a *Attempt) wait(p Patient) {
	now := a.dialer.Loop.Now()
	again, rival, ok := p.Waits(now)
	if a.over {
		return
	}
	if !ok {
		a.Stop()
		a.waiter.Connected(ErrLimit)
		return
	}
	if waited, first := a.cluster.shared.First(&a.place, int64(now)); first {
		a.cluster.reclaim(now)
		if rival && waited > int64(turn) {
			a.cluster.shared.AskYield(int64(now), int64(turn))
			again = min(again, now+turn)
		}
	}
	a.timer.Set(again - now)
}

// granted is called when the attempt may make a connection.
func (a *Attempt) granted() {
	h, ok := a.cluster.shared.Granted(&a.place)
	if !ok {
		return
	}
	a.leaveLine()
	release := a.cluster.releasing(h)
	if a.over {
		release()
		return
	}
	if _, _, ok := a.waiter.(Patient).Waits(a.dialer.Loop.Now()); !ok || a.over {
		release()
		if !a.over {
			a.end(ErrLimit)
		}
		return
	}
	a.permit = release
	a.until = a.dialer.Loop.Now() + a.timeout
	a.open()
}

// leaveLine forgets the attempt where connections come to rest.
func (a *Attempt) leaveLine() {
	a.queued = false
	pool := PoolOf(a.endpoint)
	if i := slices.Index(pool.inLine, a); i >= 0 {
		pool.inLine = slices.Delete(pool.inLine, i, i+1)
	}
}

// InLine reports whether the attempt waits for its turn: nothing has been asked of
// the endpoint yet.
func (a *Attempt) InLine() bool { return a != nil && a.queued && !a.over }

// Stop ends an attempt that waits for its turn; the Waiter hears no more. One that
// has got further goes on.
func (a *Attempt) Stop() {
	if !a.InLine() {
		return
	}
	a.over = true
	a.timer.Stop()
	a.cluster.shared.Quit(&a.place)
	a.leaveLine()
	// What was granted meanwhile is given back when that is told.
}

// Enter lets an exchange in, if the policy's limit of requests allows it. Whoever
// holds it releases it when the exchange is over.
func (c *Cluster) Enter() (eject.Hold, bool) {
	limit := c.Policy().Limits.Requests
	if c.shared == nil || limit == 0 {
		return eject.Hold{}, true
	}
	return c.shared.Requests.Take(limit)
}

// Wait lets an exchange wait for a connection, as Enter does.
func (c *Cluster) Wait() (eject.Hold, bool) {
	limit := c.Policy().Limits.Pending
	if c.shared == nil || limit == 0 {
		return eject.Hold{}, true
	}
	return c.shared.Pending.Take(limit)
}

// Eased says that an exchange is over, so that its connection may rest.
func (c *Cluster) Eased() {
	if c.shared != nil && c.Policy().Limits.Connections != 0 {
		c.shared.Eased()
	}
}

// GiveUp closes a connection of this loop that rests, so that another may be
// made; false when there is none.
func (c *Cluster) GiveUp() bool {
	for _, e := range c.set.All() {
		p := PoolOf(e)
		if len(p.idle) > 0 {
			oldest := p.idle[0]
			p.Remove(oldest)
			oldest.Retire()
			return true
		}
		if s, ok := p.Shared.(interface{ RetireIdle() bool }); ok && s.RetireIdle() {
			return true
		}
	}
	return false
}
