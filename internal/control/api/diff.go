package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/explain"
)

// maxDiffed bounds the objects of one question.
const maxDiffed = 10_000

// diff answers POST /tulle/v1/diff: it makes the mesh's graph from the store's
// objects, takes the sent ones in, and compares. Nothing is written.
func (a *API) diff(w http.ResponseWriter, r *http.Request) (any, error) {
	var req client.DiffRequest
	if err := readJSON(w, r, &req); err != nil {
		return nil, err
	}
	if len(req.Objects) == 0 || len(req.Objects) > maxDiffed {
		return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "objects: there are %d, want 1 to %d", len(req.Objects), maxDiffed)
	}
	out := &client.Diff{}
	var changes []graph.Change
	for i, data := range req.Objects {
		one, change, err := a.tryObject(r.Context(), data)
		if err != nil {
			return nil, inObject(i, err)
		}
		out.Objects, changes = append(out.Objects, *one), append(changes, change)
	}
	current, err := a.allObjects(r.Context())
	if err != nil {
		return nil, err
	}
	builder := graph.NewBuilder(a.config.Mesh.Snapshot().Settings.TrustDomain)
	before := builder.Apply(1, current)
	after := builder.Apply(2, changes)
	effect, err := explain.Diff(before.Snapshot, after.Snapshot)
	if err != nil {
		return nil, err
	}
	out.Effect = *effect
	out.Statuses = statusDiffs(before.Statuses, after.Statuses)
	return out, nil
}

// inObject says which object of a request is wrong.
func inObject(i int, err error) error {
	s := statusOf(err)
	s.Message = fmt.Sprintf("objects[%d]: %s", i, s.Message)
	return s
}

// tryObject works out what would become of one object.
func (a *API) tryObject(ctx context.Context, data []byte) (*client.ObjectDiff, graph.Change, error) {
	var none graph.Change
	var meta struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return nil, none, failure(http.StatusBadRequest, client.ReasonBadRequest, "is not JSON: %s", err)
	}
	i := slices.IndexFunc(object.Kinds(), func(k *object.Kind) bool { return k.Name == meta.Kind && k.APIVersion() == meta.APIVersion })
	if i < 0 {
		return nil, none, failure(http.StatusBadRequest, client.ReasonBadRequest, "kind %s of %s isn't known", meta.Kind, meta.APIVersion)
	}
	k := object.Kinds()[i]
	o, err := object.DecodeOne(k, data)
	if err != nil {
		return nil, none, err
	}
	one := &client.ObjectDiff{Kind: k.Name, Namespace: o.GetNamespace(), Name: o.GetName()}
	switch old, err := a.config.Objects.Fetch(ctx, k, o.GetNamespace(), o.GetName()); {
	case err == nil:
		if one.Before, err = bare(old); err != nil {
			return nil, none, err
		}
	case !errors.Is(err, store.ErrNotFound):
		return nil, none, err
	}
	next, action, err := a.config.Objects.Apply(ctx, o, true)
	if err != nil {
		return nil, none, err
	}
	one.Action = string(action)
	if one.After, err = bare(next); err != nil {
		return nil, none, err
	}
	object.Default(next)
	return one, graph.ChangeOf(next), nil
}

// bare is an object without its status and what the control plane writes into its
// metadata; of a Secret's data only that it is there.
func bare(o object.Object) (json.RawMessage, error) {
	data, err := object.Encode(o)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	delete(m, "status")
	if meta, ok := m["metadata"].(map[string]any); ok {
		for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"} {
			delete(meta, field)
		}
	}
	if strings.EqualFold(fmt.Sprint(m["kind"]), "Secret") {
		for _, field := range []string{"data", "stringData"} {
			if values, ok := m[field].(map[string]any); ok {
				for name, v := range values {
					values[name] = fmt.Sprintf("(%d characters)", len(fmt.Sprint(v)))
				}
			}
		}
	}
	return json.Marshal(m)
}

// allObjects are the store's, as the graph takes them.
func (a *API) allObjects(ctx context.Context) ([]graph.Change, error) {
	var out []graph.Change
	for _, k := range object.Kinds() {
		list, _, err := a.config.Objects.FetchAll(ctx, k, "")
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			object.Default(o)
			out = append(out, graph.ChangeOf(o))
		}
	}
	return out, nil
}

// statusDiffs compares conditions; after holds the objects whose conditions change.
func statusDiffs(before, after map[graph.Ref]*graph.Status) []client.StatusDiff {
	var out []client.StatusDiff
	refs := slices.SortedFunc(maps.Keys(after), func(a, b graph.Ref) int { return strings.Compare(refText(a), refText(b)) })
	for _, ref := range refs {
		old, now := conditionsOf(before[ref]), conditionsOf(after[ref])
		for _, key := range slices.Sorted(maps.Keys(now)) {
			was, known := old[key]
			is := now[key]
			if known && was.True == is.True && (is.True || was.Reason == is.Reason) || !known && fine(is) {
				continue
			}
			d := client.StatusDiff{Object: refText(ref), Type: is.Type, True: is.True, Reason: is.Reason, Message: is.Message}
			if where, _, _ := strings.Cut(key, conditionSep); where != "" {
				d.Object += " " + where
			}
			out = append(out, d)
		}
	}
	return out
}

// conditionSep parts where a condition is from its type.
const conditionSep = "\x00"

// conditionsOf are all conditions of an object, by where they are and their type.
func conditionsOf(s *graph.Status) map[string]graph.Condition {
	out := map[string]graph.Condition{}
	if s == nil {
		return out
	}
	add := func(where string, list []graph.Condition) {
		for _, c := range list {
			out[where+conditionSep+c.Type] = c
		}
	}
	refs := func(list []graph.ParentStatus) {
		for _, p := range list {
			where := "at " + string(p.Ref.Name)
			if p.Ref.SectionName != nil {
				where += "/" + string(*p.Ref.SectionName)
			}
			if p.Ref.Port != nil {
				where += fmt.Sprintf(":%d", *p.Ref.Port)
			}
			add(where, p.Conditions)
		}
	}
	add("", s.Conditions)
	refs(s.Parents)
	refs(s.Ancestors)
	for _, l := range s.Listeners {
		add("listener "+l.Name, l.Conditions)
	}
	return out
}

// fine reports whether a condition says nothing that anybody must know.
func fine(c graph.Condition) bool { return c.True != (c.Type == "Conflicted") }

func refText(r graph.Ref) string { return strings.ToLower(r.Kind.Name) + " " + r.Name.String() }
