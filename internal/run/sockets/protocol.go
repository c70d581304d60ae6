package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Kind is what a requested socket is for.
type Kind uint8

const (
	// Capture is a listening TCP socket where redirected connections arrive;
	// SO_ORIGINAL_DST on an accepted one says where the program meant to go.
	// Several listen side by side (SO_REUSEPORT), one a loop.
	Capture Kind = iota + 1
	// NamesTCP is a listening TCP socket where DNS over TCP arrives.
	NamesTCP
	// NamesUDP is a bound UDP socket where DNS queries arrive; an answer goes
	// back to the query's source address.
	NamesUDP
	// Dial is an unconnected TCP socket: connect it to the program's own
	// loopback address.
	Dial
	// Families asks for no socket: only the answer's families count.
	Families
)

// Family is an IP version.
type Family uint8

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Where the helper binds the sockets it makes, inside the namespace. The
// redirection leads to these ports.
const (
	CapturePort = 15001
	NamesPort   = 15053
)

// MaxBatch is the most descriptors one answer carries (the kernel's own limit,
// SCM_MAX_FD, is 253).
const MaxBatch = 64

// Backlog is the queue of each listening socket.
const Backlog = 1024

const (
	protocolVersion = 1
	requestSize     = 8
	answerSize      = 8
	maxText         = 512
	bitIPv4         = 1
	bitIPv6         = 2
	statusOK        = 0
	statusFailed    = 1
)

// Address returns where sockets of this kind are bound for a family; the zero
// AddrPort for kinds that aren't bound.
func (k Kind) Address(f Family) netip.AddrPort {
	ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if f == IPv6 {
		ip = netip.IPv6Loopback()
	}
	switch k {
	case Capture:
		return netip.AddrPortFrom(ip, CapturePort)
	case NamesTCP, NamesUDP:
		return netip.AddrPortFrom(ip, NamesPort)
	}
	return netip.AddrPort{}
}

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case Capture:
		return "capture"
	case NamesTCP:
		return "names-tcp"
	case NamesUDP:
		return "names-udp"
	case Dial:
		return "dial"
	case Families:
		return "families"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

type request struct {
	kind   Kind
	family Family
	count  int
	id     uint32
}

func (r request) append(b []byte) []byte {
	b = append(b, protocolVersion, byte(r.kind), byte(r.family), byte(r.count))
	return binary.BigEndian.AppendUint32(b, r.id)
}

func parseRequest(b []byte) (request, error) {
	if len(b) != requestSize {
		return request{}, fmt.Errorf("sockets request: %d bytes, want %d", len(b), requestSize)
	}
	if b[0] != protocolVersion {
		return request{}, fmt.Errorf("sockets request: version %d, want %d", b[0], protocolVersion)
	}
	r := request{kind: Kind(b[1]), family: Family(b[2]), count: int(b[3]), id: binary.BigEndian.Uint32(b[4:])}
	if r.kind < Capture || r.kind > Families {
		return request{}, fmt.Errorf("sockets request: kind %d is unknown", b[1])
	}
	if r.kind == Families {
		return r, nil
	}
	if r.family != IPv4 && r.family != IPv6 {
		return request{}, fmt.Errorf("sockets request: family %d, want 4 or 6", b[2])
	}
	if r.count < 1 || r.count > MaxBatch {
		return request{}, fmt.Errorf("sockets request: count %d, want 1 to %d", r.count, MaxBatch)
	}
	return r, nil
}

type answer struct {
	status   uint8
	count    int
	families uint8
	id       uint32
	text     string
}

func (a answer) append(b []byte) []byte {
	b = append(b, protocolVersion, a.status, byte(a.count), a.families)
	b = binary.BigEndian.AppendUint32(b, a.id)
	return append(b, a.text[:min(len(a.text), maxText)]...)
}

func parseAnswer(b []byte) (answer, error) {
	if len(b) < answerSize || len(b) > answerSize+maxText {
		return answer{}, fmt.Errorf("sockets answer: %d bytes, want %d to %d", len(b), answerSize, answerSize+maxText)
	}
	if b[0] != protocolVersion {
		return answer{}, fmt.Errorf("sockets answer: version %d, want %d", b[0], protocolVersion)
	}
	a := answer{status: b[1], count: int(b[2]), families: b[3], id: binary.BigEndian.Uint32(b[4:]), text: string(b[answerSize:])}
	if a.count > MaxBatch {
		return answer{}, fmt.Errorf("sockets answer: count %d, want at most %d", a.count, MaxBatch)
	}
	if a.status != statusOK && a.count != 0 {
		return answer{}, errors.New("sockets answer: a failure that counts sockets")
	}
	return a, nil
}
