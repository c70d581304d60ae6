package proxy

import (
	"bytes"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/h1"
)

// routes is a route table on one loop, with what its rules' backends are here:
// a request finds its cluster without looking up a string.
type routes struct {
	lane      *lane
	direction meter.Direction
	table     *route.Table
	backends  [][]*dial.Cluster // by rule, by backend; nil until first used
}

// route sends the exchange where the table says. otherwise is where everything
// goes when there is no table.
func (r *routes) route(x *l7http.Exchange, otherwise *dial.Cluster) *l7http.Failure {
	if r.table == nil {
		if otherwise == nil {
			return l7http.NoRoute
		}
		x.Cluster = otherwise
		return nil
	}
	path, query := x.Request.Path, []byte(nil)
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path, query = path[:i], path[i+1:]
	}
	rule, _ := r.table.Match(&route.Request{
		Authority: x.Request.Authority,
		Path:      path,
		Query:     query,
		Method:    x.Request.MethodName,
		Fields:    (*fields)(&x.Request),
	})
	if rule == nil {
		return l7http.NoRoute
	}
	i := rule.Pick(r.lane.loop.Rand.Uint64())
	if i < 0 || rule.Backends[i].Destination == "" {
		return l7http.NoBackend
	}
	x.Rule, x.Backend = rule, i
	x.Timeout = rule.Timeout
	if rule.Policy != nil {
		x.Policy = rule.Policy
	}
	x.Cluster = r.cluster(rule, i)
	return nil
}

func (r *routes) cluster(rule *route.Compiled, i int) *dial.Cluster {
	if r.backends == nil {
		r.backends = make([][]*dial.Cluster, len(r.table.Rules()))
	}
	if r.backends[rule.Index] == nil {
		r.backends[rule.Index] = make([]*dial.Cluster, len(rule.Backends))
	}
	c := r.backends[rule.Index][i]
	if c == nil {
		c = r.lane.cluster(r.direction, rule.Backends[i].Destination)
		r.backends[rule.Index][i] = c
	}
	return c
}

// fields looks a request's header fields up for the route table.
type fields h1.Request

// Field joins the values of all fields of a name, when there are several.
func (f *fields) Field(name string) (value []byte, ok bool) {
	for i := range f.Fields {
		field := &f.Fields[i]
		if len(field.Name) != len(name) || !bytes.EqualFold(field.Name, []byte(name)) {
			continue
		}
		if !ok {
			value, ok = field.Value, true
			continue
		}
		value = append(append(value[:len(value):len(value)], ','), field.Value...)
	}
	return value, ok
}
