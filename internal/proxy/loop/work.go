package loop

// Worker has computations for a loop that take longer than what a handler may do.
type Worker interface {
	// Work does a part of them, of some 100 µs, and reports whether there is more.
	Work() bool
}

// Employ has w work on the loop, when everything that is ready was served: one part
// a turn, and more as long as all of them take no longer than half of what the turn
// took before. So whatever becomes ready waits for one part more, a busy loop gives
// them a third of its time and an idle one all of it. Whoever works already must not
// be employed again.
func (l *Loop) Employ(w Worker) { l.workers = append(l.workers, w) }

// labour lets workers do their parts, one after the other.
func (l *Loop) labour() {
	began := l.Poller.Now()
	share := (began - l.now) / 2
	for {
		w := l.workers[0]
		l.workers = append(l.workers[:0], l.workers[1:]...) // they are few
		if w.Work() {
			l.workers = append(l.workers, w)
		}
		l.flush()
		if len(l.workers) == 0 || l.Poller.Now()-began >= share {
			return
		}
	}
}
