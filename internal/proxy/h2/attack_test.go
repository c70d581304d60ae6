package h2

import (
	"fmt"
	"strings"
	"testing"
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// calmed says whether the connection was ended with ENHANCE_YOUR_CALM.
func calmed(r *rig) bool {
	return strings.Contains(strings.Join(r.log, "\n"), "ENHANCE_YOUR_CALM") && r.c.Err() != nil
}

// Rapid Reset: CVE-2023-44487, CVE-2023-39325, CVE-2019-9514. A slot stays
// taken until the work has stopped, and many early resets end the connection.
func TestRapidReset(t *testing.T) {
	r := newRig(t, true)
	for id := uint32(1); id < 2*11; id += 2 {
		r.get(id)
		r.in = wire.AppendRSTStream(r.in, id, wire.Cancel)
	}
	r.get(101)
	r.turn()
	if n := r.c.Streams(); n != 10 {
		t.Fatalf("%d slots, though nothing was given back", n)
	}
	if got := strings.Join(r.log, "\n"); !strings.Contains(got, "> RST_STREAM 101 REFUSED_STREAM") {
		t.Fatal(got)
	}

	r = newRig(t, true)
	for i := 0; !calmed(r); i++ {
		if i > MaxEarlyResets {
			t.Fatal("no end")
		}
		id := uint32(2*i + 1)
		r.get(id)
		r.in = wire.AppendRSTStream(r.in, id, wire.Cancel)
		r.turn()
		r.c.Done(r.streams[id])
	}

	// Between proxies they are the resets of many clients.
	cfg := testConfig(true)
	cfg.Trusted = true
	r = newRigConfig(t, cfg)
	for i := range 10 * MaxEarlyResets {
		id := uint32(2*i + 1)
		r.get(id)
		r.in = wire.AppendRSTStream(r.in, id, wire.Cancel)
		r.turn()
		r.c.Done(r.streams[id])
	}
	if r.c.Err() != nil {
		t.Fatal(r.c.Err())
	}

	// A client that cancels much, but less than half of what it asks, goes on;
	// and so does one that takes its time.
	r = newRig(t, true)
	for i := range 10 * MaxEarlyResets {
		id := uint32(2*i + 1)
		r.get(id)
		r.turn()
		if i%5 < 2 {
			r.in = wire.AppendRSTStream(r.in, id, wire.Cancel)
			r.turn()
		} else {
			r.respond(id, 200, "")
		}
		r.c.Done(r.streams[id])
	}
	for i := range 3 * MaxEarlyResets {
		id := uint32(2*i + 20001)
		r.get(id)
		r.in = wire.AppendRSTStream(r.in, id, wire.Cancel)
		r.env.Now += ResetPeriod / (MaxEarlyResets - 5)
		r.turn()
		r.c.Done(r.streams[id])
	}
	if r.c.Err() != nil {
		t.Fatal(r.c.Err())
	}
}

// MadeYouReset: CVE-2025-8671. Frames that make us reset count as resets.
func TestMadeYouReset(t *testing.T) {
	for name, provoke := range map[string]func(r *rig, id uint32){
		"window of 0":   func(r *rig, id uint32) { r.frame(wire.WindowUpdate, 0, id, "\x00\x00\x00\x00") },
		"window beyond": func(r *rig, id uint32) { r.in = wire.AppendWindowUpdate(r.in, id, wire.MaxWindow) },
		"data at end":   func(r *rig, id uint32) { r.data(id, true, "x") },
		"priority":      func(r *rig, id uint32) { r.frame(wire.Priority, 0, id, "\x00") },
		"self":          func(r *rig, id uint32) { r.in = append(r.in, selfPriority(id)...) },
		"headers":       func(r *rig, id uint32) { r.headers(id, true, "x: y") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true)
			for i := 0; !calmed(r); i++ {
				if i > MaxEarlyResets {
					t.Fatal("no end")
				}
				id := uint32(2*i + 1)
				r.get(id)
				r.turn()
				provoke(r, id)
				r.turn()
				r.c.Done(r.streams[id])
			}
		})
	}
	t.Run("malformed", func(t *testing.T) {
		r := newRig(t, true)
		for i := 0; !calmed(r); i++ {
			if i > MaxEarlyResets {
				t.Fatal("no end")
			}
			r.headers(uint32(2*i+1), true, "no: pseudo")
			r.turn()
		}
	})
	t.Run("too large", func(t *testing.T) {
		r := newRig(t, true)
		for i := 0; !calmed(r); i++ {
			if i > MaxEarlyResets {
				t.Fatal("no end")
			}
			var f []string
			for range MaxFields + 1 {
				f = append(f, "a: b")
			}
			r.headers(uint32(2*i+1), true, f...)
			r.turn()
		}
	})
}

