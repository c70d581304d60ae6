package schema

import (
	"context"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// rules are the CEL rules of one place of a schema and of what is below it. The
// library compiles all rules of a schema at once, and an HTTPRoute has a hundred;
// here those of a place are compiled when an object first has something there, so
// that a command line that applies a plain route doesn't wait for the rest.
type rules struct {
	// bare is the schema of the place without any rules, here is own's schema:
	// bare with the rules of this place alone, nil when it has none.
	bare, here *schema.Structural
	root       bool
	compile    sync.Once
	own        *cel.Validator

	items, values *rules // of a list and of a map's values
	fields        map[string]*rules
}

// newRules returns the rules of a schema, nil when there are none; bare is the
// same schema without.
func newRules(s, bare *schema.Structural, root bool) *rules {
	r := &rules{bare: bare, root: root}
	if len(s.XValidations) > 0 {
		here := *bare
		here.XValidations = s.XValidations
		r.here = &here
	}
	if s.Items != nil {
		r.items = newRules(s.Items, bare.Items, false)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		r.values = newRules(s.AdditionalProperties.Structural, bare.AdditionalProperties.Structural, false)
	}
	for name := range s.Properties {
		p, q := s.Properties[name], bare.Properties[name]
		if f := newRules(&p, &q, false); f != nil {
			if r.fields == nil {
				r.fields = map[string]*rules{}
			}
			r.fields[name] = f
		}
	}
	if r.here == nil && r.items == nil && r.values == nil && r.fields == nil {
		return nil
	}
	return r
}

// without removes the rules of a schema, which must be the caller's own copy.
func without(s *schema.Structural) {
	s.XValidations = nil
	if s.Items != nil {
		without(s.Items)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		without(s.AdditionalProperties.Structural)
	}
	for name, p := range s.Properties {
		without(&p)
		s.Properties[name] = p
	}
}

// check evaluates the rules on a value, within the budget of the whole object,
// and returns what is left of it; below zero it is spent and nothing more is done.
func (r *rules) check(path *field.Path, value any, budget int64) (field.ErrorList, int64) {
	if r == nil || value == nil || budget < 0 {
		return nil, budget
	}
	var errs field.ErrorList
	if r.here != nil {
		r.compile.Do(func() { r.own = cel.NewValidator(r.here, r.root, celconfig.PerCallLimit) })
		errs, budget = r.own.Validate(context.Background(), path, r.here, value, nil, budget)
	}
	below := func(next *rules, path *field.Path, value any) {
		var more field.ErrorList
		more, budget = next.check(path, value, budget)
		errs = append(errs, more...)
	}
	switch value := value.(type) {
	case []any:
		for i, v := range value {
			below(r.items, path.Index(i), v)
		}
	case map[string]any:
		for name, f := range r.fields {
			if v, ok := value[name]; ok {
				below(f, path.Child(name), v)
			}
		}
		if r.values != nil {
			for name, v := range value {
				if _, known := r.bare.Properties[name]; !known {
					below(r.values, path.Key(name), v)
				}
			}
		}
	}
	return errs, budget
}
