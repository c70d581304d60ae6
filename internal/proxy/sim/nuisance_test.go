package sim_test

import (
	"net/netip"
	"time"
)

// plantNuisances plans connections of somebody who means no good, or is lost:
// to any listener, with bytes that make no sense there, or none.
func (r *run) plantNuisances() {
	if r.plan.IntN(3) > 0 {
		return
	}
	r.nuisances = true
	var targets []netip.AddrPort
	for _, n := range r.proxies {
		for _, l := range n.view.Proxy.Listeners {
			targets = append(targets, l.Address)
		}
	}
	p := newProgram(r.world, "nuisance", netip.MustParseAddr("10.0.3.1"))
	for range 1 + r.plan.IntN(4) {
		to := targets[r.plan.IntN(len(targets))]
		says := r.nonsense()
		stays := time.Duration(r.plan.IntN(200)) * time.Millisecond
		if r.plan.IntN(3) == 0 {
			stays = time.Minute
		}
		ends, resets := r.plan.IntN(2) == 0, r.plan.IntN(3) == 0
		r.world.After(time.Duration(r.plan.IntN(100))*time.Millisecond, func() {
			c := p.open(must(p.Connect(to)))
			c.onData = func([]byte) {}
			c.onEnd = func(error) { c.close(false) }
			if len(says) > 0 {
				c.write(says)
			}
			if ends {
				c.end()
			}
			r.world.After(stays, func() { c.close(resets) })
		})
	}
}

func (r *run) nonsense() []byte {
	b := [][]byte{
		nil,
		[]byte("GET / HTTP/1.1\r\nHost: "),
		[]byte("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
		[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01"),
		{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3},
		{22, 3, 1, 0, 5, 1, 0, 0, 1, 0},
		content(1, 3000, 9),
		[]byte("SSH-2.0-OpenSSH\r\n"),
	}[r.plan.IntN(9)]
	return b
}
