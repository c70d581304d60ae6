package record

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
)

const (
	// gather is how long lines may wait for others, so that few writes carry many.
	gather = 50 * time.Millisecond
	// stopWait bounds how long the end of the proxy waits for the last lines.
	stopWait = 5 * time.Second
	// sayEvery is how often at most it is said that the output fails: on a disk that
	// is full now and then it does so now and then.
	sayEvery = time.Minute
)

// Config is what a Recorder is made of.
type Config struct {
	// Output is where the access log goes, whole lines in each call, written by one
	// goroutine; nil has none. How much it wrote counts when it fails.
	Output io.Writer
	Loops  int
	// Log is told when the output fails, and when it works again; nil is nobody.
	Log *slog.Logger
}

// Recorder takes the records of a proxy's loops. Its methods may be called from
// anywhere.
type Recorder struct {
	config  Config
	pens    []*Pen
	taps    atomic.Pointer[[]*Tap] // nil: there are none
	tapsMu  sync.Mutex             // for changing taps
	written atomic.Uint64          // lines
	dropped atomic.Uint64

	// asleep says that the writer waits for wake, and not for time to pass.
	asleep  atomic.Bool
	wake    chan struct{}
	stop    chan struct{}
	started bool
	once    sync.Once
	done    chan struct{}
}

// New makes a Recorder. Until Start nothing is written.
func New(c Config) *Recorder {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Recorder{config: c, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	for range c.Loops {
		r.pens = append(r.pens, &Pen{recorder: r})
	}
	return r
}

// Pen is that of loop i, from 0.
func (r *Recorder) Pen(i int) *Pen { return r.pens[i] }

// Start begins to write lines. It is called once, before Stop.
func (r *Recorder) Start() {
	if r.config.Output == nil {
		return
	}
	r.started = true
	go r.run()
}

// Stop ends all taps, writes what waits, and ends the writer; one that hangs in
// its output is left behind after five seconds. The loops have ended by then.
func (r *Recorder) Stop() {
	r.once.Do(func() {
		r.tapsMu.Lock()
		if list := r.taps.Swap(nil); list != nil {
			for _, t := range *list {
				t.end()
			}
		}
		r.tapsMu.Unlock()
		close(r.stop)
	})
	if !r.started {
		return
	}
	timer := time.NewTimer(stopWait)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
	}
}

// run is the writer: it sleeps while there is nothing, and else writes what has
// gathered for a while, or sooner when a loop's buffer is half full.
func (r *Recorder) run() {
	defer close(r.done)
	timer := time.NewTimer(gather)
	defer timer.Stop()
	var told trouble
	for {
		n, err := r.write()
		if n > 0 {
			told.tell(r, err, time.Now())
		}
		if n > 0 {
			timer.Reset(gather)
			select {
			case <-timer.C:
			case <-r.wake:
			case <-r.stop:
				r.write()
				return
			}
			continue
		}
		r.asleep.Store(true)
		if r.any() {
			r.asleep.Store(false)
			continue
		}
		select {
		case <-r.wake:
		case <-r.stop:
			r.write()
			return
		}
	}
}

func (r *Recorder) any() bool {
	for _, p := range r.pens {
		if p.ring.used() > 0 {
			return true
		}
	}
	return false
}

// trouble is what has been said of an output that fails. It is the writer's.
type trouble struct {
	failing bool      // said, and not yet that it works again
	said    time.Time // when last
	dropped uint64    // lines that were lost before
}

// tell says it once when the output begins to fail, and once when it works again.
func (t *trouble) tell(r *Recorder, err error, now time.Time) {
	switch {
	case err == nil && t.failing:
		t.failing = false
		r.config.Log.Info("the access log can be written again", "lost", r.dropped.Load()-t.dropped)
	case err == nil:
		t.dropped = r.dropped.Load()
	case !t.failing && (t.said.IsZero() || now.Sub(t.said) >= sayEvery):
		t.failing, t.said = true, now
		r.config.Log.Error("the access log can't be written; lines are lost and counted, requests go on", "error", err)
	}
}

// write writes what waits. It returns how many bytes that was.
func (r *Recorder) write() (n int, failed error) {
	for _, p := range r.pens {
		a, b := p.ring.waiting()
		// A line may lie in both pieces.
		end, begin := bytes.LastIndexByte(a, '\n')+1, bytes.IndexByte(b, '\n')+1
		var both []byte
		if end < len(a) {
			both = append(append(both, a[end:]...), b[:begin]...)
		} else {
			begin = 0
		}
		for _, part := range [][]byte{a[:end], both, b[begin:]} {
			if len(part) == 0 {
				continue
			}
			done, err := r.config.Output.Write(part)
			if err != nil {
				failed = err
			} else {
				done = len(part)
			}
			r.written.Add(uint64(bytes.Count(part[:done], newline)))
			r.dropped.Add(uint64(bytes.Count(part[done:], newline)))
		}
		p.ring.took(len(a) + len(b))
		n += len(a) + len(b)
	}
	return n, failed
}

var newline = []byte{'\n'}

// Collect writes the Recorder's metrics.
func (r *Recorder) Collect(w *meter.Writer) {
	if written, dropped := r.written.Load(), r.dropped.Load(); written > 0 || dropped > 0 {
		w.Family("tulle_access_log_lines_total", meter.CounterKind, "Lines of the access log, and those that were lost because the output was too slow or failed.")
		w.Count(written, "result", "written")
		w.Count(dropped, "result", "dropped")
	}
	taps := 0
	if list := r.taps.Load(); list != nil {
		taps = len(*list)
	}
	w.Family("tulle_taps", meter.GaugeKind, "Those who watch the proxy's requests now.")
	w.Sample(float64(taps))
}

// maxLine bounds a line, in bytes: what is outside is cut off before.
const maxLine = 16 << 10

// Pen writes the records of one loop, which alone may touch it.
type Pen struct {
	recorder *Recorder
	mode     policy.LogMode
	sample   uint32 // of 100
	ring     ring
	scratch  []byte
}

// Set says what the access log is to have.
func (p *Pen) Set(l policy.AccessLog) {
	p.mode, p.sample = l.Mode, l.Percent()
	if p.recorder.config.Output == nil {
		p.mode = policy.LogOff
	}
}

// Wanted reports whether anybody wants records. It is one comparison and one load
// where nobody does.
func (p *Pen) Wanted() bool {
	return p != nil && (p.mode != policy.LogOff || p.recorder.taps.Load() != nil)
}

// Write passes a record on. chance, of any size, decides about the records that
// only a sample is kept of. It doesn't allocate, but for what taps want.
func (p *Pen) Write(r *Record, chance uint64) {
	b := p.scratch[:0]
	if p.mode == policy.LogAll && (p.sample >= 100 || uint32(chance%100) < p.sample) || p.mode != policy.LogOff && r.Failed() {
		b = append(r.AppendJSON(b), '\n')
		p.add(b)
	}
	if list := p.recorder.taps.Load(); list != nil {
		for _, t := range *list {
			if !t.filter.match(r) || !t.take(r.At.Add(r.Total)) {
				continue
			}
			if len(b) == 0 {
				b = append(r.AppendJSON(b), '\n')
			}
			t.add(b)
		}
	}
	p.scratch = b
}

// add hands a line to the writer.
func (p *Pen) add(line []byte) {
	w := p.recorder
	before := p.ring.used()
	if len(line) > maxLine || !p.ring.put(line) {
		w.dropped.Add(1)
		return
	}
	half := before < ringSize/2 && before+len(line) >= ringSize/2
	if half || w.asleep.Load() && w.asleep.CompareAndSwap(true, false) {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
