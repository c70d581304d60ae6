package live

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		c.life = time.Minute
		l, stop := run(t, c.config(dir))
		c.accept()
		start := time.Now()
		for range 600 { // ten minutes
			time.Sleep(time.Second)
			if left := l.Credentials().SVID().Leaf.NotAfter.Sub(time.Now()); left < 20*time.Second {
				t.Fatalf("after %v the certificate has %v left", time.Since(start), left)
			}
		}
		if n := len(c.certified()); n < 15 || n > 25 {
			t.Errorf("%d certificates in ten minutes, want about 20", n)
		}

		// Renewal fails: the present certificate stays until its end.
		c.mu.Lock()
		c.certify = status.Error(codes.Unavailable, "the store is away")
		c.mu.Unlock()
		old := l.Credentials().SVID()
		time.Sleep(45 * time.Second)
		if l.Credentials().SVID() != old || l.Link().IdentityError == "" {
			t.Errorf("identity error %q", l.Link().IdentityError)
		}
		time.Sleep(2 * time.Minute)
		// It has expired; the old key brings it back.
		c.mu.Lock()
		c.certify = nil
		c.mu.Unlock()
		time.Sleep(10 * time.Second)
		got := c.certified()
		if s := l.Credentials().SVID(); !time.Now().Before(s.Leaf.NotAfter) || got[len(got)-1] != "recover" {
			t.Errorf("after the gap: until %v, got by %v", s.Leaf.NotAfter, got[len(got)-1])
		}
		stop()

		// A restart long after the end recovers, too.
		time.Sleep(time.Hour)
		l, stop = run(t, c.config(dir))
		time.Sleep(time.Second)
		if s := l.Credentials().SVID(); !time.Now().Before(s.Leaf.NotAfter) {
			t.Errorf("after the restart: until %v", s.Leaf.NotAfter)
		}
		stop()
		c.stop()
		for _, name := range []string{chainFile, keyFile, StateFile} {
			info, err := os.Stat(filepath.Join(dir, name))
			if name == StateFile && err != nil {
				continue
			}
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v, want mode 0600", name, info, err)
			}
		}
	})
}

func TestRefusedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		config := c.config("")
		other := c.token
		other.Secret[0]++
		config.JoinToken = other.Reveal()
		l, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "refused the join token: unknown token") {
			t.Errorf("a wrong token: %v", err)
		}
		// A token of another mesh: the control plane is not the one it names.
		other = c.token
		other.Pin[0]++
		config.JoinToken = other.Reveal()
		if l, err = New(config); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		if got := l.Link().IdentityError; !strings.Contains(got, "is the token from another mesh?") {
			t.Errorf("a token of another mesh: %q", got)
		}
		if len(c.certified()) != 0 {
			t.Error("it sent its token to a stranger")
		}
		config.JoinToken = ""
		if l, err = New(config); err != nil {
			t.Fatal(err)
		}
		if err := l.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no join token") {
			t.Errorf("no token: %v", err)
		}
		c.stop()
	})
}

func TestClockJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		var ahead atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		config := c.config("")
		config.now = now
		l, stop := run(t, config)
		c.accept()
		first := l.Credentials().SVID()
		// Three quarters of the certificate's life in one step.
		ahead.Store(int64(18 * time.Hour))
		time.Sleep(2 * clockCheck)
		if s := l.Credentials().SVID(); s == first {
			t.Error("the clock was set past the half of the certificate's life, and it wasn't renewed")
		}
		// Back again: what is there stays in use, without a storm of renewals.
		n := len(c.certified())
		ahead.Store(0)
		time.Sleep(time.Hour)
		if got := len(c.certified()) - n; got > 1 {
			t.Errorf("%d renewals in the hour after the clock was set back", got)
		}
		if !l.Link().Connected {
			t.Errorf("the clock ended the conversation: %+v", l.Link())
		}
		stop()
		c.stop()
	})
}

func TestEphemeralKey(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		config := c.config(dir)
		config.EphemeralKey = true
		l, stop := run(t, config)
		s, _ := c.accept()
		s.send(t, update(1, proxyResource(1)))
		s.next()
		stop()
		for _, name := range []string{chainFile, keyFile, nextKeyFile} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s was written", name)
			}
		}
		// A restart has the state, and needs the control plane for the rest.
		l, stop = run(t, config)
		if l.Ready() || l.Table().Proxy == nil {
			t.Errorf("ready %v without a certificate", l.Ready())
		}
		c.accept()
		if !l.Ready() {
			t.Error("not ready")
		}
		stop()
		c.stop()
	})
}

func TestRenewalSurvivesCrash(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		_, stop := run(t, c.config(dir))
		c.accept()
		stop()
		keep := func(from, to string) {
			b, err := os.ReadFile(filepath.Join(dir, from))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, to), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		keep(keyFile, "old-key")
		keep(chainFile, "old-chain")
		os.Remove(filepath.Join(dir, chainFile))
		os.Remove(filepath.Join(dir, keyFile))
		_, stop = run(t, c.config(dir))
		c.accept()
		stop()
		keep(keyFile, "new-key")
		keep(chainFile, "new-chain")
		for name, files := range map[string]map[string]string{
			"after the new key":   {"old-key": keyFile, "new-key": nextKeyFile, "old-chain": chainFile},
			"after the new chain": {"old-key": keyFile, "new-key": nextKeyFile, "new-chain": chainFile},
			"after the rename":    {"new-key": keyFile, "new-chain": chainFile},
		} {
			for _, f := range []string{keyFile, nextKeyFile, chainFile} {
				os.Remove(filepath.Join(dir, f))
			}
			for from, to := range files {
				keep(from, to)
			}
			config := c.config(dir)
			config.JoinToken = ""
			l, err := New(config)
			if err != nil || l.Credentials().SVID() == nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		c.stop()
	})
}

// TestSavedLater: certificate, roots and state that couldn't be written, on a full
// disk say, are written when they can be, though nothing changes any more: a proxy
// that is killed then comes back as what it was.
func TestSavedLater(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		c.life = time.Minute
		l, stop := run(t, c.config(dir))
		s, _ := c.accept()
		s.send(t, update(1, proxyResource(1)))
		time.Sleep(5 * time.Second)
		first := l.Credentials().SVID()
		os.RemoveAll(dir)
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // in which no files can be made
			t.Fatal(err)
		}
		c.mu.Lock()
		c.life = time.Hour // of the next one, for long
		c.mu.Unlock()
		time.Sleep(time.Minute)
		now := l.Credentials().SVID()
		if got := l.Link().SaveError; now == first || !strings.Contains(got, "certificate") {
			t.Errorf("renewed %v, save error %q", now != first, got)
		}
		os.Remove(dir)
		os.Mkdir(dir, 0o700)
		time.Sleep(2 * saveRetry)
		if got := l.Link().SaveError; got != "" {
			t.Errorf("save error %q after the directory came back", got)
		}
		config := c.config(dir)
		config.JoinToken = ""
		again, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		if k := again.Credentials(); k.SVID() == nil || k.SVID().Leaf.SerialNumber.Cmp(now.Leaf.SerialNumber) != 0 || k.Bundle() == nil || again.Table().Proxy == nil {
			t.Errorf("from what is on disk: %+v, want the certificate of %v", k.SVID(), now.Leaf.NotBefore)
		}
		stop()
		c.stop()
	})
}
