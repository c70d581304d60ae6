package spare

// List is the free objects of one kind, the last one put in first. The zero value
// is empty. It belongs to one event loop.
type List[T any] struct {
	free []*T
	low  int // the fewest there were since the last Trim
}

// Get returns a free object, or nil when there is none.
func (l *List[T]) Get() *T {
	n := len(l.free) - 1
	if n < 0 {
		return nil
	}
	v := l.free[n]
	l.free = l.free[:n]
	l.low = min(l.low, n)
	return v
}

// Put takes an object back; beyond limit objects it is dropped.
func (l *List[T]) Put(v *T, limit int) {
	if len(l.free) < limit {
		l.free = append(l.free, v)
	}
}

// Len is how many objects are free.
func (l *List[T]) Len() int { return len(l.free) }

// Trim drops the objects that nobody needed since the last Trim, but keeps keep.
func (l *List[T]) Trim(keep int) {
	n := len(l.free)
	if drop := min(l.low, n-keep); drop > 0 {
		clear(l.free[n-drop:])
		l.free = l.free[:n-drop]
	}
	l.low = len(l.free)
}
