package push

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/mesh"
)

// run renews this replica's leases, follows everybody's and judges ended ones.
func (r *registry) run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all.Go(func() { r.renew(ctx) })
	all.Go(func() { r.server.greetings.run(ctx) })
	all.Go(func() { r.server.shares.run(ctx) })
	all.Go(func() { r.server.shares.follow(ctx) })
	all.Go(func() {
		store.Follow(ctx, r.server.config.Objects, leasesPrefix, r.follow)
	})
	t := time.NewTicker(time.Second)
	defer t.Stop()
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			r.judge(ctx)
		case <-probe.C:
			r.probe(ctx)
		}
	}
}

func (r *registry) renew(ctx context.Context) {
	t := time.NewTicker(renewEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		r.mu.Lock()
		var live []mesh.Name
		var leases []store.Lease
		for n, h := range r.held {
			if h.live {
				live, leases = append(live, n), append(leases, h.lease)
			}
		}
		r.mu.Unlock()
		for i, n := range live {
			if err := r.server.config.Objects.Renew(ctx, leases[i]); errors.Is(err, store.ErrLeaseEnded) {
				r.regain(ctx, n)
			} else if err != nil && ctx.Err() == nil {
				r.server.config.Log.Warn("leases can't be renewed", "error", err)
				break // the store is away; the next round tries again
			}
			r.resave(ctx, n)
		}
	}
}

// resave writes a status that couldn't be written when it came.
func (r *registry) resave(ctx context.Context, n mesh.Name) {
	r.server.mu.Lock()
	st := r.server.byName[proxyKey{n, false}]
	r.server.mu.Unlock()
	if st == nil {
		return
	}
	st.mu.Lock()
	unsaved, said := st.unsaved, st.status
	st.mu.Unlock()
	if unsaved {
		r.status(ctx, st, said)
	}
}

// regain takes a new lease for a proxy that is connected although its lease ended.
func (r *registry) regain(ctx context.Context, n mesh.Name) {
	r.server.mu.Lock()
	st := r.server.byName[proxyKey{n, false}]
	r.server.mu.Unlock()
	if st == nil {
		return
	}
	if err := r.arrived(ctx, st); err != nil && ctx.Err() == nil {
		r.server.config.Log.Warn("a lease can't be taken again", "proxy", n.String(), "error", err)
		return
	}
	st.mu.Lock()
	said := st.status
	st.mu.Unlock()
	r.status(ctx, st, said)
}

// follow keeps the picture of everybody's leases.
func (r *registry) follow(reset bool, c store.Changes) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reset {
		clear(r.leases)
	}
	for _, e := range c.Events {
		ns, name, ok := strings.Cut(strings.TrimPrefix(e.Key, leasesPrefix), "/")
		if !ok {
			continue
		}
		n := mesh.Name{Namespace: ns, Name: name}
		if e.Deleted {
			delete(r.leases, n)
			if _, known := r.due[n]; !known {
				r.due[n] = r.now() // judged in the next round
				r.ends[n] = r.now()
			}
			continue
		}
		var v leaseValue
		if json.Unmarshal(e.Value, &v) == nil {
			r.leases[n] = v
			delete(r.due, n)
			delete(r.suspects, n)
			if h := r.held[n]; h == nil || h.live {
				delete(r.ends, n)
			}
		}
	}
}

// judge decides about workloads without a lease: one that ended alone is gone;
// when many ended at once, or soon after this control plane began, the fault
// may be its own, and they are kept as suspects.
func (r *registry) judge(ctx context.Context) {
	snap := r.server.snapshot.Load()
	if snap == nil {
		return
	}
	now := r.now()
	r.mu.Lock()
	idle := len(r.due)+len(r.suspects) == 0 && now.Sub(r.scanned) < LeaseTTL
	if !idle {
		r.scanned = now
	}
	r.mu.Unlock()
	if idle {
		return
	}
	young := now.Sub(r.server.started) < LeaseTTL
	objects, _, err := r.server.config.Objects.FetchAll(ctx, object.Workload, "")
	if err != nil {
		return
	}
	r.mu.Lock()
	maps.DeleteFunc(r.ends, func(_ mesh.Name, t time.Time) bool { return now.Sub(t) > LeaseTTL+renewEvery })
	ended, all := len(r.ends), len(r.leases)
	for n := range r.ends {
		if _, leased := r.leases[n]; !leased {
			all++
		}
	}
	many := ended >= fewLeases && ended*5 > all
	var act []*v1alpha1.Workload
	for _, o := range objects {
		w := o.(*v1alpha1.Workload)
		n := mesh.Name{Namespace: w.Namespace, Name: w.Name}
		if _, leased := r.leases[n]; leased {
			continue
		}
		switch w.Status.Lease {
		case v1alpha1.LeaseHeld:
			if _, known := r.due[n]; !known {
				// Its lease ended while nobody looked: it gets the time to come back.
				r.due[n] = later(now, r.server.started.Add(LeaseTTL))
			}
			if !now.Before(r.due[n]) {
				act = append(act, w)
			}
		case v1alpha1.LeaseSuspect:
			if r.suspects[n] == nil {
				r.suspects[n] = &suspect{since: now}
			}
			if now.Sub(r.suspects[n].since) > maxSuspect {
				act = append(act, w)
			}
		default:
			if w.Spec.Ephemeral && now.Sub(later(w.CreationTimestamp.Time, r.server.started)) > startGrace {
				act = append(act, w)
			}
		}
	}
	r.mu.Unlock()
	for _, w := range act {
		keep := w.Status.Lease == v1alpha1.LeaseHeld && !w.Status.Draining && (many || young || r.sawStart(w, now))
		r.end(ctx, w, keep)
	}
}

