package store

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxHistory is how many events the memory store keeps for watches.
const maxHistory = 10_000

// Memory is a Store in memory, for tests. The zero value is not usable: NewMemory.
type Memory struct {
	mu       sync.Mutex
	items    map[string]Item
	revision int64
	history  []Event // ordered by revision
	dropped  int64   // the revision up to which history was dropped
	changed  chan struct{}
	leases   map[Lease]*memoryLease
	next     Lease
	closed   bool
	full     bool
}

type memoryLease struct {
	ttl   time.Duration
	timer *time.Timer
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{items: map[string]Item{}, leases: map[Lease]*memoryLease{}, changed: make(chan struct{})}
}

// SetFull makes writes fail with ErrFull, as a full disk does.
func (m *Memory) SetFull(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = full
}

// Compact forgets the history, so that watches of older revisions end.
func (m *Memory) Compact() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history, m.dropped = nil, m.revision
}

func (m *Memory) record(e Event) {
	m.history = append(m.history, e)
	if len(m.history) > maxHistory {
		m.dropped = m.history[len(m.history)/2].Revision
		i, _ := slices.BinarySearchFunc(m.history, m.dropped+1, func(e Event, r int64) int { return int(e.Revision - r) })
		m.history = slices.Clone(m.history[i:])
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) (Item, error) {
	if err := ctx.Err(); err != nil {
		return Item{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	it, ok := m.items[key]
	if !ok {
		return Item{}, ErrNotFound
	}
	return it, nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]Item, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Item
	for k, it := range m.items {
		if strings.HasPrefix(k, prefix) {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b Item) int { return strings.Compare(a.Key, b.Key) })
	return out, m.revision, nil
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, key string, value []byte, revision int64, lease Lease) (int64, error) {
	if err := checkPut(key, value); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return 0, ErrFull
	}
	if revision != AnyRevision && m.items[key].Revision != revision {
		return 0, ErrConflict
	}
	if lease != 0 && m.leases[lease] == nil {
		return 0, ErrLeaseEnded
	}
	m.revision++
	it := Item{Key: key, Value: slices.Clone(value), Revision: m.revision, Lease: lease}
	m.items[key] = it
	m.record(Event{Item: it})
	return m.revision, nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, key string, revision int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	it, ok := m.items[key]
	if !ok {
		return 0, ErrNotFound
	}
	if revision != AnyRevision && it.Revision != revision {
		return 0, ErrConflict
	}
	m.revision++
	delete(m.items, key)
	m.record(Event{Item: Item{Key: key, Revision: m.revision}, Deleted: true})
	return m.revision, nil
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, prefix string, after int64) <-chan Changes {
	out := make(chan Changes)
	go func() {
		defer close(out)
		for {
			m.mu.Lock()
			c := Changes{}
			if after < m.dropped {
				c.Err = ErrCompacted
			} else if m.closed {
				c.Err = ErrUnavailable
			}
			i, _ := slices.BinarySearchFunc(m.history, after+1, func(e Event, r int64) int { return int(e.Revision - r) })
			if c.Err == nil {
				for _, e := range m.history[i:] {
					after = e.Revision
					if strings.HasPrefix(e.Key, prefix) {
						c.Events = append(c.Events, e)
						c.Revision = e.Revision
					}
				}
			}
			changed := m.changed
			m.mu.Unlock()
			if len(c.Events) > 0 || c.Err != nil {
				select {
				case out <- c:
				case <-ctx.Done():
					return
				}
			}
			if c.Err != nil {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// Grant implements Store.
func (m *Memory) Grant(ctx context.Context, ttl time.Duration) (Lease, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	id := m.next
	m.leases[id] = &memoryLease{ttl: ttl, timer: time.AfterFunc(ttl, func() { m.end(id) })}
	return id, nil
}

func (m *Memory) end(l Lease) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	lease := m.leases[l]
	if lease == nil {
		return false
	}
	lease.timer.Stop()
	delete(m.leases, l)
	for k, it := range m.items {
		if it.Lease == l {
			m.revision++
			delete(m.items, k)
			m.record(Event{Item: Item{Key: k, Revision: m.revision}, Deleted: true})
		}
	}
	return true
}

// Renew implements Store.
func (m *Memory) Renew(ctx context.Context, l Lease) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	lease := m.leases[l]
	if lease == nil {
		return ErrLeaseEnded
	}
	lease.timer.Reset(lease.ttl)
	return nil
}

// Revoke implements Store.
func (m *Memory) Revoke(ctx context.Context, l Lease) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !m.end(l) {
		return ErrLeaseEnded
	}
	return nil
}

// Status implements Store.
func (m *Memory) Status(ctx context.Context) (Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Status{Kind: "memory", Revision: m.revision}, ctx.Err()
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	for _, l := range m.leases {
		l.timer.Stop()
	}
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}
