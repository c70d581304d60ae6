package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// readPatience is how long a read waits for a store that doesn't answer before
// the last good copy is used.
const readPatience = 2 * time.Second

// LastGood is a Store whose objects can be read when the store can't: from the
// copy that Remember keeps. Everything else is the store's. It is what makes
// reading go on while a disk is full or etcd is away.
type LastGood struct {
	Store

	mu       sync.Mutex
	items    map[string]Item
	revision int64
	complete bool
}

// NewLastGood wraps a store.
func NewLastGood(s Store) *LastGood { return &LastGood{Store: s, items: map[string]Item{}} }

// Remember takes what Follow brought for ObjectsPrefix.
func (l *LastGood) Remember(reset bool, c Changes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reset {
		clear(l.items)
		l.complete = true
	}
	for _, e := range c.Events {
		if e.Deleted {
			delete(l.items, e.Key)
		} else {
			l.items[e.Key] = e.Item
		}
	}
	l.revision = c.Revision
}

// away reports whether an error means that the store can't be asked.
func away(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (errors.Is(err, ErrUnavailable) || errors.Is(err, ErrFull) || errors.Is(err, context.DeadlineExceeded))
}

// Get implements Store.
func (l *LastGood) Get(ctx context.Context, key string) (Item, error) {
	one, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	it, err := l.Store.Get(one, key)
	if err == nil || !strings.HasPrefix(key, ObjectsPrefix) || !away(ctx, err) {
		return it, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if kept, ok := l.items[key]; ok {
		return kept, nil
	}
	if l.complete {
		return Item{}, ErrNotFound
	}
	return Item{}, err
}

// List implements Store.
func (l *LastGood) List(ctx context.Context, prefix string) ([]Item, int64, error) {
	one, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	items, revision, err := l.Store.List(one, prefix)
	if err == nil || !strings.HasPrefix(prefix, ObjectsPrefix) || !away(ctx, err) {
		return items, revision, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.complete {
		return nil, 0, err
	}
	var out []Item
	for k, it := range l.items {
		if strings.HasPrefix(k, prefix) {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b Item) int { return strings.Compare(a.Key, b.Key) })
	return out, l.revision, nil
}