func selfPriority(id uint32) []byte {
	b := wire.AppendHeader(nil, wire.Header{Length: 5, Type: wire.Priority, Stream: id})
	return append(b, byte(id>>24), byte(id>>16), byte(id>>8), byte(id), 0)
}

// CONTINUATION flood: VU#421644, CVE-2023-45288, CVE-2024-27316.
func TestContinuationFlood(t *testing.T) {
	r := newRig(t, true)
	r.frame(wire.Headers, 0, 1, "\x82")
	for range MaxContinuations {
		r.frame(wire.Continuation, 0, 1, "\x82")
	}
	r.turn()
	if r.c.Err() != nil {
		t.Fatal(r.c.Err())
	}
	r.frame(wire.Continuation, 0, 1, "\x82")
	if r.turn(); !calmed(r) {
		t.Error("too many frames: ", r.log)
	}

	r = newRig(t, true)
	r.frame(wire.Headers, 0, 1, "\x82")
	for range 5 {
		r.frame(wire.Continuation, 0, 1, strings.Repeat("\x82", wire.MinMaxFrameSize))
	}
	if r.turn(); !calmed(r) {
		t.Error("too long: ", r.log)
	}

	r = newRig(t, true)
	r.frame(wire.Headers, 0, 1, "\x82")
	r.turn()
	if r.c.Deadline() != r.env.Now+MaxHeadTime {
		t.Error("no deadline for the block")
	}
	r.env.Now += MaxHeadTime
	r.c.Tick()
	if r.rest(); !calmed(r) {
		t.Error("too slow: ", r.log)
	}
}

// HPACK bomb: CVE-2016-6581. HTTP/2 Bomb: CVE-2026-49975, CVE-2026-47774.
func TestHeaderBomb(t *testing.T) {
	base := []string{":method: GET", ":scheme: http", ":path: /", ":authority: a"}
	for _, c := range []struct {
		name string
		more func() []string
		ok   bool
	}{
		{"fields at the limit", func() (f []string) { return repeat(MaxFields, "a: b") }, true},
		{"fields", func() []string { return repeat(MaxFields+1, "a: b") }, false},
		{"crumbs at the limit", func() []string { return repeat(MaxCrumbs, "cookie: a") }, true},
		{"crumbs", func() []string { return repeat(MaxCrumbs+1, "cookie: a") }, false},
		{"empty crumbs", func() []string { return repeat(5000, "cookie: ") }, false},
		{"long cookie", func() []string { return repeat(5, "cookie: "+strings.Repeat("x", 4000)) }, false},
		{"long list", func() []string { return repeat(33, "a: "+strings.Repeat("x", 2000)) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			r.headers(1, true, append(append([]string{}, base...), c.more()...)...)
			r.get(3)
			got := r.turn()
			if ok := strings.HasPrefix(got[0], "request 1 "); ok != c.ok {
				t.Fatal(got)
			}
			if !c.ok {
				expect(t, got, "request 3 GET http://a/ end", "> HEADERS 1 :status=431 end")
			}
		})
	}
	// One indexed field of 4 KB costs the peer a byte each time.
	r := newRig(t, true)
	big := strings.Repeat("x", 3900)
	block := r.block(base...)
	block = append(block, 0x40, 1, 'a')
	block = append(append(block, 0x7f, 0xbd, 0x1d), big...) // 3900
	block = append(block, strings.Repeat("\xbe", 10000)...)
	r.in = wire.AppendHeaders(r.in, 1, true, block, wire.MinMaxFrameSize)
	expect(t, r.turn(), "> HEADERS 1 :status=431 end")
}

func repeat(n int, s string) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}

// HTTP/2 Bomb again: what is held counts, whatever it cost to send.
func TestHeldHeads(t *testing.T) {
	cfg := testConfig(true)
	cfg.MaxStreams, cfg.MaxHeldHeads = 1000, 1<<20
	r := newRigConfig(t, cfg)
	// The owner keeps the heads.
	refused := 0
	for id := uint32(1); id < 200; id += 2 {
		r.headers(id, true, ":method: GET", ":scheme: http", ":path: /", ":authority: a", "a: "+strings.Repeat("x", 30000))
		for {
			n, ev := r.c.Feed(r.in)
			r.in = r.in[n:]
			if n == 0 && ev.Kind == None {
				break
			}
		}
		if b := r.c.Flush(MaxOutput); len(b) > 0 {
			refused++
		}
		r.c.Flushed()
		r.c.Unsent(0)
		if r.c.heldHeads > cfg.MaxHeldHeads+MaxList {
			t.Fatal(r.c.heldHeads)
		}
	}
	if refused < 50 || r.c.Err() != nil {
		t.Fatalf("%d refused, %v", refused, r.c.Err())
	}
}

