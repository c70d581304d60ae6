package status

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/mesh"
)

const objects = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: tulle, listeners: [{name: http, port: 8080, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 80}, {name: gone, port: 80}]}]}
`

func TestConditionsAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := store.NewMemory()
		o := store.NewObjects(s)
		docs, err := object.Decode("test", []byte(objects))
		if err != nil {
			t.Fatal(err)
		}
		b := graph.NewBuilder("mesh.local")
		var changes []graph.Change
		for _, d := range docs {
			stored, _, err := o.Apply(ctx, d.Object, false)
			if err != nil {
				t.Fatal(err)
			}
			changes = append(changes, graph.ChangeOf(stored))
		}
		leader := false
		w := New(o, func() bool { return leader }, slog.New(slog.DiscardHandler))
		var all sync.WaitGroup
		all.Go(func() { w.Run(ctx) })
		r := b.Apply(1, changes)
		w.Set(r.Statuses)
		synctest.Wait()
		gateway := func() *gatewayv1.Gateway {
			g, err := o.Fetch(ctx, object.Gateway, "default", "edge")
			if err != nil {
				t.Fatal(err)
			}
			return g.(*gatewayv1.Gateway)
		}
		if len(gateway().Status.Conditions) != 0 {
			t.Error("written without being elected")
		}
		leader = true
		w.Set(r.Statuses)
		synctest.Wait()
		g := gateway()
		first := g.Status.Conditions
		if len(first) != 2 || first[1].Type != "Programmed" || first[1].Status != metav1.ConditionTrue || first[1].ObservedGeneration != 1 {
			t.Errorf("gateway: %+v", first)
		}
		if len(g.Status.Listeners) != 1 || g.Status.Listeners[0].AttachedRoutes != 1 || g.Status.Addresses[0].Value != "127.0.0.1" {
			t.Errorf("listeners: %+v", g.Status)
		}
		obj, err := o.Fetch(ctx, object.HTTPRoute, "default", "web")
		if err != nil {
			t.Fatal(err)
		}
		parents := obj.(*gatewayv1.HTTPRoute).Status.Parents
		if len(parents) != 1 || parents[0].ControllerName != ControllerName || parents[0].Conditions[1].Status != metav1.ConditionFalse || parents[0].Conditions[1].Reason != "BackendNotFound" {
			t.Errorf("route: %+v", parents)
		}
		// The same again writes nothing; a rejection turns Programmed, and only its
		// time moves.
		version := g.ResourceVersion
		time.Sleep(time.Hour)
		w.Set(r.Statuses)
		synctest.Wait()
		if gateway().ResourceVersion != version {
			t.Error("written although nothing changed")
		}
		name := mesh.Name{Namespace: "default", Name: "edge"}
		w.Reject(name, "gateway", "port taken")
		synctest.Wait()
		now := gateway().Status.Conditions
		if now[1].Status != metav1.ConditionFalse || now[1].LastTransitionTime == first[1].LastTransitionTime || now[0].LastTransitionTime != first[0].LastTransitionTime {
			t.Errorf("rejected: %+v", now)
		}
		w.Reject(name, "gateway", "")
		synctest.Wait()
		if c := gateway().Status.Conditions[1]; c.Status != metav1.ConditionTrue {
			t.Errorf("taken again: %+v", c)
		}
		// A status worked out for an older generation is not written.
		g = gateway()
		g.Spec.Listeners[0].Port = 8081
		g.ResourceVersion = ""
		if _, _, err := o.Apply(ctx, g, false); err != nil {
			t.Fatal(err)
		}
		w.Reject(name, "gateway", "late")
		synctest.Wait()
		if c := gateway().Status.Conditions[1]; c.Status != metav1.ConditionTrue || c.ObservedGeneration != 1 {
			t.Errorf("an old status was written: %+v", c)
		}
		w.Gone(graph.Ref{Kind: object.Gateway, Name: name})
		cancel()
		all.Wait()
		s.Close()
	})
}

func TestMessagesAreBounded(t *testing.T) {
	var have []metav1.Condition
	long := string(make([]byte, 5*maxMessage))
	merge(&have, []graph.Condition{{Type: "Accepted", Reason: "X", Message: long}}, 1, metav1.Now())
	if d := cmp.Diff(maxMessage, len(have[0].Message)); d != "" {
		t.Error(d)
	}
}
