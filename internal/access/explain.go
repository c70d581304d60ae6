package access

import "fmt"

// Reason is a decision for people.
type Reason struct {
	Decision
	// By is the rule that decided, "" the default.
	By string
	// Foreign says that the default denied because the caller is of another trust
	// domain.
	Foreign bool
	// Nearest is the Allow that came closest to letting a refused request pass,
	// and Clause what of it fails; "" when there is no Allow.
	Nearest, Clause string
}

// String tells it in a sentence.
func (r Reason) String() string {
	switch {
	case r.Action == Allow && r.By != "":
		return "allowed by " + r.By
	case r.Action == Allow:
		return "allowed: no rule is about it, and the default is to allow"
	case r.By != "":
		return "denied by " + r.By
	case r.Foreign:
		return "denied: no rule allows it, and the caller is of another trust domain"
	case r.Nearest != "":
		return fmt.Sprintf("denied: no rule allows it; %s would, but for its %s", r.Nearest, r.Clause)
	}
	return "denied: no rule allows it"
}

// Explain decides as Request does, or as Connection when r is nil, and says why.
// It is for refusals and for people: it allocates.
func (s *Session) Explain(r *Request) Reason {
	var m Scratch
	out := Reason{Decision: s.decide(r, &m)}
	out.By = s.table.Rule(out.Rule)
	if out.Action == Allow || out.Rule >= 0 {
		return out
	}
	out.Foreign = s.foreign && s.table.spec.Default == Allow
	v := verdict{session: s, request: r}
	if r != nil {
		v.form, v.odd = normal(nil, r.Path)
	}
	best, who := -1, s.table.caller(s.peer)
	for i := range s.table.allow.clauses {
		c := &s.table.allow.clauses[i]
		rule := &s.table.spec.Rules[c.rule]
		if rule.Audit {
			continue
		}
		score, clause := 0, ""
		if s.has(c.rule) { // being let in for something else is the nearest
			score += 3
		} else {
			clause = failing(s.table.sources[c.rule], &who)
		}
		switch {
		case r == nil:
			if clause == "" {
				clause = "requests, which can't be seen on an opaque connection"
			}
		default:
			failed := v.meets(c, false)
			if failed == "" {
				score += 2
			} else if clause == "" {
				clause = failed
				if failed == "path" && v.odd {
					clause = "path, which isn't in its plain form"
				}
			}
			if failed != "" && failed != "method" && failed != "path" {
				score++
			}
		}
		if score > best {
			best, out.Nearest, out.Clause = score, rule.Name, clause
		}
	}
	return out
}

// failing says what of a rule's sources fails for the peer.
func failing(from []source, p *caller) string {
	for i := range from {
		if f := from[i].failing(p); f != "" {
			if p.ID.IsZero() {
				return f + " (the caller proves no identity)"
			}
			return f + " (the caller is " + p.uri + ")"
		}
	}
	return "source"
}
