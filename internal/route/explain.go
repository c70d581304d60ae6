package route

// Explanation says which rule a request meets and why not the others before it.
type Explanation struct {
	// Host is the hostname whose rules were tried, as the Spec has it in lower case;
	// empty when none is met: the answer is 404.
	Host string
	// Rule and Match are what Table.Match returns.
	Rule  *Compiled
	Match int
	// Candidates are the matches that go before the winner's, in the order of their
	// precedence, and the winner's own at the end. Those whose path the request has
	// are named first when there are more than maxCandidates.
	Candidates []Candidate
	// More counts the candidates that there was no room for.
	More int
}

// Candidate is a match that was tried.
type Candidate struct {
	Rule  *Compiled
	Match int // its place in Rule.Matches, -1 when it has none
	// Failed is the first clause that the request doesn't meet, and Name the header
	// field or query parameter of ClauseHeader and ClauseQuery.
	Failed Clause
	Name   string
}

// maxCandidates bounds the candidates of an Explanation.
const maxCandidates = 64

// String names the clause as the fields of a match do.
func (c Clause) String() string {
	switch c {
	case ClausePath:
		return "path"
	case ClauseMethod:
		return "method"
	case ClauseHeader:
		return "header"
	case ClauseQuery:
		return "query"
	}
	return "met"
}

// Explain says how Match comes to its answer. It tries every match where Match asks
// an index, with the same conditions, and is for people, not for the request path.
func (t *Table) Explain(r *Request) Explanation {
	out := Explanation{Match: -1}
	h := t.find(r.Authority)
	if h == nil {
		return out
	}
	out.Host = h.name
	m := matcher{r: r, seen: new(lookups)}
	var tried []Candidate
	near := 0
	for _, e := range h.entries {
		c := Candidate{Rule: e.rule, Match: e.index, Failed: ClausePath}
		if e.hasPath(r.Path) {
			c.Failed, c.Name = m.fails(e)
			near++
		}
		tried = append(tried, c)
		if c.Failed == ClauseMet {
			out.Rule, out.Match = e.rule, e.index
			break
		}
	}
	// Too many: those with another path say least, and the first of each kind less
	// than the last, which is next to the winner.
	far := len(tried) - near
	dropNear := max(near-maxCandidates, 0)
	dropFar := max(far-max(maxCandidates-near, 0), 0)
	out.More = dropNear + dropFar
	for _, c := range tried {
		drop := &dropNear
		if c.Failed == ClausePath {
			drop = &dropFar
		}
		if *drop > 0 {
			*drop--
			continue
		}
		out.Candidates = append(out.Candidates, c)
	}
	return out
}
