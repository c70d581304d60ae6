package token

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/route"
)

// Token is what a verified token says. It is immutable.
type Token struct {
	// Issuer is the place of its issuer in the policy, Name the iss claim.
	Issuer int
	Name   string
	// Subject is whose JWT-SVID it is, where it is one and that has Tulle's form.
	Subject identity.ID
	// Ends is the exp claim.
	Ends time.Time
	// Headers are the values for the policy's claim headers of that issuer, in
	// order; nil where there is nothing to say.
	Headers [][]byte

	claims map[string][]string
	size   int // bytes it takes, about
}

// Claim reports whether the token has a claim and, when values isn't empty, one of
// them is among its values (access.Claims). It doesn't allocate.
func (t *Token) Claim(name string, values []string) bool {
	if t == nil {
		return false
	}
	has, ok := t.claims[name]
	if !ok || len(values) == 0 {
		return ok
	}
	for i := range has {
		if slices.Contains(values, has[i]) {
			return true
		}
	}
	return false
}

// flatten makes claims ready to be asked for by name. A claim's name may have dots
// in it, as URLs have; inside objects names are parted by dots, and those that
// have some themselves can't be asked for: nobody can pass one off as another.
func flatten(o map[string]any) map[string][]string {
	out := make(map[string][]string, len(o))
	for name, v := range o {
		put(out, name, v)
	}
	var inner func(path string, v any)
	inner = func(path string, v any) {
		o, ok := v.(map[string]any)
		if !ok {
			return
		}
		for name, v := range o {
			if name == "" || strings.Contains(name, ".") {
				continue
			}
			at := path + "." + name
			if _, taken := out[at]; !taken {
				put(out, at, v)
			}
			inner(at, v)
		}
	}
	// In order, so that of two ways to one name the same is always taken.
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		inner(name, o[name])
	}
	// RFC 8693, 4.2: words with spaces between.
	if s, ok := o["scope"].(string); ok {
		if words := strings.Fields(s); len(words) > 1 {
			out["scope"] = append(out["scope"], words...)
		}
	}
	return out
}

// put notes the values of a claim. null is none; an object is there, and has no
// value.
func put(out map[string][]string, name string, v any) {
	list, many := v.([]any)
	switch {
	case v == nil:
		return
	case !many:
		list = []any{v}
	}
	values := []string{}
	for _, e := range list {
		if s, ok := scalar(e); ok {
			values = append(values, s)
		}
	}
	out[name] = values
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// header is a claim as the value of a field, several with commas between; nil when
// it can't be told in one without being taken for something else.
func (t *Token) header(name string) []byte {
	values := t.claims[name]
	if name == "scope" && len(values) > 1 {
		values = values[:1]
	}
	if len(values) > 1 {
		for _, v := range values {
			if strings.Contains(v, ",") || v != strings.TrimSpace(v) || v == "" {
				return nil
			}
		}
	}
	joined := strings.Join(values, ",")
	if joined == "" || !route.ValidValue(joined) {
		return nil
	}
	return []byte(joined)
}

// audience is the aud claim: one string or several.
func audience(v any) ([]string, bool) {
	switch v := v.(type) {
	case nil:
		return nil, true
	case string:
		return []string{v}, true
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			out = append(out, s)
		}
		return out, true
	}
	return nil, false
}

// maxSeconds is the year 9999.
const maxSeconds = 253402300799

// date reads a NumericDate, seconds since 1970 that may have a fraction; the zero
// time when there is none.
func date(o map[string]any, name string) (time.Time, bool) {
	v, there := o[name]
	if !there {
		return time.Time{}, true
	}
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > maxSeconds {
		return time.Time{}, false
	}
	return time.Unix(int64(f), int64((f-float64(int64(f)))*1e9)), true
}
