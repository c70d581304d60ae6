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
	// probeReady of one that is: seldom, since some programs log each
	// connection that says nothing. Suspect makes it sooner.
	probeSoon  = 500 * time.Millisecond
	probeReady = 30 * time.Second
	// probeTimeout bounds one probe.
	probeTimeout = time.Second
)

// probe watches whether the program behind the proxy takes connections on every
// port that it serves, and tells the control plane.
func (l *Live) probe(ctx context.Context) {
	for {
		l.mu.Lock()
		registrations, detail := l.registrations, l.fault
		l.mu.Unlock()
		if detail != "" {
			registrations = nil // Fault wakes when that is over
		}
		for _, r := range registrations {
			if err := l.probeOne(ctx, r.App); err != nil {
				detail = fmt.Sprintf("%s:%d at %s: %v", r.Service, r.Port, r.App, err)
				break
			}
		}
		if ctx.Err() != nil {
			return
		}
		last := time.Now()
		l.setStatus(func(s *control.Status) { s.Ready, s.Detail = detail == "", detail })
		var again <-chan time.Time // never, with nothing to watch
		switch {
		case detail != "" && len(registrations) > 0:
			again = time.After(probeSoon)
		case len(registrations) > 0:
			again = time.After(probeReady)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.reprobe:
		case <-again:
		case <-l.suspect:
			// Failures come in crowds: one probe for all of a moment's.
			if !sleep(ctx, probeSoon-time.Since(last)) {
				return
			}
		}
	}
}

// Fault says why the proxy itself can't serve, such as a port that is taken; the
// control plane is told. Nil: it can.
func (l *Live) Fault(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if text != l.fault {
		l.fault = text
		wake(l.reprobe)
	}
}

// sleep waits; it reports false when the context ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *Live) probeOne(ctx context.Context, addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return l.config.ProbeApp(ctx, addr)
}

// Suspect says that something went wrong with the proxy's own program: it is
// probed soon. It may be called from any loop, for every failed request; it
// doesn't block.
func (l *Live) Suspect() {
	if !l.static {
		wake(l.suspect)
	}
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
