package proxy

import "tulle.dev/tulle/internal/proxy/loop"

// Step is Start for a simulation: it opens the listeners and returns the loops,
// which nobody runs; the caller gives them their turns.
func (p *Proxy) Step() ([]*loop.Loop, error) {
	p.config.Live.OnChange(p.follow)
	var loops []*loop.Loop
	for _, n := range p.lanes {
		loops = append(loops, n.loop)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return loops, p.fault
}

// StepDrain begins to drain, as Drain does once the peers know; the loops then
// end what they have in their turns.
func (p *Proxy) StepDrain() {
	p.draining.Store(true)
	for _, n := range p.lanes {
		n.loop.Post(func() { n.drain(HandshakeSettle) })
	}
}
