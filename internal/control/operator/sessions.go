package operator

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

const (
	// CodeLife is how long a login link can be used, SessionLife how long a session
	// lasts at most, and SessionIdle how long one that nobody uses.
	CodeLife    = 2 * time.Minute
	SessionLife = 8 * time.Hour
	SessionIdle = time.Hour

	// maxCodes and maxSessions bound what is open at once, maxOwn how many of those
	// are one operator's; the oldest make room.
	maxCodes    = 256
	maxSessions = 1024
	maxOwn      = 16
)

// Sessions are the browsers that operators have let in. They are kept in memory,
// by their SHA-256 sums, and end with the process. Safe for concurrent use.
type Sessions struct {
	Book *Book

	mu    sync.Mutex
	codes table
	open  table
}

// table is who has a secret, by its sum. Its owner holds the lock.
type table map[[sha256.Size]byte]*holder

type holder struct {
	who         *Who
	began, used time.Time
}

// ErrCode says that a login link isn't good; it doesn't tell why.
var ErrCode = errors.New("this login link was used already, or is older than two minutes: ask for another with `tulle dashboard`")

// add keeps somebody under a new secret.
func (t *table) add(who *Who, most int, now time.Time) string {
	if *t == nil {
		*t = table{}
	}
	own := 0
	var oldest, oldestOwn *holder
	for _, h := range *t {
		if oldest == nil || h.began.Before(oldest.began) {
			oldest = h
		}
		if h.who.Name == who.Name {
			if own++; oldestOwn == nil || h.began.Before(oldestOwn.began) {
				oldestOwn = h
			}
		}
	}
	switch {
	case own >= maxOwn:
		oldest = oldestOwn
	case len(*t) < most:
		oldest = nil
	}
	for k, h := range *t {
		if h == oldest {
			delete(*t, k)
		}
	}
	secret := rand.Text()
	(*t)[sha256.Sum256([]byte(secret))] = &holder{who: who, began: now, used: now}
	return secret
}

// sweep forgets what is over.
func (t table) sweep(now time.Time, life, idle time.Duration) {
	for k, h := range t {
		if now.Sub(h.began) >= life || now.Sub(h.used) >= idle {
			delete(t, k)
		}
	}
}

// Invite makes a code that lets somebody's browser in, once.
func (s *Sessions) Invite(who *Who) (code string, ends time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Book.Now()
	s.codes.sweep(now, CodeLife, CodeLife)
	return s.codes.add(who, maxCodes, now), now.Add(CodeLife)
}

// Redeem returns whose a code is, and spends it.
func (s *Sessions) Redeem(ctx context.Context, code string) (*Who, error) {
	s.mu.Lock()
	s.codes.sweep(s.Book.Now(), CodeLife, CodeLife)
	sum := sha256.Sum256([]byte(code))
	h := s.codes[sum]
	delete(s.codes, sum)
	s.mu.Unlock()
	if h == nil {
		return nil, ErrCode
	}
	return s.Book.Still(ctx, h.who)
}

// Begin begins a session and returns its secret, which is always a new one.
func (s *Sessions) Begin(who *Who) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Book.Now()
	s.open.sweep(now, SessionLife, SessionIdle)
	return s.open.add(who, maxSessions, now)
}

// Who returns whose a session is, and what that operator may now; ErrUnknown when
// it is over or its operator isn't one any more.
func (s *Sessions) Who(ctx context.Context, secret string) (*Who, error) {
	sum := sha256.Sum256([]byte(secret))
	s.mu.Lock()
	now := s.Book.Now()
	h := s.open[sum]
	if h != nil && (now.Sub(h.began) >= SessionLife || now.Sub(h.used) >= SessionIdle) {
		delete(s.open, sum)
		h = nil
	}
	if h != nil {
		h.used = now
	}
	s.mu.Unlock()
	if h == nil {
		return nil, ErrUnknown
	}
	who, err := s.Book.Still(ctx, h.who)
	if errors.Is(err, ErrUnknown) {
		s.End(secret)
	}
	return who, err
}

// End ends a session.
func (s *Sessions) End(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256([]byte(secret)))
}
