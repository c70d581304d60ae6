package explain

import (
	"fmt"
	"strings"

	"tulle.dev/tulle/internal/route"
)

// Match writes a match as "GET /cart/* X-Version=2 ?debug=1".
func Match(m *route.Match) string {
	var parts []string
	if m.Method != "" {
		parts = append(parts, m.Method)
	}
	switch m.Path.Kind {
	case route.PathExact:
		parts = append(parts, m.Path.Value)
	case route.PathPrefix:
		parts = append(parts, strings.TrimSuffix(m.Path.Value, "/")+"/*")
	case route.PathRegex:
		parts = append(parts, "~"+m.Path.Value)
	case route.PathGRPCMethod:
		parts = append(parts, "*/"+m.Path.Value)
	}
	for _, h := range m.Headers {
		parts = append(parts, field(&h))
	}
	for _, q := range m.Query {
		parts = append(parts, "?"+field(&q))
	}
	if len(parts) == 0 {
		return "*"
	}
	return strings.Join(parts, " ")
}

func field(f *route.Field) string {
	if f.Regex {
		return f.Name + "~" + f.Value
	}
	return f.Name + "=" + f.Value
}

// Filters says what a rule or backend does to requests and responses, one line
// for each filter.
func Filters(f *route.Filters) []string {
	var out []string
	if c := f.CORS; c != nil {
		out = append(out, "CORS for "+strings.Join(c.Origins, ", "))
	}
	if r := f.Redirect; r != nil {
		out = append(out, fmt.Sprintf("redirect %d to %s", r.Status, redirectTo(r)))
	}
	out = append(out, modifier("request", f.Request)...)
	out = append(out, modifier("response", f.Response)...)
	if r := f.Rewrite; r != nil {
		var to []string
		if r.Host != "" {
			to = append(to, "host "+r.Host)
		}
		if r.Change != route.KeepPath {
			to = append(to, path(r.Change, r.Path))
		}
		out = append(out, "rewrite "+strings.Join(to, ", "))
	}
	for _, m := range f.Mirrors {
		to := m.Destination
		if to == "" {
			to = "a backend that doesn't exist"
		}
		out = append(out, "mirror "+share(m.Share)+" to "+to)
	}
	return out
}

func path(c route.PathChange, p string) string {
	if c == route.PrefixPath {
		return "the matched prefix to " + p
	}
	return "path " + p
}

func redirectTo(r *route.Redirect) string {
	var b strings.Builder
	if r.Scheme != "" {
		b.WriteString(r.Scheme + "://")
	}
	if r.Host != "" {
		b.WriteString(r.Host)
	} else if r.Scheme != "" || r.Port != 0 {
		b.WriteString("the same host")
	}
	if r.Port != 0 {
		fmt.Fprintf(&b, ":%d", r.Port)
	}
	if r.Change != route.KeepPath {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(path(r.Change, r.Path))
	}
	return b.String()
}

func modifier(of string, m *route.Modifier) []string {
	if m == nil {
		return nil
	}
	var out []string
	for _, v := range m.Set {
		out = append(out, fmt.Sprintf("set %s header %s: %s", of, v.Name, v.Value))
	}
	for _, v := range m.Add {
		out = append(out, fmt.Sprintf("add %s header %s: %s", of, v.Name, v.Value))
	}
	for _, name := range m.Remove {
		out = append(out, fmt.Sprintf("remove %s header %s", of, name))
	}
	return out
}
