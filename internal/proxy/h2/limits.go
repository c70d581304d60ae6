package h2

import (
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// Every bound of the engine, each with the attack that it answers. A test in
// attack_test.go goes with each. "Calm" below means that the connection is
// ended by a GOAWAY with ENHANCE_YOUR_CALM.
const (
	// Field blocks.

	// MaxBlock bounds a compressed field block in bytes, and MaxContinuations
	// the frames that carry it after the first; beyond either: calm.
	// CONTINUATION flood: VU#421644, CVE-2023-45288, CVE-2024-27316.
	MaxBlock         = 64 << 10
	MaxContinuations = 64
	// MaxHeadTime is how long a field block may take to arrive whole. Slowloris.
	MaxHeadTime = 10 * time.Second
	// MaxFields bounds the fields of one message, cookie crumbs apart;
	// MaxCrumbs those, and MaxCookie the bytes of the Cookie field they are
	// joined into; MaxList all of it as RFC 9113, 6.5.2 counts: 32 bytes more
	// for each field than its strings. Beyond any: 431, or a reset stream.
	// HPACK bomb: CVE-2016-6581; HTTP/2 Bomb: CVE-2026-49975, CVE-2026-47774.
	MaxFields = 256
	MaxCrumbs = 256
	MaxCookie = 16 << 10
	MaxList   = 64 << 10
	// MaxHeldHeads bounds the memory of the heads that one connection's
	// streams hold, in bytes, whatever they cost the peer to send; beyond it
	// new streams are refused. HTTP/2 Bomb: the memory was pinned by a closed
	// window, so what counts is what is held, not what was sent.
	MaxHeldHeads = 4 << 20
	// MaxInterim bounds the interim (1xx) responses before the final one.
	MaxInterim = 64

	// Streams.

	// MaxEarlyResets is how many streams may end early within ResetPeriod
	// (reset by the peer before they were answered, or by us for the peer's
	// errors, or refused), if these are more than half of those it opened:
	// calm. Of a client that is Trusted only what is an error counts. Rapid Reset:
	// CVE-2023-44487, CVE-2023-39325, CVE-2019-9514; MadeYouReset: CVE-2025-8671.
	MaxEarlyResets = 100
	ResetPeriod    = 10 * time.Second

	// Frames that cost the peer nothing and us something.

	// MaxUnsentAcks is how many acknowledgements may wait in the output; the
	// connection isn't read while there are more. Ping and settings floods:
	// CVE-2019-9512, CVE-2019-9515.
	MaxUnsentAcks = 64
	// MaxIdlePings bounds the PINGs within FloodPeriod that came without a
	// frame of a stream between them, MaxSettings the SETTINGS frames: calm.
	MaxIdlePings = 100
	MaxSettings  = 100
	FloodPeriod  = time.Minute
	// MaxEmptyFrames bounds DATA, HEADERS and CONTINUATION frames in a row that
	// carry nothing and end nothing: calm. CVE-2019-9518.
	MaxEmptyFrames = 16
	// PRIORITY frames have no effect; more than MaxPriority for each stream
	// that was opened: calm. Resource loop: CVE-2019-9513.
	MaxPriority = 100
	// WINDOW_UPDATE: at most UpdatesBase, UpdatesPerStream for each stream
	// that was opened and UpdatesPerData for each DATA frame sent: calm.
	// Data dribble: CVE-2019-9511, CVE-2019-9517.
	UpdatesBase      = 64
	UpdatesPerStream = 4
	UpdatesPerData   = 20
	// MaxUnknown bounds frames of unknown types within FloodPeriod: calm.
	MaxUnknown = 1000

	// Stalls.

	// A stream with bytes to send that a window keeps from moving by at least
	// StallBytes within StallTime is reset; when the connection's window, or a
	// socket that is not read, keeps all from moving for so long, it is closed. Zero windows hold what they stall:
	// CVE-2019-9511, CVE-2019-9517, CVE-2026-49975.
	StallTime  = 30 * time.Second
	StallBytes = 30 << 10
	// SettingsTime is how long the peer may take to acknowledge our SETTINGS,
	// and to send its own.
	SettingsTime = 10 * time.Second

	// Output.

	// MaxOutput is how many bytes the engine gathers in one turn at most:
	// bodies wait in their streams beyond that. CVE-2019-9517.
	MaxOutput = 64 << 10
	// maxOutputHard ends the connection: it can only be reached by what is
	// sent without asking for room (heads, resets, acknowledgements) while
	// the peer reads nothing.
	maxOutputHard = 256 << 10
)

// What fairness and memory are made of; not defences.
const (
	// quantum is how much one stream may send before it is another's turn, and
	// the largest DATA frame: with its header it fills a record of TLS.
	quantum = 16<<10 - wire.HeaderLen
	// SendBuffer is how much may wait in one stream to be sent before Room
	// says none.
	SendBuffer = 64 << 10
	// drainWait is how long the true last stream of a graceful GOAWAY waits
	// for the peer to have seen the first.
	drainWait = time.Second
	// assumedStreams is how many streams a client opens before it has seen
	// the server's SETTINGS.
	assumedStreams = 100
)
