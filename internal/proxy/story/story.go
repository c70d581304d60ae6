package story

import (
	"net/netip"
	"strconv"
	"time"
)

// Bounds of a Story.
const (
	// MaxTries and MaxEndpoints bound what is kept of a request's tries and of
	// the endpoints that might have served it.
	MaxTries     = 6
	MaxEndpoints = 8

	maxText = 127 // bytes of a value from outside
)

// Kind is why a story is kept.
type Kind uint8

// The kinds. Failed requests got a 5xx or no whole answer, Refused ones another
// answer of the proxy's own, Slow ones waited long for theirs.
const (
	Failed Kind = iota + 1
	Refused
	Slow
)

// String returns the word that is shown.
func (k Kind) String() string {
	switch k {
	case Failed:
		return "failed"
	case Refused:
		return "refused"
	case Slow:
		return "slow"
	}
	return "unknown"
}

// Text is the beginning of a value from outside.
type Text struct {
	n   uint8
	cut bool
	b   [maxText]byte
}

// Set keeps the beginning of v.
func (t *Text) Set(v []byte) {
	n := copy(t.b[:], v)
	t.n, t.cut = uint8(n), n < len(v)
}

// String returns the value with everything escaped that isn't a printable
// character of ASCII, and "..." where it was cut off.
func (t *Text) String() string {
	s := strconv.QuoteToASCII(string(t.b[:t.n]))
	s = s[1 : len(s)-1]
	if t.cut {
		s += "..."
	}
	return s
}

// Bytes returns what is kept of the value, as it came. It is good until Set.
func (t *Text) Bytes() []byte { return t.b[:t.n] }

// Is reports whether the whole value is v, as it came.
func (t *Text) Is(v string) bool { return !t.cut && string(t.b[:t.n]) == v }

// ID names a story; 0 is none.
type ID uint64

// idDigits is the length of an ID's text.
const idDigits = 16

// AppendID appends id as 16 hexadecimal digits.
func (id ID) AppendID(dst []byte) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[id>>shift&15])
	}
	return dst
}

// String returns the 16 digits, or nothing for none.
func (id ID) String() string {
	if id == 0 {
		return ""
	}
	return string(id.AppendID(nil))
}

// ParseID reads 16 hexadecimal digits; false means that they are something else.
func ParseID(v []byte) (ID, bool) {
	if len(v) != idDigits {
		return 0, false
	}
	var id ID
	for _, c := range v {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		id = id<<4 | ID(c)
	}
	return id, id != 0
}

// TCP is the Method of a connection that isn't HTTP. Its Path is the client's address,
// its Host the name that its TLS asked for.
const TCP = "TCP"

// Story is one request, or connection, as the proxy saw it. Its strings are the proxy's own:
// they come from what it was told, or are constants.
type Story struct {
	ID ID
	// Peer is the story of the proxy that answered, if it told one.
	Peer ID
	Kind Kind
	// At is when the request's head was there.
	At        time.Time
	Direction string
	// Service is the destination's key; Rule, Backend, Policy say what was decided by
	// which object; each may be empty.
	Service, Rule, Backend, Policy string
	// Caller is the client's identity where it has one.
	Caller  string
	Status  int
	Reason  string // Proxy-Status's error, or a word alike
	Text    string // the same in a sentence
	GRPC    bool
	Method  Text
	Host    Text
	Path    Text // without the query
	Request Text // x-request-id
	// Routed, First and Total are times since At: when it was known where to, when
	// the answer began (0: it didn't), when it was over.
	Routed, First, Total time.Duration

	tries     [MaxTries]Try
	tried     int
	endpoints [MaxEndpoints]Endpoint
	known     int
}

// Try is one attempt at an endpoint. Its times are since the story's At.
type Try struct {
	Address  netip.AddrPort
	Workload string
	// Outcome is a word: "answered", a Proxy-Status error, "given_up".
	Outcome string
	Status  int // 0: none came
	// Reused says that it went over a connection that was there already. It Began,
	// the connection was there and TLS began (Secured; 0: not for this try), the
	// request was Sent, it Ended.
	Reused                      bool
	Began, Secured, Sent, Ended time.Duration
}

// Endpoint is one that was there to be chosen.
type Endpoint struct {
	Address  netip.AddrPort
	Workload string
	// State is a word: "tried", "ejected", "suspect", "other_zone", "not_chosen".
	State string
}

// SetTries keeps the first tries of n in all.
func (s *Story) SetTries(list []Try, n int) {
	copy(s.tries[:], list)
	s.tried = n
}

// AddEndpoint keeps an endpoint; those over the bound are only counted.
func (s *Story) AddEndpoint(e Endpoint) {
	if s.known < MaxEndpoints {
		s.endpoints[s.known] = e
	}
	s.known++
}
