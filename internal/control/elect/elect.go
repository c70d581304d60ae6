// Package elect agrees on one of several replicas, by a leased key of the
// store. In comes a store, out goes the answer to "is it me?": it never says so
// in two replicas at once as long as their clocks run at the same speed, because
// the answer ends before the lease does. The elected one scrapes metrics, writes
// statuses and checks health.
package elect

import (
	"context"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/control/store"
)

const (
	key   = "/tulle/leader"
	ttl   = 10 * time.Second
	renew = ttl / 4
	sure  = ttl / 2 // how long after a renewal the answer stays yes
)

// Elector holds, or tries to hold, the key. Leader may be called from anywhere.
type Elector struct {
	store   store.Store
	replica string
	until   atomic.Int64 // nanoseconds since start
	start   time.Time
	lease   store.Lease // owned by Run
}

// New makes an elector for the named replica.
func New(s store.Store, replica string) *Elector {
	return &Elector{store: s, replica: replica, start: time.Now()}
}

// Leader reports whether this replica is the elected one.
func (e *Elector) Leader() bool { return int64(time.Since(e.start)) < e.until.Load() }

// Run takes part until the context ends, and then steps down.
func (e *Elector) Run(ctx context.Context) {
	t := time.NewTicker(renew)
	defer t.Stop()
	for {
		e.round(ctx)
		select {
		case <-ctx.Done():
			e.until.Store(0)
			if e.lease != 0 {
				down, cancel := context.WithTimeout(context.Background(), time.Second)
				e.store.Revoke(down, e.lease)
				cancel()
			}
			return
		case <-t.C:
		}
	}
}

func (e *Elector) round(ctx context.Context) {
	began := time.Since(e.start)
	if e.lease != 0 {
		if it, err := e.store.Get(ctx, key); err == nil && string(it.Value) == e.replica && it.Lease == e.lease {
			if e.store.Renew(ctx, e.lease) == nil {
				e.until.Store(int64(began + sure))
				return
			}
		} else if err != nil && err != store.ErrNotFound {
			return // not known; the answer ends by itself
		}
		e.store.Revoke(ctx, e.lease)
		e.lease = 0
	}
	lease, err := e.store.Grant(ctx, ttl)
	if err != nil {
		return
	}
	if _, err := e.store.Put(ctx, key, []byte(e.replica), 0, lease); err != nil {
		e.store.Revoke(ctx, lease)
		return
	}
	e.lease = lease
	e.until.Store(int64(began + sure))
}
