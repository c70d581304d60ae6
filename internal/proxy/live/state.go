package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// The files of a proxy's data directory.
const (
	StateFile   = "state"
	corruptFile = "state.corrupt"
	chainFile   = "svid.pem"
	keyFile     = "key.pem"
	nextKeyFile = "key.next.pem"
)

const (
	// saveDelay gathers changes before they are written.
	saveDelay = time.Second
	// saveRetry is when that is tried again which couldn't be written.
	saveRetry = 2 * time.Second
	// firstSave is the same for the first state: until it is on disk a proxy
	// that dies needs the control plane.
	firstSave = 10 * time.Millisecond
	// saveShare keeps the time spent on writing under 1/saveShare.
	saveShare = 20
	// sweepEvery is how often unused look-ups are looked for.
	sweepEvery = time.Minute
	// absentIdle is how long an unused "there is no such thing" is kept.
	absentIdle = time.Minute
)

func (l *Live) path(name string) string { return filepath.Join(l.config.DataDir, name) }

// load starts from what was saved. A broken state file is kept aside and asked
// for again.
func (l *Live) load() error {
	l.table.Store(&Table{})
	if l.config.DataDir == "" {
		return nil
	}
	path := l.path(StateFile)
	v, err := view.Load(path)
	if corrupt, ok := errors.AsType[*view.CorruptError](err); ok {
		return l.setAside(corrupt)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if v.Proxy.Name != l.config.Hello.Name || v.Proxy.Namespace != l.config.Hello.Namespace {
		return fmt.Errorf("data directory %s belongs to proxy %s/%s, this is %s/%s; give each proxy a directory of its own",
			l.config.DataDir, v.Proxy.Namespace, v.Proxy.Name, l.config.Hello.Namespace, l.config.Hello.Name)
	}
	now := time.Now()
	interests := make(map[string]*interest)
	t, bundle, err := compileView(v, func(key string) *usage {
		if !strings.Contains(key, "/") {
			return nil
		}
		i := &interest{used: &usage{}, lastUsed: now, answered: true, version: v.Versions[key]}
		interests[key] = i
		return i.used
	})
	if err != nil {
		return l.setAside(&view.CorruptError{Path: path, Reason: "the view in it makes no sense: " + err.Error()})
	}
	l.interest = interests
	for key := range interests {
		_, absent := v.Versions[key]
		switch kind, name := splitResource(key); kind {
		case control.KeyDestinationPart:
			absent = absent && v.Destinations[name] == nil
		case control.KeyEndpointsPart:
			absent = absent && v.Endpoints[name] == nil
		case control.KeyHostPart:
			absent = absent && v.Hosts[name] == nil
		}
		interests[key].absent = absent
	}
	for _, key := range []string{control.KeyProxy, control.KeyBundle} {
		if version, ok := v.Versions[key]; ok {
			l.own[key] = version
		}
	}
	l.bundle = &v.Bundle
	l.credentials.SetBundle(bundle)
	l.loadShares()
	l.table.Store(t)
	l.log.Info("started from saved state", "file", path, "version", t.Version)
	return nil
}

// setAside keeps a broken state file for people and goes on without it.
func (l *Live) setAside(corrupt *view.CorruptError) error {
	aside := l.path(corruptFile)
	if err := os.Rename(corrupt.Path, aside); err != nil {
		return fmt.Errorf("state file %s: %s, and it can't be moved aside: %w", corrupt.Path, corrupt.Reason, err)
	}
	l.log.Error("the state file is broken: kept aside, asking the control plane again",
		"file", corrupt.Path, "reason", corrupt.Reason, "aside", aside)
	return nil
}

// holding is what is known of one resource's version.
type holding struct {
	key     string
	version uint64
	absent  bool
}

// view gathers what there is to save; nil before the proxy knows what it is.
func (l *Live) view() *view.View {
	// No update may come between the table and the versions: content saved
	// with a newer version than its own would never be corrected.
	l.updating.Lock()
	t := l.Table()
	if t.Proxy == nil {
		l.updating.Unlock()
		return nil
	}
	v := &view.View{
		Version:      t.Version,
		Proxy:        *t.Proxy.Proxy,
		Destinations: make(map[string]*view.Destination),
		Endpoints:    make(map[string]*view.Endpoints),
		Hosts:        make(map[string]*view.Host),
	}
	l.mu.Lock()
	v.Versions = maps.Clone(l.own)
	if l.bundle != nil {
		v.Bundle = *l.bundle
	}
	held := make([]holding, 0, len(l.interest))
	for key, i := range l.interest {
		if i.answered {
			held = append(held, holding{key, i.version, i.absent})
		}
	}
	l.mu.Unlock()
	l.updating.Unlock()
	// The rest takes a while with many resources; the table doesn't change.
	for _, h := range held {
		if !t.has(h.key) {
			continue
		}
		v.Versions[h.key] = h.version
		if !h.absent {
			t.copyTo(v, h.key)
		}
	}
	return v
}

// copyTo puts a resource of the table into a view.
func (t *Table) copyTo(v *view.View, key string) {
	switch kind, name := splitResource(key); kind {
	case control.KeyDestinationPart:
		d, _ := t.destinations.get(name)
		v.Destinations[name] = d.Destination
	case control.KeyEndpointsPart:
		e, _ := t.endpoints.get(name)
		v.Endpoints[name] = e.Endpoints
	case control.KeyHostPart:
		if addr, err := parseAddr(name); err == nil {
			h, _ := t.addrs.get(addr)
			v.Hosts[name] = h.Host
			return
		}
		h, _ := t.hosts.get(name)
		v.Hosts[name] = h.Host
	}
}

// save writes the state, and what else isn't on disk yet, and reports whether all
// of it is. A failure is logged once, counted and shown, and the proxy goes on from
// memory.
func (l *Live) save() bool {
	if l.config.DataDir == "" {
		return true
	}
	l.saving.Lock()
	defer l.saving.Unlock()
	err := errors.Join(l.saveSVID(), l.saveRoots())
	if v := l.view(); v != nil {
		err = errors.Join(err, view.Save(l.path(StateFile), v))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.link.SaveError
	l.link.SaveError = ""
	if err != nil {
		l.saveErrors.Add(1)
		l.link.SaveError = err.Error()
	}
	switch {
	case err != nil && was == "":
		l.log.Error("can't save the state; a restart without the control plane would use an older one", "error", err)
	case err == nil && was != "":
		l.log.Info("the state can be saved again")
	}
	return err == nil
}

// Save writes the state now, for a process that takes this one's place.
func (l *Live) Save() error {
	l.saveShares()
	if !l.save() {
		return errors.New("the state can't be saved: " + l.Link().SaveError)
	}
	return nil
}

// keep saves the state after changes and drops look-ups nobody uses, until the
// context ends; then it saves once more.
func (l *Live) keep(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	var due, sharesDue <-chan time.Time
	delay := firstSave
	for {
		select {
		case <-l.shared:
			if sharesDue == nil {
				sharesDue = time.After(sharesDelay)
			}
		case <-sharesDue:
			sharesDue = nil
			l.saveShares()
		case <-ctx.Done():
			l.saveShares()
			select {
			case <-l.dirty:
				l.save()
			default:
				if due != nil {
					l.save()
				}
			}
			return
		case <-l.dirty:
			if due == nil {
				due = time.After(delay)
			}
		case <-due:
			due = nil
			start := time.Now()
			if !l.save() {
				due = time.After(saveRetry)
			}
			if l.Table().Proxy != nil {
				delay = max(saveDelay, saveShare*time.Since(start))
			}
		case <-sweep.C:
			l.sweep(time.Now())
			l.saveShares()
		}
	}
}

// sweep forgets what no loop has used for a long time.
func (l *Live) sweep(now time.Time) {
	l.updating.Lock()
	defer l.updating.Unlock()
	old := l.Table()
	needed := make(map[string]bool)
	if old.Proxy != nil {
		for _, key := range old.Proxy.implied() {
			needed[key] = true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, d := range old.destinations.all() {
		i := l.interest[DestinationKey(key)]
		if i == nil || d.Absent || (!needed[DestinationKey(key)] && l.idle(i, now)) {
			continue
		}
		for _, key := range implied(d.Destination) {
			needed[key] = true
		}
	}
	next := *old
	n := 0
	for key, i := range l.interest {
		if needed[key] || !l.idle(i, now) || len(i.waiters) > 0 {
			continue
		}
		next.drop(key)
		delete(l.interest, key)
		l.removed = append(l.removed, key)
		n++
	}
	if n == 0 {
		return
	}
	l.table.Store(&next)
	wake(l.news)
	wake(l.dirty)
	l.log.Debug("dropped unused look-ups", "number", n)
}

// idle reports whether an interest is past its time, and notes its use.
func (l *Live) idle(i *interest, now time.Time) bool {
	if i.used.flag.Swap(false) {
		i.lastUsed = now
	}
	limit := l.config.IdleLookup
	if i.absent {
		limit = min(limit, absentIdle)
	}
	return now.Sub(i.lastUsed) > limit
}
