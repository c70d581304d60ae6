package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"tulle.dev/tulle/internal/proxy/handover"
	"tulle.dev/tulle/internal/proxy/names"
)

// errSucceeded ends what a successor goes on with.
var errSucceeded = errors.New("another process has taken over")

// inheritedNames opens names listeners with the sockets of the proxy whose place
// is taken, and those that it didn't have as otherwise (nil: as names does).
func inheritedNames(taken *handover.Taken, otherwise names.Open) names.Open {
	if otherwise == nil {
		otherwise = names.OpenSockets
	}
	return func(at netip.AddrPort) (net.PacketConn, net.Listener, error) {
		if udp, tcp, ok := taken.Names(at); ok {
			return udp, tcp, nil
		}
		return otherwise(at)
	}
}

// awaitHeir serves a successor; leave is called when it has taken over. What it
// returns must be closed.
func (r *program) awaitHeir(leave func()) interface{ Close() } {
	path := r.f.handOverPath()
	if path == "" {
		return nobody{}
	}
	s, err := handover.Listen(path, handover.Config{Offer: r.offer, Leave: leave, Log: r.log})
	if err != nil {
		if !errors.Is(err, syscall.EPROTONOSUPPORT) { // an operating system without it
			r.log.Warn("no other process can take over", "error", err)
		}
		return nobody{}
	}
	return s
}

type nobody struct{}

func (nobody) Close() {}

// nameless bounds how long a successor lets DNS queries wait, while it isn't
// connected to the control plane and would deny names that it doesn't know yet.
const nameless = 2 * time.Second

// followNames opens a successor's names listeners once it can ask about names.
// Until then queries wait in the sockets.
func (r *program) followNames(ctx context.Context) {
	if r.f.controlPlane != "" {
		ctx, cancel := context.WithTimeout(ctx, nameless)
		defer cancel()
		look := time.NewTicker(nameless / 200)
		defer look.Stop()
		for !r.told.Link().Connected && ctx.Err() == nil {
			select {
			case <-look.C:
			case <-ctx.Done():
			}
		}
	}
	r.told.OnChange(r.names.Follow)
	r.taken.Offer.Close() // what nobody wants any more
}

// offer is what a successor gets.
func (r *program) offer() (*handover.Offer, error) {
	if r.f.ephemeralKey {
		return nil, errors.New("its key is in memory only (--ephemeral-key)")
	}
	if err := r.told.Save(); err != nil { // the successor starts from it
		return nil, err
	}
	sockets, err := r.proxy.Sockets()
	if err != nil {
		return nil, err
	}
	o := &handover.Offer{UID: r.uid, Loops: uint16(r.loops), Sockets: sockets}
	more, err := r.names.Sockets()
	if err != nil {
		o.Close()
		return nil, err
	}
	o.Sockets = append(o.Sockets, more...)
	return o, nil
}
