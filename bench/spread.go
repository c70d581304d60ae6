//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// spreadPeers is how many inbound proxies one outbound proxy spreads requests
// over.
const spreadPeers = 20

// spread is the multiplexed pair with many inbound proxies, each a process of
// its own: few exchanges share a connection.
func (r *rig) spread(ctx context.Context) error {
	var hops []*hop
	defer func() { stopAll(hops) }()
	for _, name := range r.peers("haproxy", "tulle") {
		h, err := r.star(ctx, name)
		if h != nil {
			hops = append(hops, h)
		}
		if err != nil {
			return fmt.Errorf("%s with %d peers: %w", name, spreadPeers, err)
		}
	}
	all, err := r.turns(ctx, hops, atRate(0), 0, r.length)
	if err != nil {
		return err
	}
	for _, s := range all { // one figure for each of the inbound ones says little
		memory := strings.Split(s.memory, " / ")
		s.memory = fmt.Sprintf("%s / %d x %s", memory[0], spreadPeers, memory[1])
	}
	r.show(fmt.Sprintf("1 to %d, mutual TLS 1.3 and HTTP/2 between (CPU of all)", spreadPeers), all)
	r.compare("http1-spread-multiplexed", all, limitMultiplexed)
	return nil
}

// star starts one outbound proxy and its peers. What it returns is to be
// stopped, also beside an error.
func (r *rig) star(ctx context.Context, name string) (*hop, error) {
	ports, err := freePorts(1 + spreadPeers)
	if err != nil {
		return nil, err
	}
	h := &hop{name: name, address: local(ports[0])}
	start := func(p *process, err error) error {
		if err == nil {
			h.procs = append(h.procs, p)
		}
		return err
	}
	ids, inbound := r.identities(), ports[1:]
	switch name {
	case "haproxy":
		var servers []string
		for i, at := range inbound {
			servers = append(servers, fmt.Sprintf("server s%d %s ssl crt %s ca-file %s verify required alpn h2", i, local(at), filepath.Join(ids, "web-both.pem"), filepath.Join(ids, "bundle.pem")))
		}
		// The first one is on the line that haproxy() writes.
		first := strings.TrimPrefix(servers[0], "server s0 ")
		if err := start(r.haproxy("haproxy-out", h.address, first+"\n  "+strings.Join(servers[1:], "\n  "))); err != nil {
			return h, err
		}
		for i, at := range inbound {
			bind := fmt.Sprintf("%s ssl crt %s ca-file %s verify required curves X25519 alpn h2,http/1.1", local(at), filepath.Join(ids, "cart-both.pem"), filepath.Join(ids, "bundle.pem"))
			if err := start(r.haproxy(fmt.Sprintf("haproxy-in%d", i), bind, r.address)); err != nil {
				return h, err
			}
		}
	case "tulle":
		mesh, err := r.file("spread/mesh.yaml", starMesh(ports[0], inbound, port(r.address)))
		if err != nil {
			return h, err
		}
		for i := -1; i < len(inbound); i++ {
			proxy := "web"
			if i >= 0 {
				proxy = fmt.Sprintf("cart%d", i)
			}
			state, err := r.view(mesh, proxy, ids)
			if err != nil {
				return h, err
			}
			if err := start(r.tulleProxy("tulle-"+proxy, state)); err != nil {
				return h, err
			}
		}
	default:
		return nil, errors.New("no star of " + name)
	}
	for i, p := range h.procs {
		if err := p.wait(ctx, local(ports[i])); err != nil {
			return h, err
		}
	}
	return h, nil
}

// starMesh is pairMesh with many workloads behind the service.
func starMesh(outbound int, inbound []int, app int) string {
	parts := strings.Split(pairMesh, "---\n")
	service, cart, web, mesh := parts[0], parts[1], parts[2], parts[3]
	all := []string{fmt.Sprintf(service, "http"), fmt.Sprintf(web, outbound), fmt.Sprintf(mesh, multiplexed.tulle)}
	for i, at := range inbound {
		one := fmt.Sprintf(cart, app, at)
		all = append(all, strings.Replace(one, "name: cart,", fmt.Sprintf("name: cart%d,", i), 1))
	}
	return strings.Join(all, "---\n")
}
