package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/push"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
)

// This file is how it is known, also after a restart, which proxies there are that a
// change of the root must wait for. A proxy that was forgotten would be left with
// roots or a certificate that nobody believes, and couldn't even ask for others.

const (
	// settle is how long nothing is done after a restart in the middle of a change:
	// proxies come back within a few seconds.
	settle = 10 * time.Second
	// maxKnown bounds the proxies that are remembered. With more than that the root
	// isn't changed.
	maxKnown = 100_000
)

// known is when the certificates of proxies end, as was last heard of.
type known map[place]time.Time

type place struct {
	mesh.Name
	gateway bool
}

// remembered is a proxy as it is written down.
type remembered struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Gateway   bool      `json:"gateway,omitempty"`
	Ends      time.Time `json:"certificateExpires"`
}

// recall reads who was known before a restart.
func (c *Change) recall() {
	if _, _, stage := c.config.CA.Trust(); stage == ca.Steady {
		return
	}
	c.settled = c.config.Now().Add(settle)
	data, err := os.ReadFile(c.config.File)
	if errors.Is(err, fs.ErrNotExist) || c.config.File == "" {
		if c.config.CA.Brought() {
			// Other roots were brought along while nobody looked: until no certificate
			// of the ones before is good any more, they are trusted.
			c.settled = c.config.Now().Add(ca.MaxTTL)
		}
		return
	}
	var list []remembered
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		c.config.Log.Error("it isn't known any more which proxies the change of the root must wait for", "file", c.config.File, "error", err)
		c.lost = true
		return
	}
	c.known = known{}
	for _, r := range list {
		c.known[place{mesh.Name{Namespace: r.Namespace, Name: r.Name}, r.Gateway}] = r.Ends
	}
}

// remember writes down who there is, if that is news. The caller holds mu.
func (c *Change) remember(list []push.Trusting) error {
	next, now := maps.Clone(c.known), c.config.Now()
	if next == nil {
		next = known{}
	}
	for i := range list {
		if t := &list[i]; t.Ends.After(now) {
			next[place{t.Proxy, t.Gateway}] = t.Ends
		}
	}
	maps.DeleteFunc(next, func(_ place, ends time.Time) bool { return !ends.After(now) })
	if c.known != nil && maps.EqualFunc(next, c.known, time.Time.Equal) {
		return nil
	}
	if len(next) > maxKnown {
		return fmt.Errorf("there are more than %d proxies", maxKnown)
	}
	if c.config.File != "" {
		all := make([]remembered, 0, len(next))
		for p, ends := range next {
			all = append(all, remembered{p.Namespace, p.Name.Name, p.gateway, ends})
		}
		data, err := json.Marshal(all)
		if err == nil {
			err = identity.WriteFile(c.config.File, data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("it can't be written down which proxies there are: %w", err)
		}
	}
	c.known = next
	return nil
}

// forget is called when no change is under way.
func (c *Change) forget() {
	if c.known != nil && c.config.File != "" {
		os.Remove(c.config.File)
	}
	c.known, c.lost = nil, false
}

// missing are the proxies that nothing was heard of since a restart, and whose
// certificates haven't ended.
func (c *Change) missing(list []push.Trusting) (out []push.Trusting) {
	there, now := make(map[place]bool, len(list)), c.config.Now()
	for i := range list {
		there[place{list[i].Proxy, list[i].Gateway}] = true
	}
	for p, ends := range c.known {
		if !there[p] && ends.After(now) {
			out = append(out, push.Trusting{Proxy: p.Name, Gateway: p.gateway, Ends: ends})
		}
	}
	return out
}
