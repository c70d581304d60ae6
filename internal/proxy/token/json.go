package token

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

const (
	// maxDepth is how deep claims may be nested.
	maxDepth = 8
	// maxValues bounds the values in a JSON text, those that hold others included.
	maxValues = 1024
)

// object reads a JSON object, numbers as they are written. A name that is there
// twice is an error: two readers might take different ones (RFC 8725, 3.10; RFC
// 7519, 4).
func object(b []byte) (map[string]any, bool) {
	if !utf8.Valid(b) || !json.Valid(b) {
		return nil, false
	}
	r := reader{d: json.NewDecoder(bytes.NewReader(b))}
	r.d.UseNumber()
	v, ok := r.value(0)
	o, is := v.(map[string]any)
	return o, ok && is
}

type reader struct {
	d *json.Decoder
	n int
}

func (r *reader) value(depth int) (any, bool) {
	t, err := r.d.Token()
	if r.n++; err != nil || r.n > maxValues {
		return nil, false
	}
	begin, nests := t.(json.Delim)
	if !nests {
		return t, true
	}
	if depth >= maxDepth {
		return nil, false
	}
	if begin == '[' {
		list := []any{}
		for r.d.More() {
			v, ok := r.value(depth + 1)
			if !ok {
				return nil, false
			}
			list = append(list, v)
		}
		_, err = r.d.Token()
		return list, err == nil
	}
	o := make(map[string]any)
	for r.d.More() {
		t, err := r.d.Token()
		name, is := t.(string)
		if _, twice := o[name]; err != nil || !is || twice {
			return nil, false
		}
		v, ok := r.value(depth + 1)
		if !ok {
			return nil, false
		}
		o[name] = v
	}
	_, err = r.d.Token()
	return o, err == nil
}

// text is a member that is a string; ok is false when it is something else.
func text(o map[string]any, name string) (s string, ok bool) {
	v, there := o[name]
	if !there {
		return "", true
	}
	s, ok = v.(string)
	return s, ok
}
