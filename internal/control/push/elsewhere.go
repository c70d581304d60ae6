package push

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"tulle.dev/tulle/internal/control/share"
	"tulle.dev/tulle/internal/control/store"
)

// This file is what replicas tell each other, through the store, of the limits that
// their proxies share. One that is alone writes once when the first limit comes into
// use, and nothing more.

const (
	demandPrefix = "/tulle/demand/"
	demandTTL    = 10 * time.Second
	tellEvery    = time.Second
	renewTold    = 3 // in times of tellEvery
	// mostTold bounds the limits of which others are told.
	mostTold = 5000
	// alikePercent is how much a demand may change without being told anew.
	alikePercent = 5
)

// publish tells other replicas what is needed here, until the context ends.
func (s *shares) publish(ctx context.Context) {
	objects, key := s.server.config.Objects, demandPrefix+s.server.replica
	var lease store.Lease
	var told map[string]share.Group
	ticker := time.NewTicker(tellEvery)
	defer ticker.Stop()
	for i := 0; ; i++ {
		now, others := s.summary()
		call, cancel := context.WithTimeout(ctx, demandTTL/2)
		var err error
		switch {
		case lease == 0:
			if lease, err = objects.Grant(call, demandTTL); err == nil {
				told, err = now, s.tellOthers(call, key, now, lease)
			}
		case others && !alike(told, now):
			told, err = now, s.tellOthers(call, key, now, lease)
		case i%renewTold == 0:
			err = objects.Renew(call, lease)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			s.server.config.Log.Debug("other replicas can't be told what limits need", "error", err)
			lease = 0 // another one, if that one isn't dead already
		}
		select {
		case <-ctx.Done():
			if lease != 0 {
				down, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				objects.Revoke(down, lease)
				cancel()
			}
			return
		case <-ticker.C:
		}
	}
}

func (s *shares) summary() (now map[string]share.Group, others bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.allocator.Summary(mostTold), len(s.others) > 0
}

func (s *shares) tellOthers(ctx context.Context, key string, now map[string]share.Group, lease store.Lease) error {
	value, err := json.Marshal(now)
	if err == nil {
		_, err = s.server.config.Objects.Put(ctx, key, value, store.AnyRevision, lease)
	}
	return err
}

// alike reports whether what was told is near enough to what is.
func alike(told, now map[string]share.Group) bool {
	if len(told) != len(now) {
		return false
	}
	for limit, n := range now {
		t := told[limit]
		if t.Members != n.Members {
			return false
		}
		if diff := max(t.Demand, n.Demand) - min(t.Demand, n.Demand); diff > t.Demand*alikePercent/100 {
			return false
		}
	}
	return true
}

// follow takes what other replicas tell, until the context ends.
func (s *shares) follow(ctx context.Context) {
	_ = store.Follow(ctx, s.server.config.Objects, demandPrefix, func(reset bool, c store.Changes) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if reset {
			for replica := range s.others {
				s.allocator.Elsewhere(replica, nil)
			}
			clear(s.others)
		}
		for _, e := range c.Events {
			replica := strings.TrimPrefix(e.Key, demandPrefix)
			if replica == s.server.replica {
				continue
			}
			groups := map[string]share.Group{}
			if e.Deleted || json.Unmarshal(e.Value, &groups) != nil {
				s.allocator.Elsewhere(replica, nil)
				delete(s.others, replica)
				continue
			}
			s.allocator.Elsewhere(replica, groups)
			s.others[replica] = true
		}
	})
}
