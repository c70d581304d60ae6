package policy

import (
	"bytes"
	"strings"
)

// Subject is a request as a Matcher sees it. Its bytes are only read.
type Subject struct {
	// Caller is "SERVICE-ACCOUNT.NAMESPACE"; empty when nothing proves who calls.
	Caller string
	Method []byte
	// Path is the request target's path, with or without its query; empty for the
	// authority and asterisk forms.
	Path []byte
	// Fields looks header fields up; nil means there are none.
	Fields Fields
}

// Fields looks up a header field by name, in any case. Several fields of one
// name count as one whose values are joined by commas (RFC 9110, 5.3).
type Fields interface {
	Field(name string) (value []byte, ok bool)
}

// Matcher is a Match ready for use. It is immutable and safe for concurrent use.
//
// A limit must not be evaded by writing the same path in another way, so a
// Matcher is met when any reading of the path is that a program may have: see
// AppendPath. Where it errs, it errs towards being met.
type Matcher struct {
	match Match
	paths []Path // their values as AppendPath writes them
}

// NewMatcher gets a Match ready.
func NewMatcher(m Match) *Matcher {
	c := &Matcher{match: m}
	for _, p := range m.Paths {
		c.paths = append(c.paths, Path{Prefix: p.Prefix, Value: string(AppendPath(nil, []byte(p.Value), true))})
	}
	return c
}

// All reports whether every request meets it.
func (c *Matcher) All() bool {
	m := &c.match
	return len(m.From)+len(m.Methods)+len(m.Paths)+len(m.Headers) == 0
}

// Met reports whether the request meets every part of the match that is there.
// It allocates nothing, except for odd paths of more than 512 bytes and fields
// that come several times.
func (c *Matcher) Met(s *Subject) bool {
	m := &c.match
	return (len(m.From) == 0 || meetsFrom(m.From, s.Caller)) &&
		(len(m.Methods) == 0 || meetsMethod(m.Methods, s.Method)) &&
		(len(c.paths) == 0 || c.meetsPath(s.Path)) &&
		(len(m.Headers) == 0 || meetsHeaders(m.Headers, s.Fields))
}

func meetsFrom(from []string, caller string) bool {
	if caller == "" {
		return false
	}
	for _, f := range from {
		if f == caller {
			return true
		}
		// An account's name may hold dots, a namespace's can't.
		if ns, ok := strings.CutPrefix(f, "*."); ok && len(caller) > len(ns)+1 &&
			strings.HasSuffix(caller, ns) && caller[len(caller)-len(ns)-1] == '.' {
			return true
		}
	}
	return false
}

func meetsMethod(methods []string, method []byte) bool {
	for _, m := range methods {
		if string(method) == m {
			return true
		}
	}
	return false
}

func meetsHeaders(headers []Header, fields Fields) bool {
	if fields == nil {
		return false
	}
	for i := range headers {
		h := &headers[i]
		v, ok := fields.Field(h.Name)
		if !ok || !h.Present && !holds(v, h.Value) {
			return false
		}
	}
	return true
}

// holds reports whether a field has a value: as a whole, or as one of the
// elements of a list. Sending a field twice makes it a list.
func holds(v []byte, want string) bool {
	if string(v) == want {
		return true
	}
	for more := true; more; {
		var element []byte
		element, v, more = bytes.Cut(v, comma)
		if string(bytes.TrimSpace(element)) == want {
			return true
		}
	}
	return false
}

var comma = []byte{','}

// stackPath is the length of a path that is read without allocating.
const stackPath = 512

func (c *Matcher) meetsPath(path []byte) bool {
	var mem [stackPath]byte
	read := AppendPath(mem[:0], path, false)
	if meetsPath(c.paths, read) {
		return true
	}
	if !dotted(read) {
		return false
	}
	var other [stackPath]byte
	return meetsPath(c.paths, AppendPath(other[:0], path, true))
}

func meetsPath(paths []Path, path []byte) bool {
	for i := range paths {
		v := paths[i].Value
		switch {
		case len(path) < len(v) || string(path[:len(v)]) != v:
		case len(path) == len(v):
			return true
		case paths[i].Prefix && (v == "/" || path[len(v)] == '/'):
			return true
		}
	}
	return false
}

// AppendPath appends a path in one form for all the ways to write it, so that
// programs which treat those alike can't be reached around a rule: escapes are
// decoded, also those that are escaped again; letters are lower case; "\" is "/";
// parameters of segments (";...") and the query are left out; repeated and final
// slashes too. With resolve "." and ".." are resolved (RFC 3986, 5.2.4); without,
// they stay, as for a program that takes them literally.
//
// The form is for comparing only: a proxy forwards what it was sent.
func AppendPath(dst, path []byte, resolve bool) []byte {
	start := len(dst)
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	dst = append(dst, path...)
	b := dst[start:]
	for range maxEscapes {
		n := unescape(b)
		if n == len(b) {
			break
		}
		b = b[:n]
	}
	n := 0
	skip := false // in a segment's parameters
	for _, c := range b {
		switch {
		case c == '\\':
			c = '/'
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		}
		switch {
		case c == '/':
			skip = false
			if n > 0 && b[n-1] == '/' {
				continue
			}
		case skip:
			continue
		case c == ';':
			skip = true
			continue
		}
		b[n] = c
		n++
	}
	b = b[:n]
	if resolve {
		b = b[:resolveDots(b)]
	}
	if n = len(b); n > 1 && b[n-1] == '/' {
		b = b[:n-1]
	}
	return dst[:start+len(b)]
}

// maxEscapes is how often a path may be escaped over and over.
const maxEscapes = 4

// unescape decodes the percent escapes of b in place, once, and returns how long
// it is then.
func unescape(b []byte) int {
	n := bytes.IndexByte(b, '%')
	if n < 0 {
		return len(b)
	}
	for i := n; i < len(b); n++ {
		if b[i] == '%' && i+2 < len(b) {
			if hi, lo := unhex(b[i+1]), unhex(b[i+2]); hi|lo < 16 {
				b[n] = hi<<4 | lo
				i += 3
				continue
			}
		}
		b[n] = b[i]
		i++
	}
	return n
}

// unhex is the value of a hexadecimal digit, 16 of anything else.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// dotted reports whether a path has a segment that resolveDots changes.
func dotted(b []byte) bool {
	for i := 0; i+1 < len(b); i++ {
		if b[i] == '/' && b[i+1] == '.' {
			return true
		}
	}
	return false
}

// resolveDots resolves the "." and ".." of a path without repeated slashes in
// place, and returns how long it is then.
func resolveDots(b []byte) int {
	n := 0
	for i := 0; i < len(b); {
		end := len(b)
		if k := bytes.IndexByte(b[i+1:], '/'); k >= 0 {
			end = i + 1 + k
		}
		switch segment := b[i:end]; string(segment) {
		case "/.":
		case "/..":
			n = max(bytes.LastIndexByte(b[:n], '/'), 0)
		default:
			n += copy(b[n:], segment)
		}
		i = end
	}
	if n == 0 && len(b) > 0 && b[0] == '/' {
		b[0] = '/'
		n = 1
	}
	return n
}
