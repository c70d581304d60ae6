package status

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
)

// A Gateway is Programmed once a proxy has taken what its spec comes to, and has
// its listeners open. Among several replicas the one that the proxy is connected
// to says so, whether it is the leader or not; the leader leaves what is written
// there alone. A proxy that is away for a while goes on with what it has, so it has
// a moment to come back; what only one replica can know for certain, that no proxy
// is connected anywhere, is said only where there can't be another.

const (
	// awayTime is how long a proxy may be away until its gateway isn't Programmed.
	awayTime = 10 * time.Second
	// settleTime is how long after the start proxies may take to come.
	settleTime = 30 * time.Second
)

// standing is what is known of a gateway's proxy.
type standing struct {
	taken bool
	lacks string
	gone  *time.Timer // runs while it is away
}

// programmed is what is to be written of it.
type programmed struct {
	known knowledge
	lacks string
}

type knowledge uint8

const (
	unknown knowledge = iota // whether a proxy has taken it: what is written stays
	taken
	lacking
)

const noProxy = "no proxy runs it: tulle up starts those of its files, tulle-proxy one of the gateway's name"

// Stands notes how a gateway stands with its proxy: whether that has taken it, or is
// away, and if not taken what it lacks.
func (w *Writer) Stands(n mesh.Name, taken, away bool, lacks string) {
	ref := graph.Ref{Kind: object.Gateway, Name: n}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stands[ref]
	if s == nil {
		s = &standing{}
		w.stands[ref] = s
	}
	if s.gone != nil {
		s.gone.Stop()
		s.gone = nil
	}
	if away {
		s.gone = time.AfterFunc(awayTime, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.stands[ref] == s && s.gone != nil {
				delete(w.stands, ref)
				w.again(ref)
			}
		})
		return
	}
	s.taken, s.lacks = taken, lacks
	w.again(ref)
}

// again has a status written anew. The caller holds mu.
func (w *Writer) again(ref graph.Ref) {
	if w.wanted[ref] != nil {
		w.todo[ref] = true
		w.poke()
	}
}

// settle is called when proxies have had the time to come.
func (w *Writer) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = true
	for ref := range w.wanted {
		if ref.Kind == object.Gateway {
			w.again(ref)
		}
	}
}

// programmed is what is known of a gateway's proxy now.
func (w *Writer) programmed(ref graph.Ref) programmed {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s := w.stands[ref]; {
	case ref.Kind != object.Gateway:
		return programmed{}
	case s != nil && s.taken:
		return programmed{known: taken}
	case s != nil:
		return programmed{known: lacking, lacks: s.lacks}
	case w.Alone && w.settled:
		return programmed{known: lacking, lacks: noProxy}
	}
	return programmed{}
}

// condition is a gateway's that nothing else is wrong with; have are those that are
// written there.
func (p programmed) condition(have []metav1.Condition, rejected string) own {
	c := own{Type: string(gatewayv1.GatewayConditionProgrammed), Reason: string(gatewayv1.GatewayReasonPending), Message: noProxy}
	switch {
	case rejected != "":
		c.Reason, c.Message = "Invalid", "its proxy rejected what it was told: "+rejected
	case p.known == taken, p.known == unknown && meta.IsStatusConditionTrue(have, c.Type):
		c.True, c.Reason, c.Message = true, string(gatewayv1.GatewayReasonProgrammed), ""
	case p.known == lacking:
		c.Message = p.lacks
	}
	return c
}

// own is whether a gateway that nothing else is wrong with is Programmed.
type own graph.Condition

// into puts it in the place of what a gateway's conditions, or a listener's, say
// where nothing is wrong.
func (c own) into(conditions []graph.Condition) []graph.Condition {
	out := slices.Clone(conditions)
	for i := range out {
		if out[i].Type == c.Type && out[i].True {
			out[i] = graph.Condition(c)
		}
	}
	return out
}

// writeProgrammed writes that condition alone, for a replica that isn't the leader.
func (w *Writer) writeProgrammed(ctx context.Context, ref graph.Ref, s *graph.Status, rejected string, p programmed) error {
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	now := metav1.NewTime(w.objects.Now().UTC().Truncate(time.Second))
	_, err := w.objects.Update(ctx, ref.Kind, ref.Name.Namespace, ref.Name.Name, false, func(o object.Object) bool {
		g, ok := o.(*gatewayv1.Gateway)
		if !ok || g.Generation != s.Generation {
			return false
		}
		own := p.condition(g.Status.Conditions, rejected)
		changed := own.only(&g.Status.Conditions, s.Conditions, s.Generation, now)
		for i := range g.Status.Listeners {
			for _, l := range s.Listeners {
				if have := &g.Status.Listeners[i]; string(have.Name) == l.Name {
					changed = own.only(&have.Conditions, l.Conditions, s.Generation, now) || changed
				}
			}
		}
		return changed
	})
	return err
}

// only brings that condition alone, of those that are written, to what is wanted.
func (c own) only(have *[]metav1.Condition, wanted []graph.Condition, generation int64, now metav1.Time) bool {
	old := meta.FindStatusCondition(*have, c.Type)
	if old == nil {
		return false // the leader writes all first
	}
	for _, w := range c.into(wanted) {
		if w.Type != c.Type {
			continue
		}
		one := []metav1.Condition{*old}
		if merge(&one, []graph.Condition{w}, generation, now) {
			*old = one[0]
			return true
		}
	}
	return false
}
