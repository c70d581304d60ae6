package live

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/wire/control"
)

const (
	// probeSoon is the pause between probes of a program that isn't ready,
	// probeReady of one that is.
	probeSoon  = 500 * time.Millisecond
	probeReady = 5 * time.Second
	// probeTimeout bounds one probe.
	probeTimeout = time.Second
)

// probe watches whether the program behind the proxy takes connections on every
// port that it serves, and tells the control plane.
func (l *Live) probe(ctx context.Context) {
	for {
		l.mu.Lock()
		registrations := l.registrations
		l.mu.Unlock()
		detail := ""
		for _, r := range registrations {
			if err := l.probeOne(ctx, r.App); err != nil {
				detail = fmt.Sprintf("%s:%d at %s: %v", r.Service, r.Port, r.App, err)
				break
			}
		}
		if ctx.Err() != nil {
			return
		}
		l.setStatus(func(s *control.Status) { s.Ready, s.Detail = detail == "", detail })
		var again <-chan time.Time // never, with nothing to watch
		switch {
		case detail != "":
			again = time.After(probeSoon)
		case len(registrations) > 0:
			again = time.After(probeReady)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.reprobe:
		case <-again:
		}
	}
}

func (l *Live) probeOne(ctx context.Context, addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return l.config.ProbeApp(ctx, addr)
}

// SetProbe replaces Config.ProbeApp; call it before Run.
func (l *Live) SetProbe(probe func(ctx context.Context, addr netip.AddrPort) error) {
	l.config.ProbeApp = probe
}

func probeTCP(ctx context.Context, addr netip.AddrPort) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	return c.Close()
}
