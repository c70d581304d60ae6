package token

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

const (
	// MaxCached bounds the tokens that a loop remembers, MaxCachedBytes the memory
	// that they take, about.
	MaxCached      = 2048
	MaxCachedBytes = 8 << 20
)

// Sum stands for candidates: whoever doesn't have them can't make it, and they
// can't be made from it.
type Sum [sha256.Size]byte

// AppendCandidate appends one to what Sum is of.
func AppendCandidate(b []byte, c Candidate) []byte {
	b = binary.BigEndian.AppendUint32(append(b, byte(c.Place)), uint32(len(c.Text)))
	return append(b, c.Text...)
}

// SumOf is the sum of candidates.
func SumOf(b []byte) Sum { return sha256.Sum256(b) }

// Cache remembers verified tokens until they end. It belongs to one loop. The zero
// value is ready.
type Cache struct {
	entries map[cacheKey]*cached
	ring    []*cached
	hand    int
	bytes   int
}

type cacheKey struct {
	verifier *Verifier
	sum      Sum
}

type cached struct {
	key   cacheKey
	token *Token
	which int
	used  bool
}

// Get finds what Verify returned, nil when that isn't known or is over. It doesn't
// allocate.
func (c *Cache) Get(v *Verifier, s Sum, now time.Time) (t *Token, which int) {
	e := c.entries[cacheKey{v, s}]
	if e == nil || e.token == nil || !now.Before(e.token.Ends.Add(Skew)) {
		return nil, 0
	}
	e.used = true
	return e.token, e.which
}

// Put remembers a token. What wasn't asked for lately makes room.
func (c *Cache) Put(v *Verifier, s Sum, t *Token, which int) {
	k := cacheKey{v, s}
	if e := c.entries[k]; e != nil {
		c.bytes += t.size - e.token.size
		e.token, e.which = t, which
		return
	}
	for len(c.ring) >= MaxCached || c.bytes+t.size > MaxCachedBytes && len(c.ring) > 0 {
		c.evict()
	}
	if c.entries == nil {
		c.entries = make(map[cacheKey]*cached)
	}
	e := &cached{key: k, token: t, which: which}
	c.entries[k] = e
	c.ring = append(c.ring, e)
	c.bytes += t.size
}

// evict forgets the first one that wasn't used since the hand last passed it.
func (c *Cache) evict() {
	for {
		if c.hand >= len(c.ring) {
			c.hand = 0
		}
		e := c.ring[c.hand]
		if e.used {
			e.used = false
			c.hand++
			continue
		}
		delete(c.entries, e.key)
		c.bytes -= e.token.size
		last := len(c.ring) - 1
		c.ring[c.hand], c.ring[last] = c.ring[last], nil
		c.ring = c.ring[:last]
		return
	}
}
