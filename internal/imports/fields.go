package imports

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// fields is a part of a document that is read field by field. What nobody has
// read is reported.
type fields struct {
	path string
	m    map[string]any
	read map[string]bool
	doc  *document
}

// document is one document in the making of its translation.
type document struct {
	where string // FILE: KIND/NAME
	notes []Note
	open  []*fields
}

// Note is one thing that has no equal.
type Note struct {
	// Where is the document, Field the path of what it is about.
	Where, Field string
	// What was done about it.
	What string
}

func (n Note) String() string { return fmt.Sprintf("%s: %s: %s", n.Where, n.Field, n.What) }

func (d *document) note(field, format string, args ...any) {
	d.notes = append(d.notes, Note{d.where, field, fmt.Sprintf(format, args...)})
}

// under makes fields of a map; anything else is reported and empty.
func (d *document) under(path string, v any) *fields {
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		d.note(path, "is not a mapping and was left out")
	}
	f := &fields{path: path, m: m, read: map[string]bool{}, doc: d}
	d.open = append(d.open, f)
	return f
}

// unread reports what nobody has read.
func (d *document) unread() {
	for _, f := range d.open {
		for _, key := range slices.Sorted(maps.Keys(f.m)) {
			if !f.read[key] {
				d.note(f.at(key), "has no equal and was left out")
			}
		}
	}
}

func (f *fields) at(key string) string {
	if f.path == "" {
		return key
	}
	return f.path + "." + key
}

func (f *fields) take(key string) any {
	f.read[key] = true
	return f.m[key]
}

func (f *fields) has(key string) bool { _, ok := f.m[key]; return ok }

func (f *fields) text(key string) string {
	switch v := f.take(key).(type) {
	case string:
		return v
	case nil:
	case bool, int, int64, float64:
		return fmt.Sprint(v)
	default:
		f.doc.note(f.at(key), "is not text and was left out")
	}
	return ""
}

func (f *fields) flag(key string) bool {
	b, _ := f.take(key).(bool)
	return b
}

func (f *fields) texts(key string) []string {
	var out []string
	switch v := f.take(key).(type) {
	case nil:
	case string:
		out = []string{v}
	case []any:
		for _, e := range v {
			out = append(out, fmt.Sprint(e))
		}
	default:
		f.doc.note(f.at(key), "is not a list and was left out")
	}
	return out
}

func (f *fields) under(key string) *fields { return f.doc.under(f.at(key), f.take(key)) }

// each reads a list of mappings.
func (f *fields) each(key string) []*fields {
	list, ok := f.take(key).([]any)
	if !ok {
		if f.m[key] != nil {
			f.doc.note(f.at(key), "is not a list and was left out")
		}
		return nil
	}
	var out []*fields
	for i, v := range list {
		if v == nil {
			v = map[string]any{}
		}
		out = append(out, f.doc.under(f.at(key)+"["+strconv.Itoa(i)+"]", v))
	}
	return out
}
