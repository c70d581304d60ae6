package route

import (
	"fmt"
	"net/netip"
	"strings"

	"tulle.dev/tulle/internal/policy"
)

// Limits of a rule.
const (
	maxPath     = 1024 // bytes of a path (Gateway API, HTTPPathMatch)
	maxField    = 4096 // bytes of the value of a header field or query parameter to match
	maxModified = 64   // fields of each of a Modifier's lists
	maxMirrors  = 16
)

// Check says what makes no sense in a rule, by the path of its field; nil when it
// can be compiled.
func (r *Rule) Check() error { return r.check(make(regexes)) }

// check also gathers the rule's regular expressions.
func (r *Rule) check(regexes regexes) error {
	if r.Timeout < 0 {
		return fmt.Errorf("timeout: %s is negative", r.Timeout)
	}
	prefixes := true
	for i := range r.Matches {
		if err := r.Matches[i].check(regexes); err != nil {
			return fmt.Errorf("matches[%d].%w", i, err)
		}
		if k := r.Matches[i].Path.Kind; k != PathPrefix && k != PathAny {
			prefixes = false
		}
	}
	if err := r.Filters.check(prefixes); err != nil {
		return fmt.Errorf("filters.%w", err)
	}
	for i := range r.Backends {
		if err := r.Backends[i].Filters.check(prefixes); err != nil {
			return fmt.Errorf("backends[%d].filters.%w", i, err)
		}
	}
	return nil
}

func (m *Match) check(regexes regexes) error {
	p := m.Path
	switch p.Kind {
	case PathAny:
	case PathExact, PathPrefix:
		if !strings.HasPrefix(p.Value, "/") {
			return fmt.Errorf("path: %q must begin with /", p.Value)
		}
		if len(p.Value) > maxPath {
			return fmt.Errorf("path: has %d bytes, want at most %d", len(p.Value), maxPath)
		}
	case PathRegex:
		if err := regexes.add(p.Value); err != nil {
			return fmt.Errorf("path: %w", err)
		}
	case PathGRPCMethod:
		if p.Value == "" || strings.Contains(p.Value, "/") {
			return fmt.Errorf("path: %q is no gRPC method, want a name such as GetCart", p.Value)
		}
	default:
		return fmt.Errorf("path: kind %d is unknown", p.Kind)
	}
	if m.Method != "" && !isToken(m.Method) {
		return fmt.Errorf("method: %q is no token (RFC 9110, 9.1)", m.Method)
	}
	for i, h := range m.Headers {
		if !isToken(h.Name) {
			return fmt.Errorf("headers[%d].name: %q is no token (RFC 9110, 5.6.2)", i, h.Name)
		}
		if err := h.check(regexes); err != nil {
			return fmt.Errorf("headers[%d].%w", i, err)
		}
	}
	for i, q := range m.Query {
		if q.Name == "" {
			return fmt.Errorf("query[%d].name: is empty", i)
		}
		if err := q.check(regexes); err != nil {
			return fmt.Errorf("query[%d].%w", i, err)
		}
	}
	return nil
}

func (f *Field) check(regexes regexes) error {
	if f.Regex {
		if err := regexes.add(f.Value); err != nil {
			return fmt.Errorf("value: %w", err)
		}
	} else if len(f.Value) > maxField {
		return fmt.Errorf("value: has %d bytes, want at most %d", len(f.Value), maxField)
	}
	return nil
}

