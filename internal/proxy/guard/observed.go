package guard

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxObserved bounds what is remembered of one service on one loop, and what
	// is told of it.
	MaxObserved = 512
	// maxSiblings bounds the different parts of a path at one place that are kept
	// apart: where there are more they are names of things, and become "*".
	maxSiblings = 16
	// maxPart bounds a part of a path that is kept, in bytes.
	maxPart = 64
)

// Observed is who asked a service for what, and how often.
type Observed struct {
	Service string `json:"service"`
	// Peer is the proven identity, a SPIFFE id; empty when nothing was proven.
	Peer string `json:"peer"`
	// Method and Path are empty for connections whose requests can't be seen. Path
	// is its first two parts, "*" in place of a part that is one of many.
	Method string `json:"method"`
	Path   string `json:"path"`
	// Requests is how many there were, Denied how many of them were refused.
	Requests uint64 `json:"requests"`
	Denied   uint64 `json:"denied"`
	// Ago is how many seconds ago the last one was let in; -1 when none was.
	Ago int64 `json:"seconds_ago"`
}

// observed is what one door remembers.
type observed struct {
	// The loop's own.
	entries  map[string]*seen
	siblings map[string]map[string]struct{} // by what is before them
	key      []byte
	short    []byte
	other    *seen // what found no room

	mu   sync.Mutex // guards list
	list []*seen
}

// seen is one combination. The loop counts, anybody may read.
type seen struct {
	peer, method, path string
	requests, denied   atomic.Uint64
	last               atomic.Int64 // second of the loop's clock, plus one, when one was let in
}

func newObserved() *observed {
	return &observed{entries: make(map[string]*seen), siblings: make(map[string]map[string]struct{})}
}

// note remembers a request. Where it is like the connection's last one that is
// two comparisons and two stores.
func (o *observed) note(c *Caller, method, path []byte, denied bool, now time.Duration) {
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	path = twoParts(path)
	e := c.seen
	if e == nil || e.method != string(method) || e.path != string(path) {
		e = o.find(c, method, path)
		c.seen = e
	}
	e.requests.Store(e.requests.Load() + 1)
	if denied {
		e.denied.Store(e.denied.Load() + 1)
	} else if second := int64(now/time.Second) + 1; e.last.Load() != second { // a store costs more than a load
		e.last.Store(second)
	}
}

// twoParts is the path's first two parts.
func twoParts(path []byte) []byte {
	if len(path) < 2 {
		return path
	}
	i := bytes.IndexByte(path[1:], '/')
	if i < 0 {
		return path
	}
	if j := bytes.IndexByte(path[i+2:], '/'); j >= 0 {
		return path[:i+2+j]
	}
	return path
}

// find returns the entry of a combination.
func (o *observed) find(c *Caller, method, path []byte) *seen {
	if !known(method) {
		method = anything
	}
	if e := o.get(c, method, path); e != nil {
		return e
	}
	first, second := path, []byte(nil)
	if len(path) > 1 {
		if i := bytes.IndexByte(path[1:], '/'); i >= 0 {
			first, second = path[:i+1], path[i+1:]
		}
	}
	// A part that is one of many is none that a rule would name.
	if len(first) > 1 && (len(first) > maxPart || !o.among(c, method, nil, first)) {
		first = slashAny
		if len(second) > 0 {
			second = slashAny
		}
	}
	if len(second) > 1 && (len(second) > maxPart || !o.among(c, method, first, second)) {
		second = slashAny
	}
	o.short = append(append(o.short[:0], first...), second...)
	if e := o.get(c, method, o.short); e != nil {
		return e
	}
	if len(o.entries) >= MaxObserved {
		if o.other == nil {
			o.other = o.add(&seen{peer: "other", method: "*", path: "*"})
		}
		return o.other
	}
	e := o.add(&seen{peer: c.peer.ID.String(), method: string(method), path: string(o.short)})
	o.entries[string(o.key)] = e // as get made it
	return e
}

var (
	slashAny = []byte("/*")
	anything = []byte("*")
)

func (o *observed) add(e *seen) *seen {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, e)
	return e
}

// get looks a combination up, and leaves its key in o.key.
func (o *observed) get(c *Caller, method, path []byte) *seen {
	o.key = append(append(append(append(append(o.key[:0], c.name...), 0), method...), 0), path...)
	return o.entries[string(o.key)]
}

// among reports whether a part of a path is one of few beside its siblings.
func (o *observed) among(c *Caller, method, parent, part []byte) bool {
	o.get(c, method, parent)
	few := o.siblings[string(o.key)]
	if _, there := few[string(part)]; there {
		return true
	}
	if len(few) >= maxSiblings {
		return false
	}
	if few == nil {
		if len(o.siblings) >= MaxObserved {
			return false
		}
		few = make(map[string]struct{})
		o.siblings[string(o.key)] = few
	}
	few[string(part)] = struct{}{}
	return true
}

// known reports whether a method is one that rules name.
func known(method []byte) bool {
	switch string(method) {
	case "", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE":
		return true
	}
	return false
}

// Observed tells who asked the door's service for what, as of now on the loop's
// clock. It may be called from anywhere.
func (d *Door) Observed(now time.Duration) []Observed {
	if d.observed == nil {
		return nil
	}
	d.observed.mu.Lock()
	defer d.observed.mu.Unlock()
	out := make([]Observed, 0, len(d.observed.list))
	for _, e := range d.observed.list {
		ago := int64(-1)
		if last := e.last.Load(); last > 0 {
			ago = max(0, int64(now/time.Second)+1-last)
		}
		out = append(out, Observed{d.service, e.peer, e.method, e.path, e.requests.Load(), e.denied.Load(), ago})
	}
	return out
}

// Merge sums what several loops have seen, in order. Of each service what is over
// MaxObserved is left out, the rarest first.
func Merge(lists ...[]Observed) []*Observed {
	type key struct{ service, peer, method, path string }
	sums := make(map[key]*Observed)
	for _, list := range lists {
		for _, e := range list {
			k := key{e.Service, e.Peer, e.Method, e.Path}
			s := sums[k]
			if s == nil {
				sums[k] = &e
				continue
			}
			s.Requests += e.Requests
			s.Denied += e.Denied
			if s.Ago < 0 || e.Ago >= 0 && e.Ago < s.Ago {
				s.Ago = e.Ago
			}
		}
	}
	out := slices.SortedFunc(maps.Values(sums), func(a, b *Observed) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(b.Requests, a.Requests),
			cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Path, b.Path))
	})
	n, service := 0, ""
	return slices.DeleteFunc(out, func(e *Observed) bool {
		if n++; e.Service != service {
			n, service = 1, e.Service
		}
		return n > MaxObserved
	})
}
