package schema

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Problem is one thing wrong with an object.
type Problem struct {
	// Field is a path such as "spec.rules[0].matches[1].path", or empty for the
	// whole object.
	Field string
	// Text says what is wrong and, where the schema knows, what would be right.
	Text string
}

// combined is what the library says of anyOf and oneOf: that nothing fits. What
// is wrong comes in errors of its own.
var combined = regexp.MustCompile(`^"([^"]*)" must (not )?validate `)

func problems(errs field.ErrorList) []Problem {
	var out, vague []Problem
	for _, e := range errs {
		p := Problem{Field: strings.TrimPrefix(e.Field, "<nil>"), Text: text(e)}
		if m := combined.FindStringSubmatch(e.Detail); m != nil {
			vague = append(vague, Problem{m[1], "doesn't have the form that is wanted"})
			continue
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	for _, p := range vague {
		if !slices.ContainsFunc(out, func(o Problem) bool { return strings.HasPrefix(o.Field, p.Field) }) {
			out = append(out, p)
		}
	}
	// The library goes through maps: its order is another each time.
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Text, b.Text))
	})
	return out
}

// patterns are the published ones that people run into, and what they ask for.
var patterns = map[string]string{
	`^([0-9]{1,5}(h|m|s|ms)){1,4}$`:                                             "a duration such as 500ms, 10s or 1m30s",
	`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`:  "a host name in lower case without port, such as shop.example or *.example",
	`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`:         "a name of a-z, 0-9, - and ., beginning and ending with a letter or digit",
	`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`:                                           "a name of a-z, 0-9 and -, beginning and ending with a letter or digit",
	`^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`:                                     "a name of letters, digits and -, beginning with a letter",
	"^[A-Za-z0-9!#$%&'*+\\-.^_\\x60|~]+$":                                       "a header field name",
	`^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`:      `a group such as gateway.networking.k8s.io, or "" for Kubernetes' own`,
	`^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`: "SERVICE-ACCOUNT.NAMESPACE, or *.NAMESPACE for all of a namespace",
	"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$":                                             "a name of letters, digits and -",
	`^/[!-~]*$`:                                                                 "a path that begins with /",
	`^/[^?#]*$`:                                                                 "a path that begins with /, without query",
}

// types are the schemas' types and formats in words.
var types = map[string]string{
	"ipv4": "an IP address, such as 127.0.0.1 or ::1", "ipv6": "an IP address, such as 127.0.0.1 or ::1", "date-time": "a time such as 2026-11-25T18:00:00Z",
	"string": "a string", "integer": "a whole number", "boolean": "true or false", "object": "a map", "array": "a list",
}

// phrases are how the library says what should be, and how this program does.
var phrases = []struct{ theirs, ours string }{
	{"should be greater than or equal to ", "at least "}, {"should be less than or equal to ", "at most "},
	{"should be at least ", "at least "}, {"should be at most ", "at most "},
}

// text says an error in the words of this program.
func text(e *field.Error) string {
	value, detail := show(e.BadValue), e.Detail
	switch e.Type {
	case field.ErrorTypeRequired:
		if detail == "" {
			return "is missing"
		}
		return detail
	case field.ErrorTypeNotSupported:
		return value + ": want one of " + strings.ReplaceAll(strings.TrimPrefix(detail, "supported values: "), `"`, "")
	case field.ErrorTypeTooMany:
		return value + " are too many: " + strings.TrimSuffix(strings.TrimPrefix(detail, "must have "), " items")
	case field.ErrorTypeTooLong:
		return "is too long: " + strings.TrimPrefix(detail, "may not be ")
	case field.ErrorTypeDuplicate:
		if keys, ok := e.BadValue.(map[string]any); ok {
			var parts []string
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				parts = append(parts, k+" "+show(keys[k]))
			}
			value = strings.Join(parts, " with ")
		}
		return value + " is there twice: each must be different"
	case field.ErrorTypeForbidden:
		return detail
	}
	// "FIELD in body should …" comes from the schema; rules speak for themselves.
	if _, rest, ok := strings.Cut(detail, " in body "); ok {
		if few, ok := strings.CutPrefix(rest, "should have at least "); ok {
			return value + " are too few: at least " + strings.TrimSuffix(few, " items")
		}
		return value + ": want " + wanted(rest)
	}
	switch e.BadValue.(type) {
	case string, int64, float64, bool:
		return value + ": " + detail
	}
	return detail
}

// wanted says what a schema's demand asks for.
func wanted(demand string) string {
	if p, ok := strings.CutPrefix(demand, "should match '"); ok {
		p = strings.TrimSuffix(p, "'")
		if words := patterns[p]; words != "" {
			return words
		}
		return "a match of " + p
	}
	if t, ok := strings.CutPrefix(demand, "must be of type "); ok {
		t, _, _ = strings.Cut(t, ":")
		if words := types[t]; words != "" {
			return words
		}
		return "something of type " + t
	}
	for _, p := range phrases {
		if r, ok := strings.CutPrefix(demand, p.theirs); ok {
			return p.ours + r
		}
	}
	return "something that " + demand
}

// show writes a value for a message; long ones are cut.
func show(v any) string {
	const most = 80
	var s string
	switch v := v.(type) {
	case nil:
		return "this"
	case string:
		if len(v) > most {
			return fmt.Sprintf("%q…", v[:most])
		}
		return fmt.Sprintf("%q", v)
	case map[string]any, []any:
		b, _ := json.Marshal(v) // it came from JSON
		s = string(b)
	default:
		s = fmt.Sprint(v)
	}
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
