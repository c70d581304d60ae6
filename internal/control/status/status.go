package status

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/mesh"
)

// ControllerName is who writes a route's parent status.
const ControllerName = "tulle.dev/control-plane"

const (
	writeTimeout = 5 * time.Second
	retryAfter   = time.Second
	maxMessage   = 1024
)

// Writer writes statuses. Set and Reject may be called from anywhere; Run's
// goroutine writes.
type Writer struct {
	objects *store.Objects
	log     *slog.Logger
	// Leader says whether this replica writes now.
	leader func() bool
	// Alone says that there can be no other replica: every proxy that is connected
	// is connected here. It is set before anything else.
	Alone bool

	mu       sync.Mutex
	wanted   map[graph.Ref]*graph.Status // the latest of each object
	todo     map[graph.Ref]bool
	rejected map[graph.Ref]string // by the object's own proxy
	stands   map[graph.Ref]*standing
	settled  bool // proxies have had the time to come
	wake     chan struct{}
}

// New makes a writer.
func New(objects *store.Objects, leader func() bool, log *slog.Logger) *Writer {
	return &Writer{objects: objects, leader: leader, log: log, wanted: map[graph.Ref]*graph.Status{},
		todo: map[graph.Ref]bool{}, rejected: map[graph.Ref]string{}, stands: map[graph.Ref]*standing{}, wake: make(chan struct{}, 1)}
}

// Set gives objects their status.
func (w *Writer) Set(statuses map[graph.Ref]*graph.Status) {
	if len(statuses) == 0 {
		return
	}
	w.mu.Lock()
	for ref, s := range statuses {
		w.wanted[ref] = s
		w.todo[ref] = true
	}
	w.mu.Unlock()
	w.poke()
}

// Gone forgets an object.
func (w *Writer) Gone(ref graph.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.wanted, ref)
	delete(w.todo, ref)
	delete(w.rejected, ref)
	delete(w.stands, ref)
}

// Reject notes why a proxy doesn't take what it is told; empty when it does.
func (w *Writer) Reject(n mesh.Name, role, reason string) {
	ref := graph.Ref{Kind: object.Workload, Name: n}
	if role == "gateway" {
		ref.Kind = object.Gateway
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rejected[ref] == reason {
		return
	}
	if reason == "" {
		delete(w.rejected, ref)
	} else {
		w.rejected[ref] = reason
	}
	if w.wanted[ref] != nil {
		w.todo[ref] = true
		w.poke()
	}
}

func (w *Writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run writes until the context ends.
func (w *Writer) Run(ctx context.Context) {
	defer time.AfterFunc(settleTime, w.settle).Stop()
	for {
		ref, status, rejected, ok := w.next()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-w.wake:
				continue
			}
		}
		programmed := w.programmed(ref)
		write := w.write
		if !w.leader() {
			if programmed.known == unknown {
				continue
			}
			write = w.writeProgrammed
		}
		if err := write(ctx, ref, status, rejected, programmed); err != nil && !errors.Is(err, store.ErrNotFound) {
			if ctx.Err() != nil {
				return
			}
			w.log.Warn("a status can't be written", "object", ref.String(), "error", err)
			w.mu.Lock()
			w.todo[ref] = true
			w.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryAfter):
			}
		}
	}
}

func (w *Writer) next() (graph.Ref, *graph.Status, string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ref := range w.todo {
		delete(w.todo, ref)
		return ref, w.wanted[ref], w.rejected[ref], true
	}
	return graph.Ref{}, nil, "", false
}

func (w *Writer) write(ctx context.Context, ref graph.Ref, s *graph.Status, rejected string, programmed programmed) error {
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	now := metav1.NewTime(w.objects.Now().UTC().Truncate(time.Second))
	_, err := w.objects.Update(ctx, ref.Kind, ref.Name.Namespace, ref.Name.Name, false, func(o object.Object) bool {
		if o.GetGeneration() != s.Generation {
			return false // worked out for another version of it: the next one comes
		}
		return set(o, s, rejected, programmed, now)
	})
	return err
}

