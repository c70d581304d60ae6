package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Bounds.
const (
	// MaxValue is the size of one value, bytes (etcd's own limit is 1.5 MiB a request).
	MaxValue = 1 << 20
	// AnyRevision writes whatever is there now; 0 writes only where nothing is.
	AnyRevision int64 = -1
)

// Lease is a handle on keys that vanish when it isn't renewed in time. 0 is none.
type Lease int64

// Item is a key with its value. Callers must not write to Value.
type Item struct {
	Key   string
	Value []byte
	// Revision is the store's revision when the value was written.
	Revision int64
	Lease    Lease
}

// Event is one change: the item now, or only its key and the revision of its end.
type Event struct {
	Item
	Deleted bool
}

// Changes is what happened at one or a few revisions, in order.
type Changes struct {
	Revision int64 // of the last event
	Events   []Event
	// Err is set on the last one before the channel closes, when the watch
	// can't go on: ErrCompacted, or what happened to the store.
	Err error
}

// Status is how a store is.
type Status struct {
	Kind         string
	Revision     int64
	Bytes, Quota int64 // Quota 0: not known
}

// Store is keys and values with one growing revision. Every method takes a
// context that ends it. Safe for concurrent use.
type Store interface {
	// Get returns one item, or ErrNotFound.
	Get(ctx context.Context, key string) (Item, error)
	// List returns all items under a prefix by key, and the revision they were read at.
	List(ctx context.Context, prefix string) ([]Item, int64, error)
	// Put writes a value if the key's revision is still `revision` (0: there is
	// no such key; AnyRevision: always), else ErrConflict. It returns the new
	// revision. With a lease the key vanishes when the lease ends.
	Put(ctx context.Context, key string, value []byte, revision int64, lease Lease) (int64, error)
	// Delete removes a key under the same condition, and returns the revision of
	// its end. ErrNotFound when there is none.
	Delete(ctx context.Context, key string, revision int64) (int64, error)
	// Watch sends the changes under a prefix after a revision, until the context
	// ends or an error; then the channel closes. Slow readers delay, not lose.
	Watch(ctx context.Context, prefix string, after int64) <-chan Changes
	// Grant makes a lease that ends unless it is renewed within ttl (whole seconds).
	Grant(ctx context.Context, ttl time.Duration) (Lease, error)
	// Renew starts a lease's time again; ErrLeaseEnded when it is too late.
	Renew(ctx context.Context, l Lease) error
	// Revoke ends a lease, and its keys with it.
	Revoke(ctx context.Context, l Lease) error
	Status(ctx context.Context) (Status, error)
	Close() error
}

// Errors of every Store. ErrFull's and ErrUnavailable's text says more.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("changed meanwhile")
	ErrCompacted   = errors.New("the watched revision is no longer kept")
	ErrLeaseEnded  = errors.New("the lease has ended")
	ErrFull        = errors.New("the store is full")
	ErrUnavailable = errors.New("the store can't be reached")
)

func checkPut(key string, value []byte) error {
	if key == "" || len(key) > 1024 {
		return fmt.Errorf("key of %d bytes: want 1 to 1024", len(key))
	}
	if len(value) > MaxValue {
		return fmt.Errorf("%s: %d bytes are too many: at most %d", key, len(value), MaxValue)
	}
	return nil
}

// Follow calls update with everything under a prefix (reset true) and then with
// every change, until the context ends. When a watch can't go on it starts
// again with everything. update is called from one goroutine, this one.
func Follow(ctx context.Context, s Store, prefix string, update func(reset bool, c Changes)) error {
	const first, most = 50 * time.Millisecond, 2 * time.Second
	wait := first
	for ctx.Err() == nil {
		items, revision, err := s.List(ctx, prefix)
		if err == nil {
			wait = first
			c := Changes{Revision: revision, Events: make([]Event, len(items))}
			for i, it := range items {
				c.Events[i] = Event{Item: it}
			}
			update(true, c)
			for c := range s.Watch(ctx, prefix, revision) {
				if c.Err != nil {
					break
				}
				update(false, c)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, most)
		}
	}
	return ctx.Err()
}
