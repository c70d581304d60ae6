package dial

import (
	"time"

	"tulle.dev/tulle/internal/proxy/eject"
)

// What a service's limits (policy.Limits) allow holds for all loops together. A
// connection that rests on one loop must not keep another from making one: when
// the limit is reached the loops are asked to give up one that rests, and the
// attempt waits for that.
const (
	// reclaimWait is how long an attempt waits for one when all loops have answered;
	// reclaimPause is how long nobody is asked again after that was in vain, unless
	// an exchange ends: all are in use.
	reclaimWait  = 10 * time.Millisecond
	reclaimPause = 50 * time.Millisecond
)

var unlimited = func() {}

// permit allows a connection, and returns how to give that back; nil when the
// limit is reached, and whether it makes sense to ask again a little later.
func (c *Cluster) permit(now time.Duration) (release func(), again bool) {
	limit := c.Policy().Limits.Connections
	if c.shared == nil || limit == 0 {
		return unlimited, false
	}
	h, ok := c.shared.Connections.Take(limit)
	if !ok && c.GiveUp() {
		h, ok = c.shared.Connections.Take(limit)
	}
	if ok {
		return h.Release, false
	}
	return nil, c.shared.Reclaim(int64(now), int64(reclaimWait), int64(reclaimPause))
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
