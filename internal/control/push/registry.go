package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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
		if d := w.Spec.TrustDomain; d != "" && d != string(id.TrustDomain) {
			return refused("Workload %s is one of trust domain %s, this proxy's identity is %s", st.key.Name, d, id)
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
		s.Lease, s.ProxyVersion, s.ProxyUID, s.UniqueID = v1alpha1.LeaseHeld, st.hello.Version, st.hello.UID, st.unique
		return old.Lease != s.Lease || old.ProxyVersion != s.ProxyVersion || old.ProxyUID != s.ProxyUID || old.UniqueID != s.UniqueID
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
		if said.Draining {
			r.server.beginDrain(st)
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	n := st.key.Name
	unlock := r.lock(n)
	_, err := r.server.config.Objects.Update(ctx, object.Workload, n.Namespace, n.Name, false, func(o object.Object) bool {
		if !r.server.current(st) {
			return false // the proxy has connected again: what counts comes from there
		}
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

// current reports whether no newer conversation has taken the place of this one.
func (s *Server) current(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.byName[st.key]
	return newest == nil || newest == st
}

func (s *Server) connected(k proxyKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[k] != nil
}
