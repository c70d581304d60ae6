package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"
)

// maxVerified bounds the chains that a bundle remembers, some 100 bytes each.
const maxVerified = 1024

// verified remembers the chains that led to a root of a bundle, so that a peer that
// comes again costs no signature check of its certificates. That it has their key is
// proven in each handshake anew, and everything else about them is looked at anew.
//
// What is remembered is that these very bytes lead to a root, and from when to when
// all certificates on that way are valid. It belongs to the bundle and goes with it.
// Only what was right is remembered, so that those who have no certificate can't
// crowd out those who have.
//
// Safe for concurrent use.
type verified struct {
	mu sync.Mutex
	// recent is what was asked for of late; when it has half of what there is room
	// for, it becomes older, and what was older is forgotten.
	recent, older map[fingerprint]validity
}

// fingerprint is the SHA-256 sum of a whole chain.
type fingerprint [sha256.Size]byte

// validity is from when to when a way to a root is valid, in Unix seconds: that is
// how exact certificates are.
type validity struct{ from, until int64 }

func (v validity) at(now time.Time) bool {
	return v.from <= now.Unix() && !now.After(time.Unix(v.until, 0))
}

func fingerprintOf(chain []*x509.Certificate) (f fingerprint) {
	h := sha256.New()
	var length [4]byte
	for _, c := range chain {
		binary.BigEndian.PutUint32(length[:], uint32(len(c.Raw))) // where one ends and the next begins
		h.Write(length[:])
		h.Write(c.Raw)
	}
	h.Sum(f[:0])
	return f
}

// holds reports whether a chain is known to lead to a root now.
func (v *verified) holds(f fingerprint, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if valid, known := v.recent[f]; known {
		return valid.at(now)
	}
	valid, known := v.older[f]
	if known {
		v.keep(f, valid)
	}
	return known && valid.at(now)
}

// add remembers that a chain leads to a root by this way, which ends with it.
func (v *verified) add(f fingerprint, way []*x509.Certificate) {
	valid := validity{way[0].NotBefore.Unix(), way[0].NotAfter.Unix()}
	for _, c := range way[1:] {
		valid.from, valid.until = max(valid.from, c.NotBefore.Unix()), min(valid.until, c.NotAfter.Unix())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keep(f, valid)
}

func (v *verified) keep(f fingerprint, valid validity) {
	if _, there := v.recent[f]; !there && len(v.recent) >= maxVerified/2 {
		v.older, v.recent = v.recent, nil
	}
	if v.recent == nil {
		v.recent = make(map[fingerprint]validity)
	}
	v.recent[f] = valid
}
