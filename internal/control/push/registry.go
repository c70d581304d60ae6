package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

const (
	leasesPrefix = "/tulle/leases/"
	renewEvery   = LeaseTTL / 3
	// startGrace is how long an ephemeral workload waits for its proxy.
	startGrace = 2 * LeaseTTL
	// maxSuspect is how long a workload is kept on suspicion alone.
	maxSuspect = 10 * time.Minute
	// fewLeases: fewer ends than this are never taken for the control plane's
	// own trouble.
	fewLeases  = 2
	probeEvery = time.Second
	probeLimit = time.Second
	// refusals is how often in a row an address must refuse before its proxy is
	// believed dead.
	refusals = 2
	// statusTimeout bounds writing one workload's status.
	statusTimeout = 5 * time.Second

	annotationRegistered = "tulle.dev/registered"
)

// refusal is an error that is the proxy's own.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

func refused(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// leaseValue is what a lease's key holds.
type leaseValue struct {
	UID     string `json:"uid"`
	Replica string `json:"replica"`
}

// registry ties workload objects to their proxies: it admits registrations,
// holds the leases of connected proxies, and decides what the end of a lease
// means.
type registry struct {
	server *Server

	mu sync.Mutex
	// held are this replica's leases.
	held map[mesh.Name]*holding
	// leases are everybody's, as the store has them.
	leases map[mesh.Name]leaseValue
	// due are workloads whose lease is gone, and when that is judged.
	due map[mesh.Name]time.Time
	// ends are the times of lately ended leases and broken conversations; one
	// that came back is taken out.
	ends map[mesh.Name]time.Time
	// suspects counts the refusals of each suspect's address, and since when it is one.
	suspects map[mesh.Name]*suspect
	writing  map[mesh.Name]*sync.Mutex
	// broken are workloads whose proxy's conversation broke off, with how often
	// their address has refused since.
	broken  map[mesh.Name]int
	scanned time.Time // when judge last looked at every workload
}

type holding struct {
	lease store.Lease
	uid   string
	live  bool
}

type suspect struct {
	since   time.Time
	refused int
}

func (r *registry) init(s *Server) {
	r.server = s
	r.held, r.leases = map[mesh.Name]*holding{}, map[mesh.Name]leaseValue{}
	r.due, r.suspects = map[mesh.Name]time.Time{}, map[mesh.Name]*suspect{}
	r.broken = map[mesh.Name]int{}
	r.writing, r.ends = map[mesh.Name]*sync.Mutex{}, map[mesh.Name]time.Time{}
}

func leaseKey(n mesh.Name) string { return leasesPrefix + n.Namespace + "/" + n.Name }

func (r *registry) now() time.Time { return r.server.config.Now() }

// admit says whether a proxy may be who it says, and serve what it registers.
func (r *registry) admit(ctx context.Context, st *stream) error {
	h, id := st.hello, st.identity
	if id.TrustDomain != r.server.config.CA.TrustDomain() {
		return refused("identity %s is of another trust domain", id)
	}
	if h.Namespace != id.Namespace {
		return refused("the proxy says it is in namespace %s, its identity is %s", h.Namespace, id)
	}
	objects := r.server.config.Objects
	if st.key.gateway {
		_, err := objects.Fetch(ctx, object.Gateway, h.Namespace, h.Name)
		if errors.Is(err, store.ErrNotFound) {
			return refused("there is no Gateway %s in namespace %s: apply one, or start the proxy with the name of one", h.Name, h.Namespace)
		}
		if err == nil && id.ServiceAccount != h.Name {
			return refused("Gateway %s is run with identity %s, this proxy has %s", st.key.Name, idOf(id.TrustDomain, h.Namespace, h.Name), id)
		}
		return err
	}
	granted, err := r.server.config.Tokens.Services(ctx, id)
	if err != nil {
		return err
	}
	o, err := objects.Fetch(ctx, object.Workload, h.Namespace, h.Name)
	var written []v1alpha1.WorkloadPort
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return err
	default:
		w := o.(*v1alpha1.Workload)
		if w.Spec.ServiceAccount != id.ServiceAccount {
			return refused("Workload %s has service account %s, this proxy's identity is %s", st.key.Name, w.Spec.ServiceAccount, id)
		}
		// What a person wrote into the object is granted by that.
		if w.Annotations[annotationRegistered] == "" {
			written = w.Spec.Ports
		}
	}
	for _, reg := range h.Registrations {
		if slices.Contains(granted, reg.Service) {
			continue
		}
		if slices.ContainsFunc(written, func(p v1alpha1.WorkloadPort) bool { return qualified(p.Service, h.Namespace) == reg.Service }) {
			continue
		}
		return refused("%s may not serve %s: join with a token that grants it (POST /tulle/v1/join-tokens of the control API), or name the service in Workload %s", id, reg.Service, st.key.Name)
	}
	return nil
}

func qualified(service, namespace string) string {
	if strings.Contains(service, ".") {
		return service
	}
	return service + "." + namespace
}

