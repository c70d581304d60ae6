package policy

import "time"

// Inbound is what a workload's own proxy keeps to for one service port.
type Inbound struct {
	// Guard says who may come in; nil is everyone.
	Guard *Guard
	// Limits are the service's rate limits; each must allow the request.
	Limits []RateLimit
	// Overload sheds load; nil never does.
	Overload *Overload
}

// Overload lets a workload work on as many requests as it can without their
// latency growing, finds out by itself how many that is, and refuses the rest at
// once (503, Retry-After), those of the lowest priority first.
type Overload struct {
	// Min and Max bound the concurrency that it may come to, per proxy.
	Min, Max uint32
	// Tolerance is the latency, in percent of the latency without load, up to
	// which more is let in: 200 lets it double.
	Tolerance uint16
	// Queue bounds how long a request may wait for its turn; 0 refuses at once.
	Queue time.Duration
	// Priority says which requests are the more important: the first entry that
	// a request meets gives its level, 0 to 9, higher is kept longer. What meets
	// none has level 5.
	Priority []Priority
}

// Priority gives the requests that it matches a level.
type Priority struct {
	When  Match
	Level uint8
}

// DefaultOverload is what the fields of an Overload that is asked for default to.
var DefaultOverload = Overload{Min: 4, Max: 1000, Tolerance: 200, Queue: 50 * time.Millisecond}
