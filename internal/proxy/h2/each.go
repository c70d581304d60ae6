package h2

// Each calls f with the Owner of each stream that is open, the oldest first. f may
// end the stream it is called for, and no other.
func (c *Conn) Each(f func(owner any)) {
	for s, next := c.firstOpen, (*Stream)(nil); s != nil; s = next {
		next = s.nextOpen
		if !s.done && s.Owner != nil {
			f(s.Owner)
		}
	}
}