// Ping and settings floods: CVE-2019-9512, CVE-2019-9515.
func TestFloods(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit int
		send  func(r *rig)
	}{
		{"ping", MaxIdlePings, func(r *rig) { r.frame(wire.Ping, 0, 0, "12345678") }},
		{"settings", MaxSettings, func(r *rig) { r.in = wire.AppendSettings(r.in) }},
		{"unknown", MaxUnknown, func(r *rig) { r.frame(0x99, 0, 0, "") }},
		{"priority", MaxPriority, func(r *rig) { r.frame(wire.Priority, 0, 7, "\x00\x00\x00\x01\x10") }},           // CVE-2019-9513
		{"window", UpdatesBase + 1, func(r *rig) { r.in = wire.AppendWindowUpdate(r.in, 0, 1) }},                   // CVE-2019-9511, 9517
		{"empty data", MaxEmptyFrames + 1, func(r *rig) { r.data(1, false, "") }},                                  // CVE-2019-9518
		{"padded empty data", MaxEmptyFrames + 1, func(r *rig) { r.frame(wire.Data, wire.FlagPadded, 1, "\x00") }}, // CVE-2019-9518
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			if strings.Contains(c.name, "data") {
				r.post(1)
			}
			r.turn()
			for i := range c.limit - 1 {
				c.send(r)
				if r.turn(); r.c.Err() != nil {
					t.Fatalf("after %d: %v", i, r.c.Err())
				}
			}
			for range 3 {
				c.send(r)
				r.turn()
				if calmed(r) {
					return
				}
			}
			t.Error("no end")
		})
	}
	// Spread over time, or beside work, they are fine.
	r := newRig(t, true)
	for i := range 3 * MaxIdlePings {
		r.frame(wire.Ping, 0, 0, "12345678")
		r.in = wire.AppendSettings(r.in)
		r.env.Now += FloodPeriod / 50
		if i%3 == 0 {
			id := uint32(2*i + 1)
			r.get(id)
			r.turn()
			r.respond(id, 200, "")
			r.c.Done(r.streams[id])
		}
		r.turn()
	}
	if r.c.Err() != nil {
		t.Error(r.c.Err())
	}
}

// Answers that the peer doesn't take stop the reading, and end the connection.
func TestUnsentAcks(t *testing.T) {
	r := newRig(t, true)
	for range 2 * MaxUnsentAcks {
		r.post(1001)
		r.in = r.in[:0]
		r.frame(wire.Ping, 0, 0, "12345678")
	}
	r.in = nil
	for range MaxUnsentAcks + 20 {
		r.frame(wire.Ping, 0, 0, "12345678")
	}
	n := 0
	for {
		k, _ := r.c.Feed(r.in[n:])
		if k == 0 {
			break
		}
		n += k
	}
	if !r.c.Blocked() || n != (MaxUnsentAcks+1)*17 {
		t.Fatalf("blocked %t, took %d", r.c.Blocked(), n)
	}
	r.c.Flush(MaxOutput)
	r.c.Flushed()
	r.c.Unsent(100)
	if !r.c.Blocked() {
		t.Error("reads while the answers haven't left")
	}
	r.c.Flush(MaxOutput)
	r.c.Flushed()
	r.c.Unsent(0)
	if r.c.Blocked() {
		t.Error("blocked though the answers have left")
	}
	r.c.Flushed()
	r.c.Unsent(maxOutputHard + 1)
	if r.c.Err() == nil {
		t.Error("output without bound")
	}
}

