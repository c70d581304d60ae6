package graph

import (
	"encoding/json"
	"reflect"
	"strings"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
)

// merger adds TrafficPolicies up, the nearest first: a field that an earlier one
// says stays; a list or map counts as a whole.
type merger struct {
	spec v1alpha1.TrafficPolicySpec
	said map[string]*anyPolicy // who says which field
	// order are the fields in the order they were said.
	order []mesh.FieldSource
}

func newMerger() *merger { return &merger{said: map[string]*anyPolicy{}} }

// add takes a further policy. It returns how many fields were taken, and which
// weren't, as "retry.attempts (of trafficpolicy/shop/older)".
func (m *merger) add(p *anyPolicy) (took int, lost []string) {
	m.merge(reflect.ValueOf(&m.spec).Elem(), reflect.ValueOf(p.traffic).Elem(), "", p, &took, &lost)
	return took, lost
}

func (m *merger) merge(into, from reflect.Value, path string, p *anyPolicy, took *int, lost *[]string) {
	for i := range from.NumField() {
		name, _, _ := strings.Cut(from.Type().Field(i).Tag.Get("json"), ",")
		if path == "" && name == "targetRefs" {
			continue
		}
		f, at := from.Field(i), path+name
		if f.IsNil() {
			continue
		}
		if f.Kind() == reflect.Pointer && f.Type().Elem().Kind() == reflect.Struct {
			if into.Field(i).IsNil() {
				into.Field(i).Set(reflect.New(f.Type().Elem()))
				if f.Elem().IsZero() { // "overload: {}" says something, without a field
					m.take(at, "{}", p)
					*took++
				}
			}
			m.merge(into.Field(i).Elem(), f.Elem(), at+".", p, took, lost)
			continue
		}
		if !into.Field(i).IsNil() {
			*lost = append(*lost, at+" (of "+objectName(m.said[at].Ref)+")")
			continue
		}
		into.Field(i).Set(f)
		value, _ := json.Marshal(f.Interface())
		m.take(at, strings.Trim(string(value), `"`), p)
		*took++
	}
}

func (m *merger) take(field, value string, p *anyPolicy) {
	m.said[field] = p
	m.order = append(m.order, mesh.FieldSource{Field: field, Value: value, From: objectName(p.Ref)})
}

// says reports whether any field under one of the prefixes is said.
func (m *merger) says(prefixes ...string) bool {
	for field := range m.said {
		if under(field, prefixes) {
			return true
		}
	}
	return false
}

func under(field string, prefixes []string) bool {
	for _, p := range prefixes {
		if field == p || strings.HasPrefix(field, p+".") {
			return true
		}
	}
	return false
}

// The parts of a TrafficPolicy by who keeps to them; see policy.
var (
	requestFields  = []string{"timeouts.request", "timeouts.perTry", "timeouts.streamIdle", "retry", "hedge"}
	upstreamFields = []string{"balance", "session", "locality", "slowStart", "panicThreshold", "subset", "limits",
		"timeouts.connect", "timeouts.poolIdle", "ejection", "healthCheck"}
)

// level is one step of inheritance: everything that is for one target.
type level = section

// levelsOf are the steps for a port of a service, the nearest first.
func levelsOf(n mesh.Name, portName string) []level {
	var out []level
	if portName != "" {
		out = append(out, level{Ref{object.Service, n}, portName})
	}
	return append(out, level{Ref{object.Service, n}, ""}, namespaceLevel(n.Namespace), meshLevel)
}

func namespaceLevel(namespace string) level {
	return level{Ref{object.Namespace, mesh.Name{Name: namespace}}, ""}
}

var meshLevel = level{Ref{object.Mesh, mesh.Name{Name: "mesh"}}, ""}

// chain are the policies along some levels, the nearest first.
func (b *Builder) chain(levels []level) []*anyPolicy {
	if len(b.policies) == 0 {
		return nil
	}
	var out []*anyPolicy
	for _, l := range levels {
		out = append(out, b.policiesFor(l)...)
	}
	return out
}

// effectiveOf works out what a chain of policies comes to. Many services have the
// same chain, so it is kept.
func (b *Builder) effectiveOf(chain []*anyPolicy) *effective {
	if len(chain) == 0 {
		return &nothingSaid
	}
	var key strings.Builder
	for _, p := range chain {
		key.WriteString(p.Ref.String())
		key.WriteByte(' ')
	}
	e := b.effective[key.String()]
	if e == nil {
		e = newEffective(chain)
		if len(b.effective) >= maxEffective {
			clear(b.effective)
		}
		b.effective[key.String()] = e
	}
	return e
}

// maxEffective bounds the chains that are kept.
const maxEffective = 10_000
