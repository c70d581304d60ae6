package object

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Document is an object and where it was written.
type Document struct {
	File string
	// Line is the first line of the document.
	Line   int
	Kind   *Kind
	Object Object
}

const (
	maxIssues = 50
	// DefaultNamespace is where an object without a namespace goes.
	DefaultNamespace = "default"
)

// Decode reads every document of a file: YAML (any number, separated by ---)
// or JSON (one object, or a list). Objects come back defaulted and validated.
// The error is Errors and lists everything found; the documents that are right
// come back beside it. file is used in errors only.
//
// A "List" document (v1) stands for its items. Status is accepted and dropped:
// only the control plane writes it.
func Decode(file string, data []byte) ([]Document, error) {
	trees, err := parse(file, data)
	if err != nil {
		return nil, err
	}
	var docs []Document
	var errs Errors
	for i := 0; i < len(trees); i++ {
		tree := trees[i]
		if k, items := tree.get("kind"), tree.get("items"); k != nil && k.text == "List" && items != nil && items.kind == listNode {
			trees = slices.Insert(trees, i+1, items.items...)
			if len(trees) > MaxDocuments {
				return docs, append(errs, &Error{File: file, Line: tree.line, Problem: fmt.Sprintf("too many documents: a file may have %d", MaxDocuments)})
			}
			continue
		}
		o, k, issues := decodeTree(tree)
		for _, is := range issues {
			is.File = file
		}
		errs = append(errs, issues...)
		if len(issues) == 0 {
			docs = append(docs, Document{File: file, Line: tree.line, Kind: k, Object: o})
		}
		if len(errs) >= maxIssues {
			break
		}
	}
	if len(errs) > 0 {
		return docs, errs
	}
	return docs, nil
}

// DecodeOne reads exactly one object of the given kind, as the API's PUT does.
func DecodeOne(kind *Kind, data []byte) (Object, error) {
	docs, err := Decode("", data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, Errors{{Problem: fmt.Sprintf("want one object, got %d", len(docs))}}
	}
	if docs[0].Kind != kind {
		return nil, Errors{{Field: "kind", Problem: fmt.Sprintf("%s can't be written to %s: want %s", docs[0].Kind.Name, kind.Plural, kind.Name)}}
	}
	return docs[0].Object, nil
}

func decodeTree(tree *node) (Object, *Kind, Errors) {
	if tree.kind != mapNode {
		return nil, nil, Errors{{Line: tree.line, Problem: "an object must be a map with apiVersion, kind, metadata and spec, not " + tree.kind.String()}}
	}
	text := func(field string) string {
		if n := tree.get(field); n != nil && n.kind == stringNode {
			return n.text
		}
		return ""
	}
	apiVersion, kindName := text("apiVersion"), text("kind")
	for _, f := range []struct{ name, value string }{{"apiVersion", apiVersion}, {"kind", kindName}} {
		if f.value == "" {
			return nil, nil, Errors{{Line: tree.line, Field: f.name, Problem: "is missing: every object starts with apiVersion and kind"}}
		}
	}
	kind, err := Lookup(apiVersion, kindName)
	if err != nil {
		line, field := tree.line, "kind"
		for _, f := range tree.fields {
			if f.key == "kind" {
				line = f.line
			}
		}
		return nil, nil, Errors{{Line: line, Field: field, Problem: err.Error()}}
	}
	label := kind.Name
	if n := tree.get("metadata").get("name"); n != nil && n.kind == stringNode {
		label += "/" + n.text
	}
	var errs Errors
	o := kind.New()
	w := walker{issue: func(line int, path, problem string) {
		if len(errs) < maxIssues {
			errs = append(errs, &Error{Line: line, Object: label, Field: path, Problem: problem})
		}
	}}
	w.walk(tree, reflect.TypeOf(o).Elem(), "")
	if len(errs) > 0 {
		return nil, kind, errs
	}
	kept := &node{kind: mapNode, line: tree.line}
	for _, f := range tree.fields {
		if f.key != "status" {
			kept.fields = append(kept.fields, f)
		}
	}
	found, err := complete(kind, o, kept.appendJSON(nil))
	if err != nil {
		return nil, kind, Errors{{Line: tree.line, Object: label, Problem: err.Error()}}
	}
	for _, is := range found {
		errs = append(errs, &Error{Line: tree.lineAt(is.Field), Object: label, Field: is.Field, Problem: is.Problem})
	}
	slices.SortStableFunc(errs, func(a, b *Error) int { return a.Line - b.Line })
	return o, kind, errs
}

// lineAt finds the line of a field's path, or of the nearest parent that is there.
func (n *node) lineAt(path string) int {
	line := n.line
	for part := range strings.SplitSeq(strings.ReplaceAll(path, "[", ".["), ".") {
		if part == "" {
			continue
		}
		if n == nil {
			break
		}
		if index, ok := strings.CutPrefix(part, "["); ok {
			i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
			if err != nil || i >= len(n.items) {
				break
			}
			n = n.items[i]
			line = n.line
			continue
		}
		var next *node
		for _, f := range n.fields {
			if f.key == part {
				next, line = f.value, f.line
			}
		}
		n = next
	}
	return line
}

