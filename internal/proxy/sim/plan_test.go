package sim_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"tulle.dev/tulle/internal/policy"
)

// paceTime is how long a slow reader rests between two reads.
const paceTime = 5 * time.Millisecond

// framing is how a body is delimited.
type framing int

const (
	none framing = iota
	length
	chunks
	untilClose
)

// fault is what a backend does wrong with a request.
type fault int

const (
	noFault      fault = iota
	resetsEarly        // resets when the head has come
	closesEarly        // closes then, without a word
	resetsInBody       // resets in the middle of its answer
	cutsBody           // closes in the middle of its answer
	garbage            // answers what isn't HTTP
	silent             // never answers
	faults
)

// request is one request of a run: what its client sends, what its backend does
// with it, and what came of it.
type request struct {
	id     int
	method string
	body   []byte
	framed framing
	expect bool // Expect: 100-continue

	// The backend's part.
	fault    fault
	delay    time.Duration
	answer   []byte
	answered framing
	interims int
	early    bool // answers before it has read the body
	busy     int  // answers 503 so often before it answers
	closes   bool // says Connection: close
	hangsUp  bool // closes afterwards without having said so
	trailers bool

	// What came of it.
	delivered int    // heads that reached a backend
	refused   int    // of these, answered with 503
	status    int    // of the final answer; 0 for none
	byProxy   bool   // the answer is a proxy's
	failed    string // why there's no whole answer
	done      bool
	sent      bool
}

// content makes n bytes that are different for each request and place.
func content(id, n int, salt uint64) []byte {
	rnd := rand.New(rand.NewPCG(uint64(id), salt))
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		v := rnd.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b
}

// size picks a body's size: mostly small, sometimes more than any buffer.
func size(rnd *rand.Rand) int {
	switch rnd.IntN(10) {
	case 0:
		return 0
	case 1, 2, 3, 4:
		return rnd.IntN(200)
	case 5, 6, 7:
		return rnd.IntN(8 << 10)
	case 8:
		return rnd.IntN(80 << 10)
	}
	return rnd.IntN(160 << 10)
}

// newRequest plans a request.
func newRequest(rnd *rand.Rand, id int, faulty bool) *request {
	r := &request{id: id, method: "GET"}
	if rnd.IntN(2) == 0 {
		r.method = []string{"POST", "POST", "PUT", "DELETE", "HEAD", "PATCH"}[rnd.IntN(6)]
	}
	if r.method == "POST" || r.method == "PUT" || r.method == "PATCH" || rnd.IntN(10) == 0 && r.method != "HEAD" {
		r.framed = []framing{length, chunks}[rnd.IntN(2)]
		r.body = content(id, size(rnd), 1)
		r.expect = rnd.IntN(6) == 0 && len(r.body) > 0
	}
	r.answered = []framing{length, length, chunks, chunks, untilClose}[rnd.IntN(5)]
	r.answer = content(id, size(rnd), 2)
	if rnd.IntN(12) == 0 {
		r.answered, r.answer = none, nil // 204
	}
	if rnd.IntN(3) == 0 {
		r.delay = time.Duration(rnd.IntN(30)) * time.Millisecond
	}
	if rnd.IntN(8) == 0 {
		r.interims = 1 + rnd.IntN(3)
	}
	r.early = rnd.IntN(10) == 0
	r.closes = rnd.IntN(10) == 0
	r.hangsUp = rnd.IntN(10) == 0
	r.trailers = r.answered == chunks && rnd.IntN(4) == 0
	if faulty && rnd.IntN(4) == 0 {
		r.fault = fault(1 + rnd.IntN(int(faults)-1))
	}
	return r
}

func (r *request) idempotent() bool { return r.method != "POST" && r.method != "PATCH" }

func (r *request) String() string {
	return fmt.Sprintf("request %d: %s, %d bytes framed %d, answer %d bytes framed %d, fault %d, early %v, closes %v, hangs up %v, busy %d: delivered %d, status %d, by proxy %v, failed %q",
		r.id, r.method, len(r.body), r.framed, len(r.answer), r.answered, r.fault, r.early, r.closes, r.hangsUp, r.busy, r.delivered, r.status, r.byProxy, r.failed)
}

// newPolicy plans a policy of tries and copies.
func newPolicy(rnd *rand.Rand) *policy.Request {
	p := &policy.Request{Retry: policy.Retry{
		Attempts: uint8(rnd.IntN(4)), On: policy.Condition(rnd.IntN(1 << 6)), Any: rnd.IntN(6) == 0,
		Backoff: time.Duration(rnd.IntN(20)) * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
		Budget: policy.Budget{Percent: uint8(rnd.IntN(101)), Min: uint32(rnd.IntN(20))},
		Buffer: []uint32{0, 1 << 10, 64 << 10, 1 << 20}[rnd.IntN(4)],
	}}
	if rnd.IntN(3) == 0 {
		p.Try = time.Duration(5+rnd.IntN(100)) * time.Millisecond
	}
	if rnd.IntN(3) == 0 {
		p.Hedge = policy.Hedge{After: time.Duration(1+rnd.IntN(30)) * time.Millisecond, Max: uint8(1 + rnd.IntN(3))}
	}
	if rnd.IntN(6) == 0 {
		p.StreamIdle = time.Duration(1+rnd.IntN(5)) * time.Second
	}
	return p
}

// encode frames a body.
func encode(rnd *rand.Rand, b []byte, f framing) []byte {
	if f != chunks {
		return b
	}
	var out []byte
	for len(b) > 0 {
		n := 1 + rnd.IntN(min(len(b), 20<<10))
		out = fmt.Appendf(out, "%x", n)
		if rnd.IntN(8) == 0 {
			out = append(out, `;x="y;z"`...)
		}
		out = append(append(append(out, "\r\n"...), b[:n]...), "\r\n"...)
		b = b[n:]
	}
	return append(out, "0\r\n"...) // trailers and the last line are the caller's
}
