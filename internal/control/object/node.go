package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Bounds of what Decode reads.
const (
	// MaxInput is the size of one file or request body, bytes.
	MaxInput = 4 << 20
	// MaxDocuments is how many documents one file may hold.
	MaxDocuments = 2000
	maxNodes     = 500_000
	maxDepth     = 64
)

type nodeKind uint8

const (
	nullNode nodeKind = iota
	boolNode
	numberNode
	stringNode
	listNode
	mapNode
)

func (k nodeKind) String() string {
	return [...]string{"nothing", "true or false", "a number", "a string", "a list", "a map"}[k]
}

// node is a document's tree, from YAML or JSON, with its positions.
type node struct {
	kind   nodeKind
	line   int
	text   string // of a scalar; a number's is valid JSON
	items  []*node
	fields []member
}

type member struct {
	key   string
	line  int
	value *node
}

func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for i := range n.fields {
		if n.fields[i].key == key {
			return n.fields[i].value
		}
	}
	return nil
}

// parse splits a file into document trees.
func parse(file string, data []byte) (docs []*node, err error) {
	fail := func(line int, problem string) ([]*node, error) {
		return nil, Errors{{File: file, Line: line, Problem: problem}}
	}
	if len(data) > MaxInput {
		return fail(0, fmt.Sprintf("%d bytes are too many: a file may have %d", len(data), MaxInput))
	}
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') && json.Valid(trimmed) {
		n, line, err := parseJSON(data)
		if err != nil {
			return fail(line, err.Error())
		}
		if n.kind == listNode {
			return n.items, nil
		}
		return []*node{n}, nil
	}
	// The YAML parser is somebody else's and reads outside bytes: should it
	// panic on some of them, that is this file's fault and nobody else's.
	defer func() {
		if p := recover(); p != nil {
			docs, err = fail(0, "not YAML that can be read: write it in a simpler form")
		}
	}()
	f, perr := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if perr != nil {
		line, problem := yamlProblem(perr)
		return fail(line, problem)
	}
	for _, d := range f.Docs {
		if d.Body == nil {
			continue
		}
		c := yamlReader{anchors: map[string]*node{}}
		n, err := c.read(d.Body, 0)
		if err != nil {
			var at *positioned
			if errors.As(err, &at) {
				return fail(at.line, at.problem)
			}
			return fail(0, err.Error())
		}
		if n.kind == nullNode {
			continue
		}
		docs = append(docs, n)
		if len(docs) > MaxDocuments {
			return fail(n.line, fmt.Sprintf("too many documents: a file may have %d", MaxDocuments))
		}
	}
	return docs, nil
}

func yamlProblem(err error) (int, string) {
	line := 0
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		if t := syntax.GetToken(); t != nil && t.Position != nil {
			line = t.Position.Line
		}
		return line, "not YAML: " + syntax.GetMessage()
	}
	msg, _, _ := strings.Cut(err.Error(), "\n")
	return line, "not YAML: " + msg
}

type positioned struct {
	line    int
	problem string
}

func (p *positioned) Error() string { return p.problem }

type yamlReader struct {
	anchors map[string]*node
	nodes   int
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func (r *yamlReader) read(n ast.Node, depth int) (*node, error) {
	line := 0
	if n != nil {
		line = lineOf(n)
	}
	stop := func(format string, args ...any) (*node, error) {
		return nil, &positioned{line, fmt.Sprintf(format, args...)}
	}
	if r.nodes++; r.nodes > maxNodes {
		return stop("too large: a document may have %d values", maxNodes)
	}
	if depth > maxDepth {
		return stop("nested deeper than %d levels", maxDepth)
	}
	switch n := n.(type) {
	case nil:
		return &node{kind: nullNode}, nil
	case *ast.NullNode:
		return &node{kind: nullNode, line: line}, nil
	case *ast.BoolNode:
		return &node{kind: boolNode, line: line, text: strconv.FormatBool(n.Value)}, nil
	case *ast.IntegerNode:
		return &node{kind: numberNode, line: line, text: fmt.Sprint(n.Value)}, nil
	case *ast.FloatNode:
		if math.IsNaN(n.Value) || math.IsInf(n.Value, 0) {
			return stop("%s is not a number that can be used", n.Token.Value)
		}
		return &node{kind: numberNode, line: line, text: strconv.FormatFloat(n.Value, 'g', -1, 64)}, nil
	case *ast.StringNode:
		return &node{kind: stringNode, line: line, text: n.Value}, nil
	case *ast.LiteralNode:
		return &node{kind: stringNode, line: line, text: n.Value.Value}, nil
	case *ast.InfinityNode, *ast.NanNode:
		return stop("not a number that can be used")
	case *ast.TagNode:
		if t := n.Start.Value; t != "!!str" && t != "!!int" && t != "!!float" && t != "!!bool" && t != "!!map" && t != "!!seq" && t != "!!null" {
			return stop("tag %s is not known: leave it out", t)
		}
		v, err := r.read(n.Value, depth+1)
		if err == nil && n.Start.Value == "!!str" && v.kind <= numberNode {
			v = &node{kind: stringNode, line: v.line, text: n.Value.GetToken().Value}
		}
		return v, err
	case *ast.AnchorNode:
		v, err := r.read(n.Value, depth+1)
		if err != nil {
			return nil, err
		}
		r.anchors[n.Name.GetToken().Value] = v
		return v, nil
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		v, ok := r.anchors[name]
		if !ok {
			return stop("alias *%s has no anchor &%s before it", name, name)
		}
		// What an alias repeats counts each time, so that aliases of aliases
		// can't grow without bound.
		if r.nodes += v.size(); r.nodes > maxNodes {
			return stop("too large: a document may have %d values", maxNodes)
		}
		return v, nil
	case *ast.MappingNode:
		return r.readMap(n.Values, line, depth)
	case *ast.MappingValueNode:
		return r.readMap([]*ast.MappingValueNode{n}, line, depth)
	case *ast.SequenceNode:
		out := &node{kind: listNode, line: line, items: make([]*node, 0, len(n.Values))}
		for _, v := range n.Values {
			item, err := r.read(v, depth+1)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, item)
		}
		return out, nil
	case *ast.CommentGroupNode:
		return &node{kind: nullNode, line: line}, nil
	}
	return stop("%s is not supported in an object", n.Type())
}

