package loop

// Gatherer has gathered output of several connections' doing, and writes it
// once, when everything else in a turn is done.
type Gatherer interface {
	// Gather writes. It may be called for again from within.
	Gather()
}

// Gather has g called before the turn ends.
func (l *Loop) Gather(g Gatherer) { l.gather = append(l.gather, g) }

// gatherAll lets everyone write that asked for it.
func (l *Loop) gatherAll() {
	list := l.gather
	l.gather = l.gathered[:0]
	for i, g := range list {
		list[i] = nil
		g.Gather()
	}
	l.flush()
	l.gathered = list[:0]
}

// Drained has the handler called once all that was written is gone.
func (c *Conn) Drained() { c.starved = true }
