package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/push"
)

// look is how often the proxies are looked at while the root is being changed.
const look = time.Second

// dwell is the least time that a stage lasts: connections that began with what
// held before have come up by then.
const dwell = 3 * time.Second

// Config says what a Change works with.
type Config struct {
	CA *ca.CA
	// Proxies says how far each proxy is.
	Proxies func() []push.Trusting
	// File is where it is kept which proxies there are while the root is being
	// changed; empty is nowhere.
	File string
	// Changed is called after each step: the control plane renews its own
	// certificate and tells the proxies.
	Changed func() error
	// Several says that other control planes serve this mesh with CA files of
	// their own: then the root is changed by hand.
	Several bool
	// Dwell is how long each stage lasts at least for the sake of those who follow
	// our bundle from outside; nil for not.
	Dwell func() time.Duration
	Now   func() time.Time
	Log   *slog.Logger
}

// Change changes the root. Safe for concurrent use; Run moves it on.
type Change struct {
	config Config
	wake   chan struct{}

	mu sync.Mutex
	// back says that it goes back to the root it came from. After a restart it
	// goes forward: the operator is told and may turn it again.
	back  bool
	since time.Time // of the stage
	// known are the proxies that have been heard of during the change. lost says
	// that they aren't known any more; until settled nothing is done.
	known   known
	lost    bool
	settled time.Time
}

// New makes a Change; a stage that the CA is found in goes on.
func New(c Config) *Change {
	if c.Now == nil {
		c.Now = time.Now
	}
	change := &Change{config: c, wake: make(chan struct{}, 1), since: c.Now()}
	if c.CA != nil {
		change.recall()
	}
	return change
}

// ErrSeveral says why the root can't be changed here.
var ErrSeveral = errors.New("several control planes may serve this mesh, each with its own copy of the CA's files: change the root where it was made, and start all of them with both roots in --ca-roots, then with the new issuer, then with the new root alone")

// Rotate begins the change, or turns one that goes back forward again.
func (c *Change) Rotate() error {
	if c.config.Several {
		return ErrSeveral
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.poke() // also when a step was taken that nobody could be told of yet
	if _, _, stage := c.config.CA.Trust(); stage == ca.Steady {
		if err := c.remember(c.config.Proxies()); err != nil {
			return err
		}
		if err := c.step(c.config.CA.AddRoot); err != nil {
			return err
		}
	}
	c.back, c.lost = false, false // whoever asks again has looked after the proxies
	return nil
}

// Offer takes another issuing certificate where they are brought along. One of
// another root begins a change, which goes forward only.
func (c *Change) Offer(i ca.Issuer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed, err := c.config.CA.Offer(i, !c.config.Several)
	if errors.Is(err, ca.ErrAnotherRoot) {
		return fmt.Errorf("%w: %w", err, ErrSeveral)
	}
	if err != nil || !changed {
		return err
	}
	if _, _, stage := c.config.CA.Trust(); stage == ca.Added {
		c.since, c.back, c.lost, c.settled = c.config.Now(), false, false, time.Time{}
		// What can't be written down now is tried again, and nothing goes on before.
		if err := c.remember(c.config.Proxies()); err != nil {
			c.config.Log.Error("the change of the root can't go on", "error", err)
		}
	}
	defer c.poke()
	return c.config.Changed()
}

// Back turns the change round: the old root signs again, then the new one is
// trusted no more.
func (c *Change) Back() error {
	if c.config.CA.Brought() {
		return ca.ErrNotOurs
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch _, _, stage := c.config.CA.Trust(); stage {
	case ca.Steady:
		return errors.New("the root isn't being changed: there is nothing to go back from")
	case ca.Switched:
		if err := c.step(c.config.CA.BackRoot); err != nil {
			return err
		}
	}
	c.back = true
	c.poke()
	return nil
}

func (c *Change) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// step does one step of the CA and has everybody told. The caller holds mu.
func (c *Change) step(do func() error) error {
	if err := do(); err != nil {
		return err
	}
	c.since = c.config.Now()
	return c.config.Changed()
}

// Run moves a change on whenever every proxy is ready, until the context ends.
func (c *Change) Run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-t.C:
		}
		wait := time.Hour
		if c.advance() {
			wait = look
		}
		t.Reset(wait)
	}
}

// advance takes the next step if it may be taken, and reports whether there is
// one.
func (c *Change) advance() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report()
	if r.Stage == ca.Steady {
		c.forget()
		return false
	}
	list := make([]push.Trusting, 0, len(r.Proxies))
	for i := range r.Proxies {
		list = append(list, r.Proxies[i].Trusting)
	}
	if err := c.remember(list); err != nil {
		c.config.Log.Error("the change of the root can't go on", "stage", string(r.Stage), "error", err)
		return true
	}
	if now := c.config.Now(); c.lost || now.Before(c.settled) || now.Sub(c.since) < c.dwell() || r.Waiting() > 0 {
		return true
	}
	var do func() error
	switch {
	case r.Stage == ca.Switched:
		do = c.config.CA.FinishRoot
	case c.back:
		do = c.config.CA.BackRoot
	default:
		do = c.config.CA.SwitchRoot
	}
	if err := c.step(do); err != nil {
		c.config.Log.Error("the change of the root can't go on", "stage", string(r.Stage), "error", err)
	}
	return true
}

func (c *Change) dwell() time.Duration {
	if c.config.Dwell == nil {
		return dwell
	}
	return max(dwell, c.config.Dwell())
}

// Report is where a change stands.
type Report struct {
	Stage   ca.Stage
	Back    bool
	Version uint64
	Roots   []ca.Root
	Proxies []Proxy
}

// Proxy is how far one proxy is.
type Proxy struct {
	push.Trusting
	// Current says that its certificate is of the signing root.
	Current bool
	// Waiting says what the next stage waits for, or is empty.
	Waiting string
}

// Waiting counts the proxies that the next stage waits for.
func (r *Report) Waiting() int {
	n := 0
	for i := range r.Proxies {
		if r.Proxies[i].Waiting != "" {
			n++
		}
	}
	return n
}

// Report says where a change stands.
func (c *Change) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.report()
}

func (c *Change) report() Report {
	roots, version, stage := c.config.CA.Trust()
	r := Report{Stage: stage, Back: c.back && stage != ca.Steady, Version: version, Roots: roots}
	list := c.config.Proxies()
	heard := len(list)
	list = append(list, c.missing(list)...)
	for i, t := range list {
		p := Proxy{Trusting: t, Current: t.SignedBy(roots[0].KeyID)}
		// Going on from Added needs the new root known; all other steps take a
		// root away, and nobody may have a certificate of it.
		leaves := stage == ca.Switched || stage == ca.Added && c.back
		switch {
		case stage == ca.Steady:
		case i >= heard:
			p.Waiting = "has not been heard of since the control plane started"
		case !p.Bundle:
			p.Waiting = "has not taken the newest roots"
		case leaves && !p.Current:
			p.Waiting = "has a certificate of the root that goes"
		}
		if p.Waiting != "" && !p.Connected {
			p.Waiting += ", and is away"
		}
		r.Proxies = append(r.Proxies, p)
	}
	return r
}