func (r *yamlReader) readMap(values []*ast.MappingValueNode, line, depth int) (*node, error) {
	out := &node{kind: mapNode, line: line, fields: make([]member, 0, len(values))}
	for _, v := range values {
		at := lineOf(v.Key)
		if v.Key.IsMergeKey() {
			return nil, &positioned{at, "merge keys (<<) are not supported: write the fields out"}
		}
		var key string
		switch k := v.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		case *ast.IntegerNode, *ast.BoolNode, *ast.FloatNode, *ast.NullNode:
			key = k.GetToken().Value
		default:
			return nil, &positioned{at, "a key must be a plain name"}
		}
		value, err := r.read(v.Value, depth+1)
		if err != nil {
			return nil, err
		}
		if value.kind == nullNode && value.line == 0 {
			value = &node{kind: nullNode, line: at}
		}
		if len(out.fields) == 0 {
			out.line = at
		}
		out.fields = append(out.fields, member{key: key, line: at, value: value})
	}
	return out, nil
}

// size counts the values of a tree. Shared sub-trees count each time; the sum
// is bounded because reading an alias adds it to the same budget.
func (n *node) size() int {
	total := 1
	for _, i := range n.items {
		if total += i.size(); total > maxNodes {
			return total
		}
	}
	for _, f := range n.fields {
		if total += f.value.size(); total > maxNodes {
			return total
		}
	}
	return total
}

// parseJSON reads one JSON value with line numbers.
func parseJSON(data []byte) (*node, int, error) {
	var ends []int // offsets of line ends
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i)
		}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	line := func() int { return sort.SearchInts(ends, int(d.InputOffset())-1) + 1 }
	nodes := 0
	var read func(depth int) (*node, error)
	read = func(depth int) (*node, error) {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		if nodes++; nodes > maxNodes {
			return nil, fmt.Errorf("too large: a document may have %d values", maxNodes)
		}
		if depth > maxDepth {
			return nil, fmt.Errorf("nested deeper than %d levels", maxDepth)
		}
		n := &node{line: line()}
		switch t := t.(type) {
		case nil:
		case bool:
			n.kind, n.text = boolNode, strconv.FormatBool(t)
		case json.Number:
			n.kind, n.text = numberNode, t.String()
		case string:
			n.kind, n.text = stringNode, t
		case json.Delim:
			if t == '[' {
				n.kind = listNode
				for d.More() {
					item, err := read(depth + 1)
					if err != nil {
						return nil, err
					}
					n.items = append(n.items, item)
				}
			} else {
				n.kind = mapNode
				for d.More() {
					k, err := d.Token()
					if err != nil {
						return nil, fmt.Errorf("not JSON: %w", err)
					}
					at := line()
					value, err := read(depth + 1)
					if err != nil {
						return nil, err
					}
					n.fields = append(n.fields, member{key: k.(string), line: at, value: value})
				}
			}
			if _, err := d.Token(); err != nil {
				return nil, fmt.Errorf("not JSON: %w", err)
			}
		}
		return n, nil
	}
	n, err := read(0)
	if err != nil {
		return nil, line(), err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, line(), errors.New("not JSON: something follows the value")
	}
	return n, 0, nil
}

// appendJSON writes the tree as JSON.
func (n *node) appendJSON(b []byte) []byte {
	quote := func(b []byte, s string) []byte {
		q, _ := json.Marshal(s) // a string always has an encoding
		return append(b, q...)
	}
	switch n.kind {
	case boolNode, numberNode:
		return append(b, n.text...)
	case stringNode:
		return quote(b, n.text)
	case listNode:
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b)
		}
		return append(b, ']')
	case mapNode:
		b = append(b, '{')
		for i, f := range n.fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(quote(b, f.key), ':')
			b = f.value.appendJSON(b)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}