// check says what is wrong; prefixes is whether every match of the rule has a
// prefix that can be replaced.
func (f *Filters) check(prefixes bool) error {
	if f.CORS != nil {
		if _, err := f.CORS.Compile(); err != nil {
			return fmt.Errorf("cors.%w", err)
		}
	}
	if f.Redirect != nil && f.Rewrite != nil {
		return fmt.Errorf("rewrite: can't be beside redirect: want one of them")
	}
	if r := f.Redirect; r != nil {
		if r.Scheme != "" && usualPort(r.Scheme) == 0 {
			return fmt.Errorf("redirect.scheme: %q, want http or https", r.Scheme)
		}
		if r.Host != "" && !isHost(r.Host) {
			return fmt.Errorf("redirect.host: %q is no hostname", r.Host)
		}
		switch r.Status {
		case 301, 302, 303, 307, 308:
		default:
			return fmt.Errorf("redirect.status: %d, want 301, 302, 303, 307 or 308", r.Status)
		}
		if err := checkChange(r.Change, r.Path, prefixes); err != nil {
			return fmt.Errorf("redirect.path: %w", err)
		}
	}
	if w := f.Rewrite; w != nil {
		if w.Host != "" && !isAuthority(w.Host) {
			return fmt.Errorf("rewrite.host: %q is neither a hostname nor one with a port", w.Host)
		}
		if err := checkChange(w.Change, w.Path, prefixes); err != nil {
			return fmt.Errorf("rewrite.path: %w", err)
		}
	}
	if err := f.Request.check(); err != nil {
		return fmt.Errorf("request.%w", err)
	}
	if err := f.Response.check(); err != nil {
		return fmt.Errorf("response.%w", err)
	}
	if len(f.Mirrors) > maxMirrors {
		return fmt.Errorf("mirrors: has %d, want at most %d", len(f.Mirrors), maxMirrors)
	}
	for i, m := range f.Mirrors {
		if m.Share > policy.All {
			return fmt.Errorf("mirrors[%d].share: %d is more than all (%d)", i, m.Share, policy.All)
		}
	}
	return nil
}

func (m *Modifier) check() error {
	if m == nil {
		return nil
	}
	for _, list := range []struct {
		name   string
		values []Value
	}{{"set", m.Set}, {"add", m.Add}} {
		if len(list.values) > maxModified {
			return fmt.Errorf("%s: has %d fields, want at most %d", list.name, len(list.values), maxModified)
		}
		for i, v := range list.values {
			if !Writable(v.Name) {
				return fmt.Errorf("%s[%d].name: %q may not be written", list.name, i, v.Name)
			}
			if !ValidValue(v.Value) {
				return fmt.Errorf("%s[%d].value: %q is no field value (RFC 9110, 5.5)", list.name, i, v.Value)
			}
		}
	}
	if len(m.Remove) > maxModified {
		return fmt.Errorf("remove: has %d fields, want at most %d", len(m.Remove), maxModified)
	}
	for i, name := range m.Remove {
		if !Writable(name) {
			return fmt.Errorf("remove[%d]: %q may not be removed", i, name)
		}
	}
	return nil
}

// checkChange checks what takes the place of a path. Only a whole path may bring
// a query, and neither a fragment, nor what isn't written in a URI as it is.
func checkChange(change PathChange, path string, prefixes bool) error {
	switch {
	case change > PrefixPath:
		return fmt.Errorf("change %d is unknown", change)
	case change == KeepPath:
		return nil
	case len(path) > maxPath:
		return fmt.Errorf("has %d bytes, want at most %d", len(path), maxPath)
	case path != "" && path[0] != '/':
		return fmt.Errorf("%q must begin with /", path)
	case change == PrefixPath && strings.Contains(path, "?"):
		return fmt.Errorf("%q has a query, which a replaced prefix can't have", path)
	case change == PrefixPath && !prefixes:
		return fmt.Errorf("replaces a prefix, but a match of the rule is of another kind: want prefix matches only")
	}
	whole, _, _ := strings.Cut(path, "?")
	for i := range len(path) {
		c := path[i]
		if c <= ' ' || c >= 0x7f || c == '#' || c == '\\' || strings.IndexByte("\"<>", c) >= 0 {
			return fmt.Errorf("%q has %q in it: want it percent-encoded", path, c)
		}
		if c == '%' && i < len(whole) && (i+2 >= len(whole) || !isHex(whole[i+1]) || !isHex(whole[i+2])) {
			return fmt.Errorf("%q has a %% that no two hexadecimal digits follow: want %%25", path)
		}
	}
	return nil
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

// isToken reports whether s is a token (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func isHost(s string) bool {
	for i := range len(s) {
		if !inHost(s[i]) && (s[i] < 'A' || s[i] > 'Z') {
			return false
		}
	}
	return s != "" && len(s) <= maxHostname
}

// isAuthority reports whether s is a hostname or address, with or without a port.
func isAuthority(s string) bool {
	host, port := s, "0"
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
	}
	if strings.Trim(port, "0123456789") != "" || port == "" || len(port) > 5 {
		return false
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return ok && err == nil && addr.Is6() && addr.Zone() == ""
	}
	return isHost(host)
}
