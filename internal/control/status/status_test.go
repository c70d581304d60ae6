package status

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
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
		if len(first) != 2 || first[1].Type != "Programmed" || first[1].Status != metav1.ConditionFalse || first[1].Reason != "Pending" || first[1].ObservedGeneration != 1 {
			t.Errorf("gateway without a proxy: %+v", first)
		}
		name := mesh.Name{Namespace: "default", Name: "edge"}
		w.Stands(name, true, false, "")
		synctest.Wait()
		g = gateway()
		first = g.Status.Conditions
		if first[1].Status != metav1.ConditionTrue || first[1].Reason != "Programmed" || first[1].Message != "" {
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

// TestRoutesAndPolicies: every kind of route has a status for each parent, every
// policy one for each target, all with the generation they were worked out for;
// what other controllers wrote stays.
func TestRoutesAndPolicies(t *testing.T) {
	conditions := []graph.Condition{{Type: "Accepted", True: true, Reason: "Accepted"}, {Type: "ResolvedRefs", Reason: "BackendNotFound", Message: "none"}}
	ref := func(name string) gatewayv1.ParentReference {
		return gatewayv1.ParentReference{Name: gatewayv1.ObjectName(name)}
	}
	s := &graph.Status{Generation: 7, Parents: []graph.ParentStatus{{Ref: ref("a"), Conditions: conditions}, {Ref: ref("b"), Conditions: conditions}},
		Ancestors: []graph.ParentStatus{{Ref: ref("a"), Conditions: conditions}, {Ref: ref("b"), Conditions: conditions}}}
	foreign := gatewayv1.RouteParentStatus{ParentRef: ref("a"), ControllerName: "example.com/another"}
	now := metav1.Now()
	for _, k := range object.Kinds() {
		if !strings.HasSuffix(k.Name, "Route") && !strings.HasSuffix(k.Name, "Policy") {
			continue
		}
		o := k.New()
		entries := func() (out [][]metav1.Condition, others int) {
			data, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Status struct {
					Parents   []gatewayv1.RouteParentStatus
					Ancestors []gatewayv1.PolicyAncestorStatus
				}
			}
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			add := func(by gatewayv1.GatewayController, conditions []metav1.Condition) {
				if by == ControllerName {
					out = append(out, conditions)
				} else {
					others++
				}
			}
			for _, p := range got.Status.Parents {
				add(p.ControllerName, p.Conditions)
			}
			for _, a := range got.Status.Ancestors {
				add(a.ControllerName, a.Conditions)
			}
			return out, others
		}
		switch o := o.(type) {
		case *gatewayv1.HTTPRoute:
			o.Status.Parents = append(o.Status.Parents, foreign)
		case *v1alpha1.TrafficPolicy:
			o.Status.Ancestors = append(o.Status.Ancestors, gatewayv1.PolicyAncestorStatus{AncestorRef: ref("a"), ControllerName: "example.com/another"})
		}
		_, before := entries()
		if !set(o, s, "", programmed{}, now) {
			t.Errorf("%T: nothing was set", o)
		}
		got, others := entries()
		if len(got) != 2 || others != before {
			t.Fatalf("%T: %d entries of ours, %d of others", o, len(got), others)
		}
		for _, list := range got {
			if len(list) != 2 || list[0].ObservedGeneration != 7 || list[1].ObservedGeneration != 7 || list[1].Status != metav1.ConditionFalse || list[1].Reason != "BackendNotFound" {
				t.Errorf("%T: %+v", o, list)
			}
		}
		if set(o, s, "", programmed{}, metav1.NewTime(now.Add(time.Hour))) {
			t.Errorf("%T: the same again changes something", o)
		}
		fewer := &graph.Status{Generation: 8, Parents: s.Parents[1:], Ancestors: s.Ancestors[1:]}
		if !set(o, fewer, "", programmed{}, now) {
			t.Errorf("%T: a parent that went away changes nothing", o)
		}
		if got, others := entries(); len(got) != 1 || got[0][0].ObservedGeneration != 8 || others != before {
			t.Errorf("%T: %+v and %d others are left", o, got, others)
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	var have []metav1.Condition
	long := string(make([]byte, 5*maxMessage))
	merge(&have, []graph.Condition{{Type: "Accepted", Reason: "X", Message: long}}, 1, metav1.Now())
	if d := cmp.Diff(maxMessage, len(have[0].Message)); d != "" {
		t.Error(d)
	}
}
