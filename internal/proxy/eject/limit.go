package eject

import "sync/atomic"

// Limit counts what the loops of a proxy have of something that is limited. It
// is exact: with a limit of n no more than n are ever held at once, however many
// loops there are. What was begun while there was no limit isn't counted.
type Limit struct{ held atomic.Int64 }

// Hold is a part of a limit; the zero value is none.
type Hold struct{ limit *Limit }

// Take takes one, if there are fewer than max; 0 is no limit.
func (l *Limit) Take(max uint32) (Hold, bool) {
	if max == 0 {
		return Hold{}, true
	}
	if l.held.Add(1) > int64(max) {
		l.held.Add(-1)
		return Hold{}, false
	}
	return Hold{l}, true
}

// Held is how many are held.
func (l *Limit) Held() int { return int(l.held.Load()) }

// Release gives it back; again it does nothing.
func (h *Hold) Release() {
	if h.limit != nil {
		h.limit.held.Add(-1)
		h.limit = nil
	}
}
