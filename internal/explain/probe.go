package explain

import (
	"regexp/syntax"
	"strings"

	"tulle.dev/tulle/internal/route"
)

// probe is a request to try two tables with.
type probe struct {
	text    string
	request route.Request
	// again says that it is the one before with another method.
	again bool
}

// probes are requests that meet the matches of tables, one each, and no more than
// maxProbes.
type probes struct {
	host string // for rules of any hostname
	list []probe
	seen map[string]bool
	more int
}

func newProbes(host string) *probes { return &probes{host: host, seen: map[string]bool{}} }

// add makes a request for each hostname and match of a table.
func (p *probes) add(spec *route.Spec) {
	methods := []string{"GET"}
	if hasMethods(spec) { // those go first: another method may meet other rules
		methods = append(methods, "POST")
	}
	for i := range spec.Hosts {
		h := &spec.Hosts[i]
		for _, name := range h.Hostnames {
			host := p.example(name)
			for j := range h.Rules {
				r := &h.Rules[j]
				list := r.Matches
				if len(list) == 0 {
					list = []route.Match{{}}
				}
				for n := range list {
					for _, m := range methods {
						p.put(host, m, &list[n])
					}
				}
			}
			p.put(host, "GET", &missed)
		}
	}
}

func hasMethods(spec *route.Spec) bool {
	for i := range spec.Hosts {
		for j := range spec.Hosts[i].Rules {
			for _, m := range spec.Hosts[i].Rules[j].Matches {
				if m.Method != "" {
					return true
				}
			}
		}
	}
	return false
}

// missed is met by what no rule is for in particular.
var missed = route.Match{Path: route.Path{Kind: route.PathExact, Value: "/no-such-path"}}

// miss adds a request that no match is for.
func (p *probes) miss() {
	if len(p.list) == 0 {
		p.put(p.host, "GET", &route.Match{})
	} else {
		p.put(p.host, "GET", &missed)
	}
}

// example is a name that a hostname covers.
func (p *probes) example(hostname string) string {
	switch {
	case hostname == "*":
		return p.host
	case strings.HasPrefix(hostname, "*."):
		return "any" + hostname[1:]
	}
	return hostname
}

// put makes a request of a match, with a method where the match has none.
func (p *probes) put(host, method string, m *route.Match) {
	if m.Method != "" {
		method = m.Method
	} else if m.Path.Kind == route.PathGRPCMethod {
		method = "POST"
	}
	one := probe{again: method == "POST" && m.Method == "" && m.Path.Kind != route.PathGRPCMethod, request: route.Request{Authority: []byte(host), Method: []byte(method), Path: []byte(examplePath(&m.Path))}}
	text := string(one.request.Method) + " " + host + string(one.request.Path)
	var list headers
	for i := range m.Headers {
		h := Header{m.Headers[i].Name, exampleValue(&m.Headers[i])}
		list = append(list, h)
	}
	var query []string
	for i := range m.Query {
		query = append(query, m.Query[i].Name+"="+exampleValue(&m.Query[i]))
	}
	if len(query) > 0 {
		one.request.Query = []byte(strings.Join(query, "&"))
		text += "?" + string(one.request.Query)
	}
	for _, h := range list {
		text += " " + h.Name + ":" + h.Value
	}
	one.request.Fields = list
	one.text = text
	if p.seen[text] {
		return
	}
	p.seen[text] = true
	if len(p.list) >= maxProbes {
		p.more++
		return
	}
	p.list = append(p.list, one)
}

func examplePath(m *route.Path) string {
	switch m.Kind {
	case route.PathExact:
		return m.Value
	case route.PathPrefix: // a path of its own: the prefix alone may be another match's
		return strings.TrimSuffix(m.Value, "/") + "/any"
	case route.PathRegex:
		return example(m.Value)
	case route.PathGRPCMethod:
		return "/any.Service/" + m.Value
	}
	return "/"
}

func exampleValue(f *route.Field) string {
	if f.Regex {
		return example(f.Value)
	}
	return f.Value
}

// maxExample bounds the example of a regular expression, in bytes.
const maxExample = 1024

// example is a text that a regular expression matches whole, as short as its parts
// allow; the expression itself when it can't be read.
func example(expression string) string {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return expression
	}
	var b strings.Builder
	write(&b, re.Simplify())
	return b.String()
}

func write(b *strings.Builder, re *syntax.Regexp) {
	if b.Len() > maxExample {
		return
	}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		b.WriteRune(ofClass(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('x')
	case syntax.OpAlternate, syntax.OpPlus, syntax.OpCapture:
		write(b, re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			write(b, sub)
		}
	}
}

// ofClass is a rune of a class, a printable one if there is any.
func ofClass(ranges []rune) rune {
	for i := 0; i+1 < len(ranges); i += 2 {
		for _, r := range []rune{'a', 'A', '0', '-', '/'} {
			if ranges[i] <= r && r <= ranges[i+1] {
				return r
			}
		}
	}
	for i := 0; i+1 < len(ranges); i += 2 {
		if r := max(ranges[i], '!'); r <= ranges[i+1] {
			return r
		}
	}
	if len(ranges) > 0 {
		return ranges[0]
	}
	return 'x'
}
