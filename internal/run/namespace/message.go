package namespace

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

// maxMessage bounds one message between parent and helper, in bytes: arguments
// and environment of the program go through it.
const maxMessage = 4 << 20

// Config says what a namespace is like.
type Config struct {
	// Resolv is the text that /etc/resolv.conf has inside; empty leaves it as it is.
	Resolv string
	// IPv6 routes every IPv6 address, not only the mesh's own: set where the
	// host itself reaches IPv6 addresses.
	IPv6 bool
	// Resolvers are the name servers the program may ask on a loopback address
	// when resolv.conf can't be changed.
	Resolvers []netip.Addr
}

// Program is what to start inside.
type Program struct {
	// Path is the executable, Args what it is told (Args[0] included), Env its
	// environment, Dir its working directory.
	Path string
	Args []string
	Env  []string
	Dir  string
	// ProcessGroup is the group it joins, so that the terminal's signals reach
	// it; 0 makes a group of its own.
	ProcessGroup int
}

// Exit is how a program ended.
type Exit struct {
	// Code is its exit code, -1 when a signal ended it.
	Code int
	// Signal is the signal's number, 0 for none.
	Signal int
}

// UnavailableError says why there can be no namespace here.
type UnavailableError struct {
	Step string // what was tried, such as "make a user namespace"
	Err  error
	Hint string // what would allow it, may be empty
}

// Error says what was tried and what the kernel said.
func (e *UnavailableError) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap returns the kernel's error.
func (e *UnavailableError) Unwrap() error { return e.Err }

// What the program sees as its own address, and whom it asks for names.
var (
	OwnIPv4  = netip.MustParseAddr("192.0.0.2")
	OwnIPv6  = netip.MustParseAddr("fd74:756c:6c65:1::2")
	Resolver = netip.MustParseAddr("192.0.0.1")
)

// message is one packet either way; exactly one field is set.
type message struct {
	// To the helper.
	Setup  *Config  `json:",omitempty"`
	Proxy  bool     `json:",omitempty"` // with one descriptor: an end for sockets.Serve
	Start  *Program `json:",omitempty"`
	Signal int      `json:",omitempty"`
	// From the helper.
	Ready   *Report         `json:",omitempty"`
	Failed  *failed         `json:",omitempty"`
	Started *startedProgram `json:",omitempty"`
	Exited  *Exit           `json:",omitempty"`
}

// Report is what the helper could do.
type Report struct {
	// Families are "IPv4" and, where the kernel has it, "IPv6".
	Families []string
	// Resolv says that resolv.conf leads to the proxy; without it the resolver's
	// own address is redirected.
	Resolv bool
	// Notes are things that work less well than they could.
	Notes []string `json:",omitempty"`
}

type failed struct {
	Step, Error, Hint string
	// Start says that the program couldn't be started; NotFound and Denied say why.
	Start, NotFound, Denied bool `json:",omitempty"`
}

type startedProgram struct{ PID int }

func (m *message) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err == nil && len(b) > maxMessage {
		err = fmt.Errorf("arguments and environment are %d bytes, at most %d fit", len(b), maxMessage)
	}
	return b, err
}

func decode(b []byte) (*message, error) {
	m := new(message)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("message between tulle and its helper: %w", err)
	}
	return m, nil
}

// errEnded is what a call gets when the helper is gone.
var errEnded = errors.New("the helper in the namespace has ended")