// walker compares a tree with a Go type by its json tags.
type walker struct {
	issue func(line int, path, problem string)
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func (w walker) walk(n *node, t reflect.Type, path string) {
	if n.kind == nullNode {
		return // null is "not set", as in Kubernetes
	}
	if reflect.PointerTo(t).Implements(unmarshaler) && t.Kind() != reflect.Pointer {
		v := reflect.New(t)
		if err := json.Unmarshal(n.appendJSON(nil), v.Interface()); err != nil {
			problem := strings.TrimPrefix(err.Error(), "json: ")
			if t == reflect.TypeFor[metav1.Time]() {
				problem = "want a time such as 2026-11-25T18:00:00Z"
			}
			w.issue(n.line, path, fmt.Sprintf("%s can't be read: %s", n.short(), problem))
		}
		return
	}
	want := func(k nodeKind, hint string) bool {
		if n.kind == k {
			return true
		}
		w.issue(n.line, path, fmt.Sprintf("want %s, not %s%s", k, n.short(), hint))
		return false
	}
	switch t.Kind() {
	case reflect.Pointer:
		w.walk(n, t.Elem(), path)
	case reflect.String:
		hint := ""
		if n.kind == numberNode || n.kind == boolNode {
			hint = ": put it in quotes"
		}
		want(stringNode, hint)
	case reflect.Bool:
		want(boolNode, "")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if want(numberNode, "") {
			if _, err := strconv.ParseInt(n.text, 10, t.Bits()); err != nil {
				high := int64(math.MaxInt64) >> (64 - t.Bits())
				w.issue(n.line, path, fmt.Sprintf("%s: want a whole number between %d and %d", n.text, -high-1, high))
			}
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if want(numberNode, "") {
			if _, err := strconv.ParseUint(n.text, 10, t.Bits()); err != nil {
				w.issue(n.line, path, fmt.Sprintf("%s: want a whole number between 0 and %d", n.text, uint64(math.MaxUint64)>>(64-t.Bits())))
			}
		}
	case reflect.Float32, reflect.Float64:
		want(numberNode, "")
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			if want(stringNode, "") {
				var b []byte
				if json.Unmarshal(n.appendJSON(nil), &b) != nil {
					w.issue(n.line, path, "want base64 (or use stringData, which takes plain text)")
				}
			}
			return
		}
		if want(listNode, "") {
			for i, item := range n.items {
				w.walk(item, t.Elem(), path+"["+strconv.Itoa(i)+"]")
			}
		}
	case reflect.Map:
		if want(mapNode, "") {
			w.duplicates(n, path)
			for _, f := range n.fields {
				w.walk(f.value, t.Elem(), join(path, f.key))
			}
		}
	case reflect.Struct:
		if !want(mapNode, "") {
			return
		}
		w.duplicates(n, path)
		fields := fieldsOf(t)
		for _, f := range n.fields {
			ft, ok := fields.types[f.key]
			if !ok {
				problem := "unknown field"
				if near := nearest(f.key, fields.names); near != "" {
					problem += fmt.Sprintf(": did you mean %q?", near)
				} else if len(fields.names) <= 12 {
					problem += ": want one of " + strings.Join(fields.names, ", ")
				}
				w.issue(f.line, join(path, f.key), problem)
				continue
			}
			if path == "" && f.key == "status" {
				continue
			}
			w.walk(f.value, ft, join(path, f.key))
		}
	}
}

func (w walker) duplicates(n *node, path string) {
	seen := make(map[string]int, len(n.fields))
	for _, f := range n.fields {
		if first, ok := seen[f.key]; ok {
			w.issue(f.line, join(path, f.key), fmt.Sprintf("is written twice, first in line %d: keep one", first))
			continue
		}
		seen[f.key] = f.line
	}
}

func (n *node) short() string {
	switch n.kind {
	case listNode, mapNode, nullNode:
		return n.kind.String()
	case stringNode:
		s := n.text
		if len(s) > 40 {
			s = s[:40] + "…"
		}
		return strconv.Quote(s)
	}
	return n.text
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// structFields are a struct's fields as JSON sees them.
type structFields struct {
	types map[string]reflect.Type
	names []string
}

var fieldCache sync.Map // reflect.Type → *structFields

func fieldsOf(t reflect.Type) *structFields {
	if c, ok := fieldCache.Load(t); ok {
		return c.(*structFields)
	}
	s := &structFields{types: map[string]reflect.Type{}}
	for f := range fields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "" || strings.Contains(options, "inline"):
			in := fieldsOf(f.Type)
			for _, n := range in.names {
				s.types[n] = in.types[n]
				s.names = append(s.names, n)
			}
		default:
			if name == "" {
				name = f.Name
			}
			s.types[name] = f.Type
			s.names = append(s.names, name)
		}
	}
	fieldCache.Store(t, s)
	return s
}

func fields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

func validateMeta(k *Kind, o Object) []Issue {
	var is issues
	name := o.GetName()
	switch {
	case name == "":
		is.add("metadata.name", "is missing: give the %s a name", k.Name)
	case k == Service && len(validation.IsDNS1035Label(name)) > 0:
		is.add("metadata.name", "%q: want a DNS label: up to 63 of a-z, 0-9 and -, beginning with a letter", name)
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		is.add("metadata.name", "%q: want up to 253 of a-z, 0-9, - and ., beginning and ending with a letter or digit", name)
	}
	ns := o.GetNamespace()
	switch {
	case !k.Namespaced && ns != "":
		is.add("metadata.namespace", "a %s belongs to no namespace: leave it out", k.Name)
	case k.Namespaced && len(validation.IsDNS1123Label(ns)) > 0:
		is.add("metadata.namespace", "%q: want a DNS label: up to 63 of a-z, 0-9 and -", ns)
	}
	is.labels("metadata.labels", o.GetLabels())
	return is
}