// set writes a status into an object and reports whether anything changed.
func set(o object.Object, s *graph.Status, rejected string, programmed programmed, now metav1.Time) bool {
	switch o := o.(type) {
	case *v1alpha1.Mesh:
		return merge(&o.Status.Conditions, s.Conditions, s.Generation, now)
	case *v1alpha1.Workload:
		conditions := s.Conditions
		switch {
		case rejected != "":
			conditions = append(conditions[:len(conditions):len(conditions)], graph.Condition{Type: "Programmed", Reason: "Invalid", Message: "its proxy rejected what it was told: " + rejected})
		case o.Status.Lease == v1alpha1.LeaseHeld:
			conditions = append(conditions[:len(conditions):len(conditions)], graph.Condition{Type: "Programmed", True: true, Reason: "Programmed"})
		}
		return merge(&o.Status.Conditions, conditions, s.Generation, now)
	case *gatewayv1.Gateway:
		own := programmed.condition(o.Status.Conditions, rejected)
		changed := merge(&o.Status.Conditions, own.into(s.Conditions), s.Generation, now)
		var addresses []gatewayv1.GatewayStatusAddress
		kind := gatewayv1.IPAddressType
		for _, a := range s.Addresses {
			addresses = append(addresses, gatewayv1.GatewayStatusAddress{Type: &kind, Value: a})
		}
		listeners := make([]gatewayv1.ListenerStatus, 0, len(s.Listeners))
		group := gatewayv1.Group(gatewayv1.GroupName)
		for _, l := range s.Listeners {
			out := gatewayv1.ListenerStatus{Name: gatewayv1.SectionName(l.Name), AttachedRoutes: l.Attached, SupportedKinds: []gatewayv1.RouteGroupKind{}}
			for _, k := range l.Kinds {
				out.SupportedKinds = append(out.SupportedKinds, gatewayv1.RouteGroupKind{Group: &group, Kind: gatewayv1.Kind(k)})
			}
			for _, old := range o.Status.Listeners {
				if old.Name == out.Name {
					out.Conditions = old.Conditions
				}
			}
			changed = merge(&out.Conditions, own.into(l.Conditions), s.Generation, now) || changed
			listeners = append(listeners, out)
		}
		if !reflect.DeepEqual(addresses, o.Status.Addresses) || !reflect.DeepEqual(listeners, o.Status.Listeners) {
			o.Status.Addresses, o.Status.Listeners, changed = addresses, listeners, true
		}
		return changed
	case *gatewayv1.HTTPRoute:
		return setParents(&o.Status.Parents, s, now)
	case *gatewayv1.GRPCRoute:
		return setParents(&o.Status.Parents, s, now)
	case *gatewayv1.TLSRoute:
		return setParents(&o.Status.Parents, s, now)
	case *gatewayv1.TCPRoute:
		return setParents(&o.Status.Parents, s, now)
	case *v1alpha1.TrafficPolicy:
		return setAncestors(&o.Status, s, now)
	case *v1alpha1.RateLimitPolicy:
		return setAncestors(&o.Status, s, now)
	case *v1alpha1.FaultPolicy:
		return setAncestors(&o.Status, s, now)
	case *v1alpha1.AccessPolicy:
		return setAncestors(&o.Status, s, now)
	case *v1alpha1.AuthenticationPolicy:
		return setAncestors(&o.Status, s, now)
	case *v1alpha1.EgressPolicy:
		return setAncestors(&o.Status, s, now)
	}
	return false
}

// setParents writes how a route stands with its parents. Entries of other
// controllers stay.
func setParents(have *[]gatewayv1.RouteParentStatus, s *graph.Status, now metav1.Time) bool {
	var parents []gatewayv1.RouteParentStatus
	for _, old := range *have {
		if old.ControllerName != ControllerName {
			parents = append(parents, old)
		}
	}
	changed := len(*have) != len(parents)+len(s.Parents)
	for _, p := range s.Parents {
		out := gatewayv1.RouteParentStatus{ParentRef: p.Ref, ControllerName: ControllerName}
		for _, old := range *have {
			if old.ControllerName == ControllerName && reflect.DeepEqual(old.ParentRef, p.Ref) {
				out.Conditions = old.Conditions
			}
		}
		changed = merge(&out.Conditions, p.Conditions, s.Generation, now) || changed
		parents = append(parents, out)
	}
	if parents == nil {
		parents = []gatewayv1.RouteParentStatus{}
	}
	*have = parents
	return changed
}

// setAncestors writes how a policy stands with its targets (GEP-713).
func setAncestors(have *gatewayv1.PolicyStatus, s *graph.Status, now metav1.Time) bool {
	var ancestors []gatewayv1.PolicyAncestorStatus
	for _, old := range have.Ancestors {
		if old.ControllerName != ControllerName {
			ancestors = append(ancestors, old)
		}
	}
	changed := len(have.Ancestors) != len(ancestors)+len(s.Ancestors)
	for _, a := range s.Ancestors {
		out := gatewayv1.PolicyAncestorStatus{AncestorRef: a.Ref, ControllerName: ControllerName}
		for _, old := range have.Ancestors {
			if old.ControllerName == ControllerName && reflect.DeepEqual(old.AncestorRef, a.Ref) {
				out.Conditions = old.Conditions
			}
		}
		changed = merge(&out.Conditions, a.Conditions, s.Generation, now) || changed
		ancestors = append(ancestors, out)
	}
	have.Ancestors = ancestors
	return changed
}

// merge brings a list of conditions to what is wanted. The transition time of a
// condition moves only when its status does (Kubernetes API conventions).
func merge(have *[]metav1.Condition, want []graph.Condition, generation int64, now metav1.Time) bool {
	out := make([]metav1.Condition, 0, len(want))
	for _, c := range want {
		status := metav1.ConditionFalse
		if c.True {
			status = metav1.ConditionTrue
		}
		message := c.Message
		if len(message) > maxMessage {
			message = message[:maxMessage]
		}
		next := metav1.Condition{Type: c.Type, Status: status, Reason: c.Reason, Message: message, ObservedGeneration: generation, LastTransitionTime: now}
		for _, old := range *have {
			if old.Type == c.Type && old.Status == status {
				next.LastTransitionTime = old.LastTransitionTime
			}
		}
		out = append(out, next)
	}
	if len(out) == len(*have) {
		same := true
		for i := range out {
			a, b := out[i], (*have)[i]
			a.LastTransitionTime, b.LastTransitionTime = metav1.Time{}, metav1.Time{}
			same = same && a == b
		}
		if same {
			return false
		}
	}
	*have = out
	return true
}
