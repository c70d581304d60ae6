package route

// cached is how many distinct header names, and parameter names, of a host are
// looked up at most once for a request; the rarest of more are looked up for each
// rule that looks at them.
const cached = 16

// matcher matches one request on one host. It lives on the stack.
type matcher struct {
	r *Request
	// seen is what it looked up already; nil when the host's rules look nothing up.
	seen *lookups
}

// lookups are the header fields and parameters that were looked up. A bit of asked
// says that one was, one of found that the request has it.
type lookups struct {
	headersAsked, headersFound uint16
	paramsAsked, paramsFound   uint16
	headers, params            [cached][]byte
}

// Clause is a part of a Match.
type Clause uint8

// ClauseMet says that all of them are met; the others, which one was the first that
// wasn't.
const (
	ClauseMet Clause = iota
	ClausePath
	ClauseMethod
	ClauseHeader
	ClauseQuery
)

// first returns the first of entries that the request meets, of those whose path
// it has unless that is a regular expression.
func (m *matcher) first(entries []*entry) *entry {
	for _, e := range entries {
		if clause, _ := m.fails(e); clause == ClauseMet && (e.regex == nil || e.regex.meets(m.r.Path)) {
			return e
		}
	}
	return nil
}

// fails returns the first clause, other than the path, that the request doesn't
// meet, with the name of the header field or parameter.
func (m *matcher) fails(e *entry) (Clause, string) {
	if e.method != "" && string(m.r.Method) != e.method {
		return ClauseMethod, ""
	}
	for i := range e.headers {
		w := &e.headers[i]
		v, ok := m.header(w)
		if !ok {
			return ClauseHeader, w.name
		}
		if w.regex != nil {
			ok = w.regex.meets(v)
		} else {
			ok = string(v) == w.value
		}
		if !ok {
			return ClauseHeader, w.name
		}
	}
	for i := range e.query {
		w := &e.query[i]
		v, ok := m.param(w)
		if !ok {
			return ClauseQuery, w.name
		}
		if w.regex != nil {
			ok = w.regex.meets(m.r.decoded(v))
		} else {
			ok = equalDecoded(v, w.value)
		}
		if !ok {
			return ClauseQuery, w.name
		}
	}
	return ClauseMet, ""
}

// hasPath reports whether a path is one of the entry's: what the host's index says,
// for one entry.
func (e *entry) hasPath(path []byte) bool {
	switch e.rank {
	case rankExact:
		return string(path) == e.path
	case rankRegex:
		return e.regex.meets(path)
	case rankPrefix:
		return hasPathPrefix(path, e.path)
	case rankGRPCMethod:
		return string(grpcMethod(path)) == e.path
	}
	return true
}

// hostField is the header field that is the authority, whatever the protocol calls it.
const hostField = "host"

// header looks a field up, once.
func (m *matcher) header(w *wanted) (value []byte, ok bool) {
	if w.name == hostField {
		return m.r.Authority, len(m.r.Authority) > 0
	}
	if m.r.Fields == nil {
		return nil, false
	}
	if w.place >= cached {
		return m.r.Fields.Field(w.name)
	}
	s, bit := m.seen, uint16(1)<<w.place
	if s.headersAsked&bit == 0 {
		s.headersAsked |= bit
		if value, ok = m.r.Fields.Field(w.name); ok {
			s.headersFound |= bit
			s.headers[w.place] = value
		}
	}
	return s.headers[w.place], s.headersFound&bit != 0
}

// param looks a parameter up, once; its value is as it came.
func (m *matcher) param(w *wanted) (value []byte, ok bool) {
	if w.place >= cached {
		return param(m.r.Query, w.name)
	}
	s, bit := m.seen, uint16(1)<<w.place
	if s.paramsAsked&bit == 0 {
		s.paramsAsked |= bit
		if value, ok = param(m.r.Query, w.name); ok {
			s.paramsFound |= bit
			s.params[w.place] = value
		}
	}
	return s.params[w.place], s.paramsFound&bit != 0
}
