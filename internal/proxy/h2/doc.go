// Package h2 is the engine of one HTTP/2 connection (RFC 9113), as server or
// as client: a state machine that turns bytes into events and calls into bytes.
//
// It is pure: no sockets, no clocks, no goroutines. Whoever owns the socket
// (internal/proxy/l7http, on an event loop) feeds what it read ([Conn.Feed]),
// acts on the [Event] each call returns, and once a turn writes what the
// engine has gathered ([Conn.Flush]), so that everything that became ready in
// one turn leaves in one write. Time is a field of the [Env] that all
// connections of a loop share.
//
// The obligations of the owner, in order:
//
//  1. Init, then Feed until it consumes nothing and returns None; between
//     calls of Feed and after each turn, Poll until it returns None.
//  2. An event's Data and Head's slices are valid until the next Feed; a Head
//     is given back with Env.PutHead.
//  3. Data counts against the peer's windows until Consumed says that it has
//     moved on: that is the back-pressure, and the bound on what is buffered.
//  4. Room says how much may be written on a stream; who writes more makes the
//     engine hold more. A stream whose Room was short gets a Writable event.
//  5. Every stream that was given out is given back once, with Done. One that
//     the peer has reset takes one of its slots until then: that is what makes
//     resets not worth an attacker's while.
//  6. Flush once a turn with the room the socket has, and Unsent when that is
//     known to have left; Tick when Deadline comes.
//
// A message that breaks a rule of RFC 9113, section 8 never reaches the owner:
// the stream is reset, or answered with 431 when it was only too large. What
// an attacker could make grow is bounded by a constant in limits.go, which
// names the attack. Which request goes where is none of its business.
package h2
