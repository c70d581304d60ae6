package h2

import (
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// guard counts what an attacker would do much of; the limits are in limits.go.
type guard struct {
	unsentAcks int

	period  time.Duration // when the reset period began
	opens   int           // streams the peer opened in it
	earlies int           // streams that ended early in it

	flood     time.Duration // when the flood period began
	idlePings int
	changes   int // SETTINGS frames
	unknowns  int

	// Since the connection began.
	streams    int
	data       int // DATA frames sent
	updates    int
	priorities int

	empties int // in a row
}

func calm(reason string) error {
	return wire.ConnectionError{Code: wire.EnhanceYourCalm, Reason: reason}
}

func (g *guard) init(now time.Duration) { g.period, g.flood = now, now }

// opened counts a stream that the peer opened.
func (g *guard) opened(now time.Duration) {
	g.reset(now)
	g.opens++
	g.streams++
}

func (g *guard) reset(now time.Duration) {
	if now-g.period >= ResetPeriod {
		g.period, g.opens, g.earlies = now, 0, 0
	}
}

// early counts a stream that ended before its time.
func (g *guard) early(now time.Duration) error {
	g.reset(now)
	if g.earlies++; g.earlies > MaxEarlyResets && 2*g.earlies > g.opens {
		return calm("too many streams end early")
	}
	return nil
}

func (g *guard) turn(now time.Duration) {
	if now-g.flood >= FloodPeriod {
		g.flood, g.idlePings, g.changes, g.unknowns = now, 0, 0, 0
	}
}

func (g *guard) ping(now time.Duration) error {
	g.turn(now)
	if g.idlePings++; g.idlePings > MaxIdlePings {
		return calm("too many PINGs")
	}
	return nil
}

// stirred notes a frame of a stream: PINGs beside work are measurements.
func (g *guard) stirred() { g.idlePings = 0 }

func (g *guard) settings(now time.Duration) error {
	g.turn(now)
	if g.changes++; g.changes > MaxSettings {
		return calm("too many SETTINGS")
	}
	return nil
}

func (g *guard) unknown(now time.Duration) error {
	g.turn(now)
	if g.unknowns++; g.unknowns > MaxUnknown {
		return calm("too many frames of unknown types")
	}
	return nil
}

func (g *guard) update() error {
	if g.updates++; g.updates > UpdatesBase+UpdatesPerStream*g.streams+UpdatesPerData*g.data {
		return calm("too many WINDOW_UPDATEs")
	}
	return nil
}

func (g *guard) priority() error {
	if g.priorities++; g.priorities > MaxPriority*(1+g.streams) {
		return calm("too many PRIORITY frames")
	}
	return nil
}

// empty counts a frame that carries nothing and ends nothing; filled ends a
// row of them.
func (g *guard) empty() error {
	if g.empties++; g.empties > MaxEmptyFrames {
		return calm("too many empty frames")
	}
	return nil
}

func (g *guard) filled() { g.empties = 0 }
