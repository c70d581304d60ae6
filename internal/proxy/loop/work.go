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

// yielder is a poller that can let other threads of its processor run.
type yielder interface{ Yield() }

// giveWay lets other programs run when workers have made the loop busy that would
// have waited else: the kernel would leave them waiting for milliseconds, and the
// program behind the proxy, or the proxy before it, may be among them. Whoever took a
// long time isn't given way to for as long.
func (l *Loop) giveWay() {
	y, can := l.Poller.(yielder)
	if !can || len(l.workers) == 0 {
		return
	}
	now := l.Poller.Now()
	if now < l.insists {
		return
	}
	y.Yield()
	after := l.Poller.Now()
	l.insists = after + (after - now)
}
