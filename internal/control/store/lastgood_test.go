package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"tulle.dev/tulle/internal/control/object"
)

// awayStore fails everything, as a store that can't be reached.
type awayStore struct{ *Memory }

func (awayStore) Get(context.Context, string) (Item, error) { return Item{}, ErrUnavailable }
func (awayStore) List(context.Context, string) ([]Item, int64, error) {
	return nil, 0, ErrUnavailable
}
func (awayStore) Put(context.Context, string, []byte, int64, Lease) (int64, error) {
	return 0, fmt.Errorf("%w: no space", ErrFull)
}

func TestReadingGoesOn(t *testing.T) {
	ctx := t.Context()
	m := NewMemory()
	l := NewLastGood(m)
	o := NewObjects(l)
	for _, name := range []string{"cart", "web"} {
		if _, _, err := o.Apply(ctx, service(t, name, ""), false); err != nil {
			t.Fatal(err)
		}
	}
	items, revision, err := m.List(ctx, ObjectsPrefix)
	if err != nil {
		t.Fatal(err)
	}
	l.Store = awayStore{m}
	if _, err := o.Fetch(ctx, object.Service, "default", "cart"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("before anything is known: %v", err)
	}
	c := Changes{Revision: revision}
	for _, it := range items {
		c.Events = append(c.Events, Event{Item: it})
	}
	l.Remember(true, c)
	got, err := o.Fetch(ctx, object.Service, "default", "cart")
	if err != nil || got.GetName() != "cart" {
		t.Errorf("one: %v %v", got, err)
	}
	all, _, err := o.FetchAll(ctx, object.Service, "")
	if err != nil || len(all) != 2 {
		t.Errorf("all: %v %v", all, err)
	}
	if _, err := o.Fetch(ctx, object.Service, "default", "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	if _, _, err := o.Apply(ctx, service(t, "third", ""), false); !errors.Is(err, ErrFull) {
		t.Errorf("writing: %v", err)
	}
	l.Remember(false, Changes{Revision: revision + 1, Events: []Event{{Item: Item{Key: Key(object.Service, "default", "web")}, Deleted: true}}})
	if _, err := o.Fetch(ctx, object.Service, "default", "web"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	// What isn't an object (tokens, leases) is never answered from memory.
	if _, err := l.Get(ctx, "/tulle/tokens/x"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a token: %v", err)
	}
}
