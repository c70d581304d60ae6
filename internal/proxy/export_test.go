package proxy

import "tulle.dev/tulle/internal/proxy/live"

// Follow makes the proxy follow a table, as a change from the control plane does.
func (p *Proxy) Follow(t *live.Table) { p.follow(t) }