// arrived takes a lease for a workload's proxy and writes what it registered.
func (r *registry) arrived(ctx context.Context, st *stream) error {
	if st.key.gateway {
		return nil
	}
	n, objects := st.key.Name, r.server.config.Objects
	lease, err := objects.Grant(ctx, LeaseTTL)
	if err != nil {
		return err
	}
	value, err := json.Marshal(leaseValue{UID: st.hello.UID, Replica: r.server.replica})
	if err != nil {
		return err
	}
	if _, err := objects.Put(ctx, leaseKey(n), value, store.AnyRevision, lease); err != nil {
		return err
	}
	r.mu.Lock()
	r.held[n] = &holding{lease: lease, uid: st.hello.UID, live: true}
	delete(r.due, n)
	delete(r.suspects, n)
	delete(r.ends, n)
	delete(r.broken, n)
	r.mu.Unlock()

	defer r.lock(n)()
	o, err := objects.Fetch(ctx, object.Workload, n.Namespace, n.Name)
	if errors.Is(err, store.ErrNotFound) {
		o, err = r.create(ctx, st)
	}
	if err != nil {
		return err
	}
	if o.(*v1alpha1.Workload).Annotations[annotationRegistered] != "" {
		if _, err := objects.Update(ctx, object.Workload, n.Namespace, n.Name, true, func(o object.Object) bool {
			return registerPorts(o.(*v1alpha1.Workload), st.hello)
		}); err != nil {
			return err
		}
	}
	_, err = objects.Update(ctx, object.Workload, n.Namespace, n.Name, false, func(o object.Object) bool {
		s := &o.(*v1alpha1.Workload).Status
		old := *s
		if s.ProxyUID != st.hello.UID {
			s.Ready, s.Draining, s.Detail = nil, false, ""
		}
		s.Lease, s.ProxyVersion, s.ProxyUID = v1alpha1.LeaseHeld, st.hello.Version, st.hello.UID
		return old.Lease != s.Lease || old.ProxyVersion != s.ProxyVersion || old.ProxyUID != s.ProxyUID
	})
	return err
}

func (r *registry) create(ctx context.Context, st *stream) (object.Object, error) {
	w := object.Workload.New().(*v1alpha1.Workload)
	w.Namespace, w.Name = st.key.Namespace, st.key.Name.Name
	w.Annotations = map[string]string{annotationRegistered: "proxy"}
	w.Spec.ServiceAccount, w.Spec.Zone, w.Spec.Ephemeral = st.identity.ServiceAccount, st.hello.Zone, true
	registerPorts(w, st.hello)
	object.Default(w)
	if issues := object.Validate(w); len(issues) > 0 {
		return nil, refused("the registration makes no sense: %s: %s", issues[0].Field, issues[0].Problem)
	}
	o, _, err := r.server.config.Objects.Apply(ctx, w, false)
	return o, err
}

// registerPorts writes a proxy's registrations into its workload; it reports
// whether anything changed.
func registerPorts(w *v1alpha1.Workload, h *control.Hello) bool {
	var ports []v1alpha1.WorkloadPort
	for _, reg := range h.Registrations {
		p := v1alpha1.WorkloadPort{Service: reg.Service, Port: int32(reg.Port), AppAddress: reg.App.String(), MeshAddress: reg.Mesh.String()}
		switch reg.Protocol {
		case view.HTTP:
			p.Protocol = "http"
		case view.TCP:
			p.Protocol = "tcp"
		}
		ports = append(ports, p)
	}
	if slices.Equal(ports, w.Spec.Ports) {
		return false
	}
	w.Spec.Ports = ports
	if len(h.Registrations) > 0 {
		w.Spec.Address = h.Registrations[0].Mesh.Addr().String()
	}
	return true
}

// lock serialises what this replica writes about one workload.
func (r *registry) lock(n mesh.Name) (unlock func()) {
	r.mu.Lock()
	m := r.writing[n]
	if m == nil {
		m = new(sync.Mutex)
		r.writing[n] = m
	}
	r.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// status writes what a proxy says about itself into its workload. A workload
// that serves through its proxy is ready only once the proxy has registered.
func (r *registry) status(ctx context.Context, st *stream, said control.Status) {
	if st.key.gateway {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	n := st.key.Name
	unlock := r.lock(n)
	_, err := r.server.config.Objects.Update(ctx, object.Workload, n.Namespace, n.Name, false, func(o object.Object) bool {
		w := o.(*v1alpha1.Workload)
		s := &w.Status
		ready := said.Ready
		if len(st.hello.Registrations) == 0 && slices.ContainsFunc(w.Spec.Ports, func(p v1alpha1.WorkloadPort) bool { return p.MeshAddress != "" || p.MeshPort != 0 }) {
			ready = false
		}
		if s.ProxyUID != st.hello.UID || s.Ready != nil && *s.Ready == ready && s.Draining == said.Draining && s.Detail == said.Detail {
			return false
		}
		s.Ready, s.Draining, s.Detail = &ready, said.Draining, said.Detail
		return true
	})
	unlock()
	lost := err != nil && st.grpc.Context().Err() == nil && !errors.Is(err, store.ErrNotFound)
	if lost {
		r.server.config.Log.Warn("a proxy's status can't be written, it is tried again", "proxy", n.String(), "error", err)
	}
	st.mu.Lock()
	st.unsaved = lost
	st.mu.Unlock()
	if said.Draining {
		r.server.beginDrain(st)
	}
}

// left is called when a conversation ended. The lease goes on for its time; of
// a proxy that has drained it ends now.
func (r *registry) left(st *stream) {
	if st.key.gateway {
		return
	}
	r.mu.Lock()
	h := r.held[st.key.Name]
	if h == nil || h.uid != st.hello.UID || r.server.connected(st.key) {
		r.mu.Unlock()
		return
	}
	h.live = false
	st.mu.Lock()
	draining := st.status.Draining
	st.mu.Unlock()
	if !draining {
		r.ends[st.key.Name] = r.now()
		r.broken[st.key.Name] = 0
	} else {
		delete(r.held, st.key.Name)
	}
	r.mu.Unlock()
	if draining {
		ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
		defer cancel()
		r.server.config.Objects.Revoke(ctx, h.lease)
	}
}

func (s *Server) connected(k proxyKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[k] != nil
}

// run renews this replica's leases, follows everybody's and judges ended ones.
func (r *registry) run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all.Go(func() { r.renew(ctx) })
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
