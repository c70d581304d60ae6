package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
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
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := d.Decode(&doc); err == io.EOF {
			return docs, nil
		} else if err != nil {
			line, problem := yamlProblem(err)
			return fail(line, problem)
		}
		r := yamlReader{}
		n, err := r.read(&doc, 0)
		var at *positioned
		if errors.As(err, &at) {
			return fail(at.line, at.problem)
		}
		if n.kind == nullNode {
			continue // a document of comments
		}
		docs = append(docs, n)
		if len(docs) > MaxDocuments {
			return fail(n.line, fmt.Sprintf("too many documents: a file may have %d", MaxDocuments))
		}
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?`)

func yamlProblem(err error) (int, string) {
	text, _, _ := strings.Cut(err.Error(), "\n")
	m := yamlLine.FindStringSubmatch(text)
	if m == nil {
		return 0, "not YAML: " + text
	}
	line, _ := strconv.Atoi(m[1])
	return line, "not YAML: " + text[len(m[0]):]
}

type positioned struct {
	line    int
	problem string
}

func (p *positioned) Error() string { return p.problem }

type yamlReader struct{ nodes int }

func (r *yamlReader) read(n *yaml.Node, depth int) (*node, error) {
	stop := func(format string, args ...any) (*node, error) {
		return nil, &positioned{n.Line, fmt.Sprintf(format, args...)}
	}
	// An alias counts all that it repeats, each time, so that aliases of
	// aliases can't grow without bound.
	if r.nodes++; r.nodes > maxNodes {
		return stop("too large: a document may have %d values", maxNodes)
	}
	if depth > maxDepth {
		return stop("nested deeper than %d levels", maxDepth)
	}
	out := &node{line: n.Line}
	switch n.Kind {
	case yaml.DocumentNode:
		return r.read(n.Content[0], depth)
	case yaml.AliasNode:
		return r.read(n.Alias, depth+1)
	case yaml.SequenceNode:
		out.kind = listNode
		for _, c := range n.Content {
			item, err := r.read(c, depth+1)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, item)
		}
		return out, nil
	case yaml.MappingNode:
		out.kind = mapNode
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode {
				return nil, &positioned{k.Line, "a key must be a plain name"}
			}
			if k.Tag == "!!merge" {
				return nil, &positioned{k.Line, "merge keys (<<) are not supported: write the fields out"}
			}
			value, err := r.read(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			out.fields = append(out.fields, member{key: k.Value, line: k.Line, value: value})
		}
		return out, nil
	case yaml.ScalarNode:
		return out, r.scalar(n, out)
	}
	return out, nil // an empty document
}

func (r *yamlReader) scalar(n *yaml.Node, out *node) error {
	out.text = n.Value
	bad := func() error {
		return &positioned{n.Line, fmt.Sprintf("%s is not a number that can be used", n.Value)}
	}
	switch n.ShortTag() {
	case "!!null":
		out.kind = nullNode
	case "!!bool":
		var b bool
		if n.Decode(&b) != nil {
			out.kind = stringNode
			return nil
		}
		out.kind, out.text = boolNode, strconv.FormatBool(b)
	case "!!int":
		out.kind = numberNode
		var i int64
		var u uint64
		switch {
		case n.Decode(&i) == nil:
			out.text = strconv.FormatInt(i, 10)
		case n.Decode(&u) == nil:
			out.text = strconv.FormatUint(u, 10)
		default:
			return bad()
		}
	case "!!float":
		out.kind = numberNode
		var f float64
		if n.Decode(&f) != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return bad()
		}
		out.text = strconv.FormatFloat(f, 'g', -1, 64)
	case "!!str", "!!timestamp", "!!binary":
		out.kind = stringNode
	default:
		return &positioned{n.Line, fmt.Sprintf("tag %s is not known: leave it out", n.Tag)}
	}
	return nil
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