// others reports whether another replica holds leases.
func (r *registry) others() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.leases {
		if v.Replica != r.server.replica {
			return true
		}
	}
	return false
}

// sawStart: the lease ended within one lease time after this control plane
// began, although it is judged only now.
func (r *registry) sawStart(w *v1alpha1.Workload, now time.Time) bool {
	return now.Sub(r.server.started) < 2*LeaseTTL && r.dueAt(mesh.Name{Namespace: w.Namespace, Name: w.Name}).Sub(r.server.started) <= LeaseTTL
}

func (r *registry) dueAt(n mesh.Name) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.due[n]
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// end writes what the end of a lease means.
func (r *registry) end(ctx context.Context, w *v1alpha1.Workload, keep bool) {
	n := mesh.Name{Namespace: w.Namespace, Name: w.Name}
	log := r.server.config.Log.With("workload", n.String())
	defer r.lock(n)()
	var err error
	switch {
	case keep:
		log.Warn("a lease ended together with many others, or soon after the control plane began: the workload is kept as suspect")
		_, err = r.server.config.Objects.Update(ctx, object.Workload, n.Namespace, n.Name, false, func(o object.Object) bool {
			s := &o.(*v1alpha1.Workload).Status
			same := s.ProxyUID == w.Status.ProxyUID && s.Lease == w.Status.Lease
			s.Lease = v1alpha1.LeaseSuspect
			return same
		})
	case w.Spec.Ephemeral:
		log.Info("a workload's lease ended, it is removed")
		_, err = r.server.config.Objects.Remove(ctx, object.Workload, n.Namespace, n.Name, w.ResourceVersion, false)
	default:
		log.Info("a workload's lease ended, it gets no more traffic")
		_, err = r.server.config.Objects.Update(ctx, object.Workload, n.Namespace, n.Name, false, func(o object.Object) bool {
			s := &o.(*v1alpha1.Workload).Status
			same := s.ProxyUID == w.Status.ProxyUID && s.Lease == w.Status.Lease
			s.Lease, s.Ready, s.Draining = v1alpha1.LeaseEnded, nil, false
			return same
		})
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		log.Warn("the end of a lease can't be written", "error", err)
		return
	}
	r.mu.Lock()
	delete(r.due, n)
	delete(r.broken, n)
	if !keep {
		delete(r.suspects, n)
		delete(r.writing, n)
	}
	r.mu.Unlock()
}

// probe asks the addresses of workloads whose proxy isn't heard of. One that
// refuses connections, twice, is gone: only its own machine can say that, and
// silence proves nothing. A suspect's lease ends then; one whose conversation
// just broke off gets no more traffic, without waiting for its lease.
func (r *registry) probe(ctx context.Context) {
	snap := r.server.snapshot.Load()
	if snap == nil {
		return
	}
	r.mu.Lock()
	names := slices.Collect(maps.Keys(r.suspects))
	for n := range r.broken {
		if r.suspects[n] == nil {
			names = append(names, n)
		}
	}
	r.mu.Unlock()
	for _, n := range names {
		w := snap.Workloads[n]
		gone := w != nil && refuses(ctx, w)
		r.mu.Lock()
		s, isBroken := r.suspects[n], false
		count := 0
		switch {
		case w == nil:
			delete(r.suspects, n)
			delete(r.broken, n)
		case s != nil:
			if s.refused++; !gone {
				s.refused = 0
			}
			count = s.refused
		default:
			if count, isBroken = r.broken[n]; isBroken {
				if count++; !gone {
					count = 0
				}
				r.broken[n] = count
			}
		}
		r.mu.Unlock()
		if count < refusals {
			continue
		}
		if isBroken {
			r.unready(ctx, n)
			continue
		}
		if o, err := r.server.config.Objects.Fetch(ctx, object.Workload, n.Namespace, n.Name); err == nil {
			if w := o.(*v1alpha1.Workload); w.Status.Lease == v1alpha1.LeaseSuspect {
				r.end(ctx, w, false)
			}
		}
	}
}

// refuses reports whether a workload's proxy refuses connections.
func refuses(ctx context.Context, w *mesh.Workload) bool {
	for i := range w.Ports {
		if !w.Ports[i].Mesh.IsValid() {
			continue
		}
		d := net.Dialer{Timeout: probeLimit}
		c, err := d.DialContext(ctx, "tcp", w.Ports[i].Mesh.String())
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	return false
}

// unready takes a workload out whose proxy is dead. When it comes back it says
// itself whether it is ready.
func (r *registry) unready(ctx context.Context, n mesh.Name) {
	defer r.lock(n)()
	r.mu.Lock()
	_, still := r.broken[n]
	delete(r.broken, n)
	r.mu.Unlock()
	if !still {
		return // it came back meanwhile
	}
	_, err := r.server.config.Objects.Update(ctx, object.Workload, n.Namespace, n.Name, false, func(o object.Object) bool {
		s := &o.(*v1alpha1.Workload).Status
		if s.Lease != v1alpha1.LeaseHeld || s.Ready == nil || !*s.Ready {
			return false
		}
		ready := false
		s.Ready, s.Detail = &ready, "its proxy is gone: its address refuses connections"
		return true
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrNotFound) {
		r.server.config.Log.Warn("a dead proxy's workload can't be taken out", "workload", n.String(), "error", err)
	}
}