// A window that never opens holds what it stalls: CVE-2019-9511, CVE-2019-9517,
// CVE-2026-49975. The stream is reset; a connection that moves nothing is over.
func TestStalls(t *testing.T) {
	setup := func() *rig {
		r := newRig(t, true)
		r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.InitialWindowSize, Value: 10})
		r.get(1)
		r.get(3)
		r.turn()
		r.respond(1, 200, strings.Repeat("x", 1000))
		r.respond(3, 200, strings.Repeat("y", 1<<20))
		r.turn()
		return r
	}
	r := setup()
	for now := time.Duration(0); now < StallTime; now += time.Second {
		r.env.Now += time.Second
		r.in = wire.AppendWindowUpdate(r.in, 3, StallBytes/20)
		r.c.Tick()
		r.turn()
	}
	if got := strings.Join(r.log, "\n"); r.c.Err() != nil || !strings.Contains(got, "RST_STREAM 1 CANCEL") || strings.Contains(got, "RST_STREAM 3") {
		t.Fatal(r.c.Err(), got)
	}

	r = setup()
	if d := r.c.Deadline(); d != r.env.Now+StallTime {
		t.Fatalf("deadline %v", d-r.env.Now)
	}
	r.env.Now += StallTime
	r.c.Tick()
	r.log = nil
	expect(t, r.rest(), "reset 1 CANCEL", "reset 3 CANCEL", "> RST_STREAM 1 CANCEL", "> RST_STREAM 3 CANCEL")

	// What holds up all is the connection's end.
	r = newRig(t, true)
	for id := uint32(1); id < 6; id += 2 {
		r.get(id)
		r.turn()
		r.respond(id, 200, strings.Repeat("x", 60000))
		r.turn()
	}
	r.env.Now += StallTime
	r.c.Tick()
	if r.rest(); !calmed(r) {
		t.Error("nothing moves: ", r.log)
	}

	// Long after a stall that ended, another one begins from its own time.
	r = setup()
	r.in = wire.AppendRSTStream(r.in, 1, wire.Cancel)
	r.in = wire.AppendRSTStream(r.in, 3, wire.Cancel)
	r.turn()
	r.env.Now += time.Hour
	r.get(5)
	r.turn()
	r.respond(5, 200, strings.Repeat("x", 1000))
	r.turn()
	r.c.Tick()
	if r.c.Err() != nil || r.c.Deadline() != r.env.Now+StallTime {
		t.Error(r.c.Err(), r.c.Deadline()-r.env.Now)
	}
}

// A server that answers with interim responses for ever.
func TestInterimFlood(t *testing.T) {
	r := newRig(t, false)
	r.open("GET", true)
	for range MaxInterim + 1 {
		r.headers(1, false, ":status: 103")
	}
	got := r.turn()
	if got[len(got)-1] != "> RST_STREAM 1 PROTOCOL_ERROR" {
		t.Error(got)
	}
}

func TestSettingsTimeout(t *testing.T) {
	r := bareRig(t, testConfig(true))
	r.rest()
	r.env.Now += SettingsTime
	if r.c.Deadline() > r.env.Now {
		t.Fatal(r.c.Deadline())
	}
	r.c.Tick()
	r.log = nil
	if got := r.rest(); len(got) != 2 || !strings.Contains(got[1], "SETTINGS_TIMEOUT") {
		t.Error(got)
	}
}

func TestKeepAlive(t *testing.T) {
	cfg := testConfig(false)
	cfg.PingAfter, cfg.PingTime, cfg.IdleTime = time.Minute, 20*time.Second, 5*time.Minute
	r := newRigConfig(t, cfg)
	if d := r.c.Deadline(); d != r.env.Now+cfg.IdleTime {
		t.Fatal("no streams: no PING, ", d-r.env.Now)
	}
	s := r.open("GET", true)
	r.turn()
	r.env.Now += cfg.PingAfter
	r.c.Tick()
	expect(t, r.turn(), "> PING alive ack=false")
	r.frame(wire.Ping, wire.FlagAck, 0, "alive\x00\x00\x00")
	r.turn()
	r.env.Now += cfg.PingAfter
	r.c.Tick()
	expect(t, r.turn(), "> PING alive ack=false")
	r.env.Now += cfg.PingTime
	r.c.Tick()
	if got := strings.Join(r.turn(), "\n"); !strings.Contains(got, "reset 1 ") || r.c.Err() == nil {
		t.Error(got)
	}
	r.c.Done(s)

	r = newRigConfig(t, cfg)
	r.env.Now += cfg.IdleTime
	r.c.Tick()
	expect(t, r.turn(), "closed <nil>", "> GOAWAY 0 NO_ERROR ")
}

// Unknown frame types, all of them, with any flags: ignored (CVE-2026-27141).
func TestUnknownTypes(t *testing.T) {
	r := newRig(t, true)
	for typ := 10; typ < 256; typ++ {
		r.frame(wire.Type(typ), wire.Flags(typ*7), uint32(typ%4), fmt.Sprint(typ))
	}
	expect(t, r.turn())
}
