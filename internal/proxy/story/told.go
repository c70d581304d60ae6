package story

import (
	"slices"
	"strings"
	"time"
)

// Told is a Story as JSON. All its text is printable.
type Told struct {
	// ID is 16 hexadecimal digits, what the answer's tulle-id said; Peer the id of
	// the next proxy's story.
	ID   string `json:"id"`
	Peer string `json:"peer,omitempty"`
	// Kind is failed, refused or slow.
	Kind      string    `json:"kind"`
	At        time.Time `json:"at"`
	Direction string    `json:"direction"` // inbound, outbound, edge
	Service   string    `json:"service,omitempty"`
	Method    string    `json:"method,omitempty"`
	Host      string    `json:"host,omitempty"`
	Path      string    `json:"path,omitempty"`
	RequestID string    `json:"requestId,omitempty"`
	Caller    string    `json:"caller,omitempty"`
	Rule      string    `json:"rule,omitempty"`
	Backend   string    `json:"backend,omitempty"`
	Policy    string    `json:"policy,omitempty"`
	Status    int       `json:"status,omitempty"`
	GRPC      bool      `json:"grpc,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Text      string    `json:"text,omitempty"`
	// The times are milliseconds since At.
	Routed float64 `json:"routedMs"`
	First  float64 `json:"firstByteMs,omitempty"`
	Total  float64 `json:"totalMs"`
	// Tries are the first few of Tried, Endpoints of Known.
	Tries     []ToldTry      `json:"tries,omitempty"`
	Tried     int            `json:"tried"`
	Endpoints []ToldEndpoint `json:"endpoints,omitempty"`
	Known     int            `json:"known"`
}

// ToldTry is a Try as JSON; its times are milliseconds since the story's At.
type ToldTry struct {
	Endpoint string  `json:"endpoint"`
	Workload string  `json:"workload,omitempty"`
	Outcome  string  `json:"outcome"`
	Status   int     `json:"status,omitempty"`
	Reused   bool    `json:"reused,omitempty"`
	Began    float64 `json:"beganMs"`
	Secured  float64 `json:"tlsMs,omitempty"` // when TLS began
	Sent     float64 `json:"sentMs,omitempty"`
	Ended    float64 `json:"endedMs"`
}

// ToldEndpoint is an Endpoint as JSON.
type ToldEndpoint struct {
	Endpoint string `json:"endpoint"`
	Workload string `json:"workload,omitempty"`
	State    string `json:"state"`
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// Tell makes the story readable.
func (s *Story) Tell() Told {
	t := Told{
		ID: s.ID.String(), Peer: s.Peer.String(), Kind: s.Kind.String(), At: s.At.UTC(), Direction: s.Direction,
		Service: s.Service, Method: s.Method.String(), Host: s.Host.String(), Path: s.Path.String(), RequestID: s.Request.String(), Caller: s.Caller,
		Rule: s.Rule, Backend: s.Backend, Policy: s.Policy, Status: s.Status, GRPC: s.GRPC, Reason: s.Reason, Text: s.Text,
		Routed: milliseconds(s.Routed), First: milliseconds(s.First), Total: milliseconds(s.Total),
		Tried: s.tried, Known: s.known,
	}
	for _, v := range s.tries[:min(s.tried, MaxTries)] {
		t.Tries = append(t.Tries, ToldTry{Endpoint: v.Address.String(), Workload: v.Workload, Outcome: v.Outcome, Status: v.Status, Reused: v.Reused,
			Began: milliseconds(v.Began), Secured: milliseconds(v.Secured), Sent: milliseconds(v.Sent), Ended: milliseconds(v.Ended)})
	}
	for _, e := range s.endpoints[:min(s.known, MaxEndpoints)] {
		t.Endpoints = append(t.Endpoints, ToldEndpoint{e.Address.String(), e.Workload, e.State})
	}
	return t
}

// Query says which stories are wanted.
type Query struct {
	// ID is a story's id, a peer's id or an x-request-id; empty wants the last
	// ones.
	ID string
	// Service narrows the last ones to a service, "cart.default" or with a port.
	Service string
	// Last bounds how many there are; 0 is 20.
	Last int
}

// MaxLast bounds Query.Last.
const MaxLast = 500

const defaultLast = 20

// matches reports whether a story is wanted.
func (q *Query) matches(s *Story) bool {
	if q.ID != "" {
		id, ok := ParseID([]byte(q.ID))
		return ok && (s.ID == id || s.Peer == id) || s.Request.Is(q.ID)
	}
	return q.Service == "" || s.Service == q.Service || strings.HasPrefix(s.Service, q.Service+":")
}

// Ask returns what is wanted of some books, the latest first.
func Ask(books []*Book, q Query) []Told {
	if q.Last <= 0 {
		q.Last = defaultLast
	}
	var found []*Told
	for _, b := range books {
		b.Find(q.matches, func(s *Story) { t := s.Tell(); found = append(found, &t) })
	}
	slices.SortFunc(found, func(a, b *Told) int {
		if c := b.At.Compare(a.At); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	out := []Told{}
	for _, t := range found[:min(len(found), q.Last, MaxLast)] {
		out = append(out, *t)
	}
	return out
}
