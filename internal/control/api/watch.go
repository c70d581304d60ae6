package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/store"
)

// A watch is a list that goes on: GET with ?watch=1, in Kubernetes' form, a line of
// JSON for each event.

const (
	// maxWatches bounds the watches at a time.
	maxWatches = 64
	// longestWatch bounds one: its caller may have lost the right to it, and comes
	// back with the last resourceVersion. timeoutSeconds may ask for less.
	longestWatch = 30 * time.Minute
	// bookmarkEvery is how often a caller that asked for bookmarks is told the
	// resourceVersion, should nothing else happen.
	bookmarkEvery = 30 * time.Second
	// watchWrite bounds a write to a watcher, who must read.
	watchWrite = 10 * time.Second
	// watchFirst is how long the store may take to say that it doesn't keep what the
	// watch begins after.
	watchFirst = 100 * time.Millisecond
)

// errAnswered is what a handler returns that has answered itself.
var errAnswered = errors.New("answered")

// Stop ends all watches, and any to come.
func (a *API) Stop() { a.stopOnce.Do(func() { close(a.stop) }) }

// watching is one watch.
type watching struct {
	w      http.ResponseWriter
	out    *http.ResponseController
	kind   *object.Kind
	known  map[string]bool // the keys that the watcher knows of
	latest int64
}

func (a *API) watch(w http.ResponseWriter, r *http.Request, k *object.Kind, namespace string) error {
	select {
	case a.watches <- struct{}{}:
		defer func() { <-a.watches }()
	default:
		return failure(http.StatusTooManyRequests, client.ReasonTooMany, "%d watches are under way: as many as there may be", maxWatches)
	}
	q := r.URL.Query()
	limit, err := watchTime(q.Get("timeoutSeconds"))
	if err != nil {
		return err
	}
	ctx, cancel := contextWithTimeout(r, limit)
	defer cancel()
	prefix := store.Prefix(k, namespace)
	items, revision, err := a.config.Objects.List(ctx, prefix)
	if err != nil {
		return err
	}
	t := &watching{w: w, out: http.NewResponseController(w), kind: k, known: map[string]bool{}, latest: revision}
	after, first := revision, items
	if text := q.Get("resourceVersion"); text != "" && text != "0" {
		if after, err = strconv.ParseInt(text, 10, 64); err != nil || after < 0 {
			return failure(http.StatusBadRequest, client.ReasonBadRequest, "resourceVersion %q: want that of a list or an event", text)
		}
		if after > revision {
			return expired(after) // another store's
		}
		first = nil
		for _, it := range items {
			if it.Revision <= after {
				t.known[it.Key] = true
			}
		}
	}
	changes := a.config.Objects.Watch(ctx, prefix, after)
	var early *store.Changes
	if after < revision {
		select {
		case c, ok := <-changes:
			if !ok || errors.Is(c.Err, store.ErrCompacted) {
				return expired(after)
			}
			early = &c
		case <-time.After(watchFirst):
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	for _, it := range first {
		if t.event(store.Event{Item: it}) != nil {
			return errAnswered
		}
	}
	if early != nil && t.changes(early) != nil || t.flush() != nil {
		return errAnswered
	}
	var bookmarks <-chan time.Time
	if q.Get("allowWatchBookmarks") == "true" || q.Get("allowWatchBookmarks") == "1" {
		ticker := time.NewTicker(bookmarkEvery)
		defer ticker.Stop()
		bookmarks = ticker.C
		if t.bookmark() != nil {
			return errAnswered
		}
	}
	for {
		select {
		case <-a.stop:
			return errAnswered
		case <-ctx.Done():
			return errAnswered
		case <-bookmarks:
			if t.bookmark() != nil {
				return errAnswered
			}
		case c, ok := <-changes:
			if !ok || t.changes(&c) != nil {
				return errAnswered
			}
		}
	}
}

func expired(after int64) *client.Status {
	return failure(http.StatusGone, client.ReasonExpired, "resourceVersion %d is too old, or of another store: list again and watch from there", after)
}

func watchTime(text string) (time.Duration, error) {
	if text == "" {
		return longestWatch, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, failure(http.StatusBadRequest, client.ReasonBadRequest, "timeoutSeconds %q: want a number of at least 1", text)
	}
	return min(time.Duration(min(n, 1<<20))*time.Second, longestWatch), nil
}

// changes tells of what happened in the store; an error ends the watch.
func (t *watching) changes(c *store.Changes) error {
	for _, e := range c.Events {
		if err := t.event(e); err != nil {
			return err
		}
	}
	t.latest = max(t.latest, c.Revision)
	if c.Err != nil {
		s := statusOf(c.Err)
		if errors.Is(c.Err, store.ErrCompacted) {
			s = expired(t.latest)
		}
		t.write("ERROR", s)
		t.flush()
		return c.Err
	}
	return t.flush()
}

// event tells of one object. Of one that is gone the store knows no more than its
// name.
func (t *watching) event(e store.Event) error {
	k, namespace, name, ok := store.ParseKey(e.Key)
	if !ok {
		return nil
	}
	if e.Deleted {
		delete(t.known, e.Key)
		o := k.New()
		o.SetNamespace(namespace)
		o.SetName(name)
		o.SetResourceVersion(strconv.FormatInt(e.Revision, 10))
		return t.object("DELETED", o)
	}
	o, err := store.Read(e.Item)
	if err != nil {
		return err
	}
	what := "MODIFIED"
	if !t.known[e.Key] {
		t.known[e.Key] = true
		what = "ADDED"
	}
	return t.object(what, o)
}

func (t *watching) bookmark() error {
	o := t.kind.New()
	o.SetResourceVersion(strconv.FormatInt(t.latest, 10))
	if err := t.object("BOOKMARK", o); err != nil {
		return err
	}
	return t.flush()
}

func (t *watching) object(what string, o object.Object) error {
	o.GetObjectKind().SetGroupVersionKind(t.kind.New().GetObjectKind().GroupVersionKind())
	data, err := object.Encode(o)
	if err != nil {
		return err
	}
	return t.write(what, json.RawMessage(data))
}

func (t *watching) write(what string, v any) error {
	t.out.SetWriteDeadline(time.Now().Add(watchWrite)) // where there is none, there is no network either
	return json.NewEncoder(t.w).Encode(struct {
		Type   string `json:"type"`
		Object any    `json:"object"`
	}{what, v})
}

func (t *watching) flush() error {
	t.out.SetWriteDeadline(time.Now().Add(watchWrite))
	return t.out.Flush()
}
