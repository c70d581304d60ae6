package overload

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"tulle.dev/tulle/internal/policy"
)

// model is a program with workers and a queue of its own, a gate before it, and
// callers that send without waiting for answers, in virtual time.
type model struct {
	rand    *rand.Rand
	now     time.Duration
	agenda  agenda
	gate    *Gate
	line    *Line
	workers int
	busy    int
	queue   []*job
	service func(*rand.Rand) time.Duration
	rate    float64 // requests a second
	levels  func(*rand.Rand) uint8
	shed    bool

	done []*job
}

type job struct {
	m        *model
	level    uint8
	came     time.Duration
	began    time.Duration
	ended    time.Duration
	admitted bool
}

type event struct {
	at time.Duration
	do func()
}
type agenda []event

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at < a[j].at }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(e any)        { *a = append(*a, e.(event)) }
func (a *agenda) Pop() any {
	e := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return e
}

func (m *model) after(d time.Duration, do func()) { heap.Push(&m.agenda, event{m.now + d, do}) }

func (m *model) run(until time.Duration) {
	for len(m.agenda) > 0 && m.agenda[0].at <= until {
		e := heap.Pop(&m.agenda).(event)
		m.now = e.at
		e.do()
	}
	m.now = until
}

// constant is a service time that doesn't vary.
func constant(d time.Duration) func(*rand.Rand) time.Duration {
	return func(*rand.Rand) time.Duration { return d }
}

// exponential varies as much as its mean.
func exponential(d time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return time.Duration(r.ExpFloat64() * float64(d)) }
}

// mixed takes 1 ms nine times of ten, else 91 ms: 10 ms on average.
func mixed(r *rand.Rand) time.Duration {
	if r.IntN(10) == 0 {
		return 91 * time.Millisecond
	}
	return time.Millisecond
}

func newModel(seed uint64, p *policy.Overload) *model {
	m := &model{rand: rand.New(rand.NewPCG(seed, 1)), workers: 8, service: constant(10 * time.Millisecond), rate: 2400, shed: p != nil}
	if p != nil {
		m.gate = New(p, 0)
		m.line = m.gate.NewLine(0, func() {})
	}
	m.arrive()
	return m
}

// arrive brings the next request, at random times.
func (m *model) arrive() {
	m.after(time.Duration(m.rand.ExpFloat64()/m.rate*1e9), func() {
		m.arrive()
		j := &job{m: m, came: m.now, level: DefaultLevel}
		if m.levels != nil {
			j.level = m.levels(m.rand)
		}
		m.done = append(m.done, j)
		if !m.shed {
			j.Admitted()
			return
		}
		if m.line.Enter(j.level, m.now) {
			j.Admitted()
			return
		}
		if m.line.Join(j.level, m.now, j) != nil {
			m.watch()
		}
	})
}

// watch turns away who has waited too long.
func (m *model) watch() {
	if d := m.line.Next(m.now); d > 0 {
		m.after(d, func() { m.line.Serve(m.now) })
	}
}

func (j *job) TurnedAway() {}

func (j *job) Admitted() {
	m := j.m
	j.admitted, j.began = true, m.now
	if m.busy < m.workers {
		j.work()
		return
	}
	m.queue = append(m.queue, j)
}

func (j *job) work() {
	m := j.m
	m.busy++
	m.after(m.service(m.rand), func() {
		m.busy--
		j.ended = m.now
		if len(m.queue) > 0 && m.busy < m.workers {
			next := m.queue[0]
			m.queue = m.queue[1:]
			next.work()
		}
		if m.shed {
			if m.line.Done(j.level, j.began, m.now, true) {
				m.line.Serve(m.now)
			}
			m.watch()
		}
	})
}

// result is what the callers saw of the requests of some time.
type result struct {
	goodput  float64 // answers a second
	p50, p99 time.Duration
	success  [Levels]float64
}

func (m *model) result(from, to time.Duration) result {
	var r result
	var took []time.Duration
	var came, ok [Levels]float64
	for _, j := range m.done {
		if j.came >= from && j.came < to {
			came[j.level]++
			if j.admitted {
				ok[j.level]++
			}
		}
		if j.ended >= from && j.ended < to && j.ended > 0 {
			took = append(took, j.ended-j.came)
		}
	}
	slices.Sort(took)
	if len(took) > 0 {
		r.p50, r.p99 = took[len(took)/2], took[int(float64(len(took))*0.99)]
	}
	r.goodput = float64(len(took)) / (to - from).Seconds()
	for l := range came {
		r.success[l] = ok[l] / math.Max(came[l], 1)
	}
	return r
}
