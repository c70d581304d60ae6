package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
)

// trusts says whether a CA's bundle vouches for a chain.
func trusts(t *testing.T, ca *CA, chain []*x509.Certificate, now time.Time) bool {
	t.Helper()
	b, err := identity.NewBundle(map[identity.TrustDomain][][]byte{ca.TrustDomain(): ca.Roots()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Verify(chain, now)
	return err == nil
}

// At every stage, forwards and backwards, and after a restart at each, what was
// issued at the stage before is trusted.
func TestRootChange(t *testing.T) {
	c := &clock{now: time.Now()}
	for name, keys := range map[string]Keys{"memory": &MemoryKeys{}, "files": Files{Dir: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			ca := open(t, keys, c)
			_, first, _ := issue(t, ca, time.Hour)
			last := first
			version := uint64(1)
			for _, step := range []struct {
				do    func(*CA) error
				stage Stage
				roots int
			}{
				{(*CA).AddRoot, Added, 2}, {(*CA).BackRoot, Steady, 1},
				{(*CA).AddRoot, Added, 2}, {(*CA).SwitchRoot, Switched, 2},
				{(*CA).BackRoot, Added, 2}, {(*CA).SwitchRoot, Switched, 2},
				{(*CA).FinishRoot, Steady, 1},
				{(*CA).AddRoot, Added, 2}, {(*CA).SwitchRoot, Switched, 2}, {(*CA).FinishRoot, Steady, 1},
			} {
				if err := step.do(ca); err != nil {
					t.Fatal(err)
				}
				ca = open(t, keys, c)
				roots, v, stage := ca.Trust()
				if stage != step.stage || len(roots) != step.roots || v <= version || !roots[0].Signs || ca.Bundle().Version != v {
					t.Fatalf("stage %s version %d with %d roots, want %s, over %d, %d", stage, v, len(roots), step.stage, version, step.roots)
				}
				version = v
				if !trusts(t, ca, last, c.Now()) && stage != Steady {
					t.Errorf("at stage %s the certificate from before isn't trusted", stage)
				}
				_, last, _ = issue(t, ca, time.Hour)
				if !trusts(t, ca, last, c.Now()) {
					t.Errorf("at stage %s a new certificate isn't trusted", stage)
				}
				if !bytes.Equal(last[1].AuthorityKeyId, roots[0].KeyID) {
					t.Errorf("at stage %s the issuer is not of the signing root", stage)
				}
			}
			if trusts(t, ca, first, c.Now()) {
				t.Error("the first root is trusted still")
			}
			for _, gone := range []string{"root", "root-2"} {
				if _, _, err := keys.Load(gone); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the key of %s is still there: %v", gone, err)
				}
			}
		})
	}
}

func TestRootChangeOutOfTurn(t *testing.T) {
	c := &clock{now: time.Now()}
	ca := open(t, &MemoryKeys{}, c)
	for name, f := range map[string]func() error{"switch": ca.SwitchRoot, "finish": ca.FinishRoot, "back": ca.BackRoot} {
		if f() == nil {
			t.Errorf("%s of a root that isn't being changed went well", name)
		}
	}
	if err := ca.AddRoot(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{"add": ca.AddRoot, "finish": ca.FinishRoot} {
		if f() == nil {
			t.Errorf("%s after add went well", name)
		}
	}
}

// failingKeys fail to save.
type failingKeys struct {
	Keys
	note bool
}

func (k *failingKeys) SaveNote(name string, data []byte) error {
	if k.note {
		return errors.New("no space left")
	}
	return k.Keys.SaveNote(name, data)
}

// What can't be written down doesn't happen.
func TestRootChangeIsKeptOrNot(t *testing.T) {
	c := &clock{now: time.Now()}
	keys := &failingKeys{Keys: &MemoryKeys{}}
	ca := open(t, keys, c)
	keys.note = true
	if err := ca.AddRoot(); err == nil {
		t.Fatal("added a root without writing it down")
	}
	if roots, v, stage := ca.Trust(); len(roots) != 1 || v != 1 || stage != Steady {
		t.Errorf("%d roots, version %d, stage %s after a failure", len(roots), v, stage)
	}
}
