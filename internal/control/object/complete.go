package object

import (
	"encoding/json"
	"slices"

	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// Default fills what was left out, Validate says what can't be. Both are part
// of Decode; they are for objects made by programs.
func Default(o Object) {
	k := Of(o)
	if k.schema != nil {
		data, err := Encode(o)
		if err == nil {
			var tree map[string]any
			if tree, err = readTree(data); err == nil {
				k.schema.Default(tree)
				err = writeTree(tree, o)
			}
		}
		if err != nil {
			panic("object: a known object doesn't survive its own encoding: " + err.Error())
		}
	}
	k.fill(o)
}

// Validate returns what is wrong with an object, nil when nothing is.
func Validate(o Object) []Issue {
	k := Of(o)
	issues := k.check(o)
	if k.schema == nil {
		return issues
	}
	data, err := Encode(o)
	if err == nil {
		var tree map[string]any
		if tree, err = readTree(data); err == nil {
			return append(issues, k.checkTree(tree, issues)...)
		}
	}
	return append(issues, Issue{Problem: err.Error()})
}

// complete reads an object's JSON into o, with defaults, and says what is wrong
// with it. The schema judges what was written, not what Go makes of it: a string
// that is missing isn't an empty one.
func complete(k *Kind, o Object, data []byte) ([]Issue, error) {
	var tree map[string]any
	if k.schema != nil {
		var err error
		if tree, err = readTree(data); err != nil {
			return nil, err
		}
		k.schema.Default(tree)
		if err := writeTree(tree, o); err != nil {
			return nil, err
		}
	} else if err := json.Unmarshal(data, o); err != nil {
		return nil, err
	}
	k.name(o)
	k.fill(o)
	issues := k.check(o)
	if k.schema != nil {
		issues = append(issues, k.checkTree(tree, issues)...)
	}
	return issues, nil
}

// fill does what Go code knows of defaults.
func (k *Kind) fill(o Object) {
	if k.Namespaced && o.GetNamespace() == "" {
		o.SetNamespace(DefaultNamespace)
	}
	if k.setDefs != nil {
		k.setDefs(o)
	}
}

// check does what Go code knows of validation.
func (k *Kind) check(o Object) []Issue {
	issues := validateMeta(k, o)
	if k.validate != nil {
		issues = append(issues, k.validate(o)...)
	}
	return issues
}

// checkTree asks the schema, which is silent about fields that were spoken of.
func (k *Kind) checkTree(tree map[string]any, said []Issue) []Issue {
	var out []Issue
	for _, p := range k.schema.Validate(tree) {
		if !slices.ContainsFunc(said, func(i Issue) bool { return i.Field == p.Field }) {
			out = append(out, Issue{p.Field, p.Text})
		}
	}
	return out
}

// readTree reads JSON as the API server does: whole numbers as int64.
func readTree(data []byte) (map[string]any, error) {
	var tree map[string]any
	err := utiljson.Unmarshal(data, &tree)
	return tree, err
}

func writeTree(tree map[string]any, o Object) error {
	data, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, o)
}
