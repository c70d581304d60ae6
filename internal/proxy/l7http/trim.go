package l7http

import (
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
)

// trimEvery is how often surplus memory is given back.
const trimEvery = time.Second

// trimmer gives surplus memory of the worker and its engines back until there is
// none.
type trimmer struct {
	worker *Worker
	timer  loop.Timer
}

func (t *trimmer) Expire(*loop.Timer) {
	w := t.worker
	w.env.Trim()
	w.streams.Trim(keptStreams)
	w.h2streams.Trim(keptStreams)
	w.h2calls.Trim(keptStreams)
	w.trimLater()
}

// trimLater has surplus memory given back when it isn't needed for a while.
func (w *Worker) trimLater() {
	if t := &w.trimmer; w.surplus() && !t.timer.On() {
		if t.worker == nil {
			t.worker = w
			t.timer.Init(w.Loop, t)
		}
		t.timer.Set(trimEvery)
	}
}

func (w *Worker) surplus() bool {
	return max(w.streams.Len(), w.h2streams.Len(), w.h2calls.Len()) > keptStreams || w.env.Surplus()
}
