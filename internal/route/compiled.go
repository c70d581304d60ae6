package route

// Compiled is one rule of a Table.
type Compiled struct {
	Rule
	// Index is the rule's place in Table.Rules, so that a caller can keep what
	// belongs to it (resolved backends, metrics) in a slice beside the table.
	Index int

	total uint64
	// origins are the rule's CORS, and then each backend's; nil when none has any.
	origins []*CrossOrigin
}

// Prefix is the path prefix of one of the rule's matches, for AppendLocation and
// AppendPath. match is as Table.Match says; other matches than of a prefix, and a
// rule without matches, have "/".
func (c *Compiled) Prefix(match int) string {
	if match >= 0 && match < len(c.Matches) && c.Matches[match].Path.Kind == PathPrefix {
		return c.Matches[match].Path.Value
	}
	return "/"
}

// CrossOrigin is the CORS of a backend of the rule, by its place in Backends, or
// the rule's own when that has none or backend is -1; nil when neither has any.
func (c *Compiled) CrossOrigin(backend int) *CrossOrigin {
	if c.origins == nil {
		return nil
	}
	if o := c.origins[1+backend]; o != nil {
		return o
	}
	return c.origins[0]
}

func compileRule(r Rule, index int, regexes regexes) (*Compiled, error) {
	if err := r.check(regexes); err != nil {
		return nil, err
	}
	c := &Compiled{Rule: r, Index: index}
	for i := -1; i < len(r.Backends); i++ {
		cors := r.Filters.CORS
		if i >= 0 {
			c.total += uint64(r.Backends[i].Weight)
			cors = r.Backends[i].Filters.CORS
		}
		if cors == nil {
			continue
		}
		if c.origins == nil {
			c.origins = make([]*CrossOrigin, 1+len(r.Backends))
		}
		var err error
		if c.origins[1+i], err = cors.Compile(); err != nil {
			return nil, err // Check has seen it
		}
	}
	return c, nil
}

// Pick chooses a backend by weight. random is uniform over all uint64 values.
// It returns the backend's place in Backends, or -1 when no backend has weight.
func (c *Compiled) Pick(random uint64) int {
	if len(c.Backends) == 1 && c.total > 0 {
		return 0
	}
	if c.total == 0 {
		return -1
	}
	at := random % c.total
	for i := range c.Backends {
		w := uint64(c.Backends[i].Weight)
		if at < w {
			return i
		}
		at -= w
	}
	return -1
}
