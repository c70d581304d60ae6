package l7http

import (
	"strings"

	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/h1"
)

// modifier is a route.Modifier ready for use. What it may not touch (see
// route.Writable) it leaves alone, whoever let it pass.
type modifier struct {
	remove []string   // in lower case
	set    []h1.Field // written once
	add    []h1.Field
}

func newModifier(m *route.Modifier) (out modifier) {
	if m == nil {
		return out
	}
	for _, name := range m.Remove {
		if route.Writable(name) {
			out.remove = append(out.remove, strings.ToLower(name))
		}
	}
	for _, v := range m.Set {
		if route.Writable(v.Name) && route.ValidValue(v.Value) {
			out.set = append(out.set, newField(v))
		}
	}
	for _, v := range m.Add {
		if route.Writable(v.Name) && route.ValidValue(v.Value) {
			out.add = append(out.add, newField(v))
		}
	}
	return out
}

func newField(v route.Value) h1.Field {
	name := []byte(v.Name)
	return h1.Field{Name: name, Value: []byte(v.Value), ID: h1.NameOf(name)}
}

func (m *modifier) empty() bool { return len(m.remove)+len(m.set)+len(m.add) == 0 }

// apply takes away, then sets, then adds. A field that is set stays where the
// first of its name was; one that is added comes last, and with that after all
// others of its name. Fields that aren't passed on stay what they are.
func (m *modifier) apply(fields []h1.Field) []h1.Field {
	for _, name := range m.remove {
		drop(fields, name)
	}
next:
	for i := range m.set {
		s := &m.set[i]
		for j := range fields {
			if f := &fields[j]; !f.Drop && sameName(f.Name, s.Name) {
				f.Value, f.Never = s.Value, false
				dropSame(fields[j+1:], s.Name)
				continue next
			}
		}
		fields = append(fields, *s)
	}
	return append(fields, m.add...)
}

// drop leaves all fields of a name out; the name is in lower case.
func drop(fields []h1.Field, lower string) {
	for i := range fields {
		if f := &fields[i]; len(f.Name) == len(lower) && h1.EqualFold(f.Name, lower) {
			f.Drop = true
		}
	}
}

func dropSame(fields []h1.Field, name []byte) {
	for i := range fields {
		if f := &fields[i]; sameName(f.Name, name) {
			f.Drop = true
		}
	}
}

// sameName compares names of fields, which are tokens.
func sameName(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		d := b[i]
		if c != d && (c|0x20 != d|0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}
