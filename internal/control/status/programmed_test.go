package status

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/mesh"
)

// TestProgrammed: a gateway is Programmed while a proxy runs it. alone: there can
// be no other replica; leader: this one writes; written: it was Programmed before
// this control plane started.
func TestProgrammed(t *testing.T) {
	type step struct {
		do    func(w *Writer)
		after time.Duration
		want  string
	}
	edge := mesh.Name{Namespace: "default", Name: "edge"}
	take := func(w *Writer) { w.Stands(edge, true, false, "") }
	lack := func(w *Writer) { w.Stands(edge, false, false, "its proxy says: port 80 is taken") }
	leave := func(w *Writer) { w.Stands(edge, false, true, "") }
	const yes, none = "Programmed ", "Pending " + noProxy
	for _, test := range []struct {
		name                   string
		alone, leader, written bool
		steps                  []step
	}{
		{"a proxy comes, loses its port, and has it again", true, true, false, []step{
			{nil, 0, none}, {lack, 0, "Pending its proxy says: port 80 is taken"}, {take, 0, yes}, {lack, time.Hour, "Pending its proxy says: port 80 is taken"}, {take, 0, yes}}},
		{"it is away for a moment", true, true, false, []step{
			{take, 0, yes}, {leave, awayTime - time.Second, yes}, {take, time.Hour, yes}}},
		{"it goes", true, true, false, []step{
			{take, settleTime, yes}, {leave, awayTime - time.Second, yes}, {nil, 2 * time.Second, none}}},
		{"the control plane starts again", true, true, true, []step{
			{nil, settleTime - time.Second, yes}, {take, time.Hour, yes}}},
		{"and nobody comes", true, true, true, []step{
			{nil, settleTime - time.Second, yes}, {nil, 2 * time.Second, none}}},
		{"the proxy is another replica's", false, true, true, []step{{nil, time.Hour, yes}}},
		{"or isn't there", false, true, false, []step{{nil, time.Hour, none}}},
		{"the leader is another", false, false, true, []step{
			{lack, 0, "Pending its proxy says: port 80 is taken"}, {take, 0, yes}, {leave, time.Hour, yes}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				s := store.NewMemory()
				o := store.NewObjects(s)
				docs, err := object.Decode("test", []byte(objects))
				if err != nil {
					t.Fatal(err)
				}
				var changes []graph.Change
				for _, d := range docs {
					stored, _, err := o.Apply(ctx, d.Object, false)
					if err != nil {
						t.Fatal(err)
					}
					changes = append(changes, graph.ChangeOf(stored))
				}
				statuses := graph.NewBuilder("mesh.local").Apply(1, changes).Statuses
				start := func(leader bool) (*Writer, func()) {
					ctx, stop := context.WithCancel(ctx)
					w := New(o, func() bool { return leader }, slog.New(slog.DiscardHandler))
					w.Alone = test.alone
					var all sync.WaitGroup
					all.Go(func() { w.Run(ctx) })
					w.Set(statuses)
					synctest.Wait()
					return w, func() {
						stop()
						all.Wait()
					}
				}
				if test.written {
					before, stop := start(true)
					take(before)
					synctest.Wait()
					stop()
				}
				w, stop := start(test.leader)
				for i, step := range test.steps {
					if step.do != nil {
						step.do(w)
					}
					time.Sleep(step.after)
					synctest.Wait()
					g, err := o.Fetch(ctx, object.Gateway, "default", "edge")
					if err != nil {
						t.Fatal(err)
					}
					status := g.(*gatewayv1.Gateway).Status
					c := meta.FindStatusCondition(status.Conditions, "Programmed")
					for _, l := range status.Listeners {
						if lc := meta.FindStatusCondition(l.Conditions, "Programmed"); lc == nil || lc.Status != c.Status || lc.Message != c.Message {
							t.Errorf("step %d: listener %s: %+v, its gateway: %+v", i, l.Name, lc, c)
						}
					}
					if len(status.Listeners) != 1 {
						t.Errorf("step %d: %d listeners", i, len(status.Listeners))
					}
					if c == nil || c.Reason+" "+c.Message != step.want || (c.Status == "True") != (step.want == yes) {
						t.Errorf("step %d: %+v, want %q", i, c, step.want)
					}
				}
				stop()
				cancel()
				s.Close()
			})
		})
	}
}
