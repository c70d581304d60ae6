package proxy

import "tulle.dev/tulle/internal/proxy/live"

// Follow makes the proxy follow a table, as a change from the control plane does.
func (p *Proxy) Follow(t *live.Table) { p.follow(t) }

// ClientsPerLoop is how many clients' connections each loop serves.
func (p *Proxy) ClientsPerLoop() []int {
	var all []int
	for _, n := range p.lanes {
		all = append(all, int(n.clients.Load()))
	}
	return all
}

// Within says what is held of services' limits; unlike Held it may be asked while
// the proxy runs.
func (p *Proxy) Within() map[string]int {
	held := make(map[string]int)
	p.services.Held(held)
	return held
}

// Kept says what the HTTP of all loops holds, while they run.
func (p *Proxy) Kept() map[string]int {
	held := make(map[string]int)
	for _, n := range p.lanes {
		done := make(chan struct{})
		n.loop.Post(func() {
			n.http.Held(held)
			close(done)
		})
		<-done
	}
	return held
}
