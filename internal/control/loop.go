package control

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"tulle.dev/tulle/internal/control/federation"
	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/keys"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/push"
	"tulle.dev/tulle/internal/control/status"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
)

// loop is the path of a change: it follows the objects of the store, keeps the
// graph, and publishes each snapshot.
type loop struct {
	store *store.LastGood
	keys  *keys.Fetcher
	// foreign follows the other trust domains; nil does not.
	foreign *federation.Federation
	build   sync.Mutex // guards builder, and the order of what comes of it
	builder *graph.Builder
	push    *push.Server
	status  *status.Writer
	log     *slog.Logger
	known   map[string]graph.Ref // keys of the store whose object is in the builder

	snapshot atomic.Pointer[mesh.Snapshot]

	mu       sync.Mutex
	said     map[graph.Ref]*graph.Status
	revision int64 // of the store, taken in so far
	moved    chan struct{}
}

func newLoop(s *store.LastGood, d identity.TrustDomain, p *push.Server, w *status.Writer, log *slog.Logger) *loop {
	l := &loop{store: s, builder: graph.NewBuilder(d), push: p, status: w, log: log,
		known: map[string]graph.Ref{}, said: map[graph.Ref]*graph.Status{}, moved: make(chan struct{})}
	l.snapshot.Store(&mesh.Snapshot{Settings: mesh.Settings{TrustDomain: d}})
	return l
}

// judge takes the keys of tokens' issuers in: those that are known, and from now on
// those that are fetched. It is called before run.
func (l *loop) judge(f *keys.Fetcher) {
	l.keys = f
	l.builder.Keys(f.Known())
}

// rekey takes in that issuers' keys changed.
func (l *loop) rekey(keys map[string][]byte) {
	l.build.Lock()
	defer l.build.Unlock()
	l.builder.Keys(keys)
	if s := l.builder.Snapshot(); s != nil {
		l.publish(l.builder.Apply(s.Version, nil), nil)
	}
}

// publish hands on what changes of objects came to.
func (l *loop) publish(r graph.Result, changes []graph.Change) {
	if l.foreign != nil { // before proxies are told: who is trusted no more is left out
		l.foreign.Want(r.Snapshot.Settings.Federated)
	}
	l.snapshot.Store(r.Snapshot)
	l.push.Publish(r.Snapshot, &r.Changed)
	l.status.Set(r.Statuses)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		if c.Object == nil {
			delete(l.said, c.Ref)
		}
	}
	maps.Copy(l.said, r.Statuses)
}

func (l *loop) run(ctx context.Context) error {
	return store.Follow(ctx, l.store.Store, store.ObjectsPrefix, l.take)
}

// take is one step: changes of the store in, a snapshot out.
func (l *loop) take(reset bool, c store.Changes) {
	l.build.Lock()
	defer l.build.Unlock()
	l.store.Remember(reset, c)
	var changes []graph.Change
	there := map[string]bool{}
	for _, e := range c.Events {
		k, namespace, name, ok := store.ParseKey(e.Key)
		if !ok {
			continue
		}
		ref := graph.Ref{Kind: k, Name: mesh.Name{Namespace: namespace, Name: name}}
		if e.Deleted {
			changes = append(changes, l.gone(e.Key, ref))
			continue
		}
		o, err := store.Read(e.Item)
		if err != nil {
			l.log.Error("a stored object can't be read, it stays as it was", "key", e.Key, "error", err)
			there[e.Key] = true
			continue
		}
		object.Default(o)
		there[e.Key] = true
		l.known[e.Key] = ref
		changes = append(changes, graph.Change{Ref: ref, Object: o})
	}
	if reset {
		for key, ref := range l.known {
			if !there[key] {
				changes = append(changes, l.gone(key, ref))
			}
		}
	}
	l.publish(l.builder.Apply(uint64(c.Revision), changes), changes)
	judged := false
	for _, c := range changes {
		judged = judged || c.Kind == object.AuthenticationPolicy
	}
	if judged && l.keys != nil {
		l.keys.Want(l.builder.KeyURLs())
	}
	l.mu.Lock()
	l.revision = c.Revision
	close(l.moved)
	l.moved = make(chan struct{})
	l.mu.Unlock()
}

func (l *loop) gone(key string, ref graph.Ref) graph.Change {
	delete(l.known, key)
	l.status.Gone(ref)
	if ref.Kind == object.Workload || ref.Kind == object.Gateway {
		l.push.Forget(ref.Name, ref.Kind == object.Gateway)
	}
	return graph.Change{Ref: ref}
}

// await returns when a revision of the store is in the snapshot.
func (l *loop) await(ctx context.Context, revision int64) {
	for {
		l.mu.Lock()
		there, moved := l.revision >= revision, l.moved
		l.mu.Unlock()
		if there {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// statuses returns what is to be said about every object now.
func (l *loop) statuses() map[graph.Ref]*graph.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.said)
}
