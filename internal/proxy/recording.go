package proxy

import (
	"time"

	"tulle.dev/tulle/internal/proxy/guard"
	"tulle.dev/tulle/internal/proxy/record"
)

// recording is what a connection's record needs that nothing else does.
type recording struct {
	began        time.Duration
	reason, text string // why it was refused or ended
	judged       guard.Verdict
	recorded     bool
}

// protocolTCP is that of connections whose bytes nobody looks at.
const protocolTCP = "tcp"

// record tells of a connection that has ended and wasn't HTTP's, to who wants to
// know. One that came and went without a word isn't worth a line.
func (c *incoming) record() {
	pen := c.lane.http.Pen
	if !pen.Wanted() || c.recorded || !c.tcp && c.reason == "" {
		return
	}
	c.recorded = true
	now := c.lane.loop.Now()
	r := record.Record{
		At: c.lane.loop.Wall().Add(c.began - now), Direction: c.about.direction.String(), Listener: c.about.listener,
		Source: c.about.peer, SourceAddress: c.conn.Peer(), Service: c.about.service, Protocol: protocolTCP, GRPC: -1,
		Reason: c.reason, Text: c.text, Decision: c.judged.Decision, AccessRule: c.judged.Rule,
		Total: now - c.began, Received: c.conn.Received, Answered: c.conn.Sent,
	}
	if c.carried != nil {
		key, e, tries, reason := c.carried.Outcome()
		if key != "" {
			r.Service = key
		}
		if e != nil {
			r.Endpoint, r.Workload = e.Address, e.Workload
		}
		if r.Tries = tries; r.Reason == "" {
			r.Reason = reason
		}
	}
	pen.Write(&r, c.lane.loop.Rand.Uint64())
}

// Tap begins to watch the proxy's requests.
func (p *Proxy) Tap(f record.Filter) (*record.Tap, error) { return p.records.Tap(f) }
