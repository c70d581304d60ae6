package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/internal/identity"
)

// This file is how a CA changes its root with no moment in which anybody's
// certificate isn't trusted:
//
//	steady    one root, which signs
//	added     another is trusted too, the old one signs
//	switched  the new one signs, the old one is trusted still
//	steady    the new one alone
//
// Who moves it on must know that every proxy is ready for the next stage; Back
// goes back from added and switched.

// Stage is where a change of the root stands.
type Stage string

// The stages.
const (
	Steady   Stage = "steady"
	Added    Stage = "added"
	Switched Stage = "switched"
)

// trustName is the note in which the roots are listed.
const trustName = "trust"

// trust says which roots there are, by the names of their key pairs.
type trust struct {
	// Version grows with each change.
	Version uint64 `json:"version"`
	// Signing signs issuing certificates; Also is trusted beside it, or empty.
	Signing string `json:"signing"`
	Also    string `json:"also,omitempty"`
	// Domain is the trust domain where the root doesn't name it.
	Domain identity.TrustDomain `json:"domain,omitempty"`
	// Elsewhere is the hex SHA-256 sum of a root whose key isn't kept here.
	Elsewhere string `json:"elsewhere,omitempty"`
}

// number orders roots by age: "root" is 1, "root-7" is 7.
func number(name string) int {
	if n, err := strconv.Atoi(strings.TrimPrefix(name, rootName+"-")); err == nil {
		return n
	}
	return 1
}

func (t *trust) stage() Stage {
	switch {
	case t.Also == "":
		return Steady
	case number(t.Also) > number(t.Signing):
		return Added
	}
	return Switched
}

// loadTrust reads the list; a CA that never changed its root has none.
func loadTrust(k Keys) (trust, error) {
	t := trust{Version: 1, Signing: rootName}
	data, err := k.LoadNote(trustName)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		if err = json.Unmarshal(data, &t); err == nil && (t.Signing == "" || t.Version == 0) {
			err = errors.New("it names no root")
		}
	}
	if err != nil {
		return t, fmt.Errorf("the list of the CA's roots: %w", err)
	}
	return t, nil
}

func saveTrust(k Keys, t trust) error {
	data, err := json.Marshal(t)
	if err == nil {
		err = k.SaveNote(trustName, data)
	}
	if err != nil {
		return fmt.Errorf("the list of the CA's roots: %w", err)
	}
	return nil
}

// Root is one trusted root.
type Root struct {
	// Pin is the SHA-256 sum of its DER.
	Pin       [sha256.Size]byte
	KeyID     []byte // what certificates it signed name it by
	NotBefore time.Time
	NotAfter  time.Time
	// Signs says that new certificates come from it.
	Signs bool
}

// Trust says which roots are trusted, the signing one first, at which version and
// stage.
func (ca *CA) Trust() (roots []Root, version uint64, stage Stage) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	for i, c := range ca.roots {
		roots = append(roots, Root{Pin: sha256.Sum256(c.Raw), KeyID: c.SubjectKeyId, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Signs: i == 0})
	}
	return roots, ca.trust.Version, ca.stage()
}

// stage is where a change of the root stands. The caller holds mu.
func (ca *CA) stage() Stage {
	switch {
	case ca.next != nil:
		return Added
	case ca.leaving:
		return Switched
	}
	return ca.trust.stage()
}

// ErrNotOurs says that the root isn't this CA's to change.
var ErrNotOurs = errors.New("the root was brought along: change it where it was made, and start the control plane with the new files")

// AddRoot makes another root that is trusted and doesn't sign yet.
func (ca *CA) AddRoot() error {
	return ca.change(Steady, func(t trust) (trust, *signer, error) {
		next := trust{Version: t.Version + 1, Signing: t.Signing, Also: rootName + "-" + strconv.Itoa(number(t.Signing)+1)}
		s, err := newSigner(ca.domain, "root", RootLife, 1, nil, ca.now())
		if err == nil {
			err = ca.keys.Save(next.Also, s.key, s.chain)
		}
		return next, s, err
	})
}

// SwitchRoot lets the added root sign; the other one is trusted still.
func (ca *CA) SwitchRoot() error {
	if ca.Brought() {
		return ca.switchGiven()
	}
	return ca.change(Added, ca.swap)
}

// FinishRoot ends the trust in the old root, and deletes its key.
func (ca *CA) FinishRoot() error {
	if ca.Brought() {
		return ca.finishGiven()
	}
	ca.mu.Lock()
	old := ca.trust.Also
	ca.mu.Unlock()
	err := ca.change(Switched, func(t trust) (trust, *signer, error) {
		return trust{Version: t.Version + 1, Signing: t.Signing}, nil, nil
	})
	if err != nil {
		return err
	}
	if err := ca.keys.Remove(old); err != nil {
		ca.log.Warn("the old root's key can't be deleted", "name", old, "error", err)
	}
	return nil
}

// BackRoot goes one stage back: the old root signs again, or the added one isn't
// trusted any more and its key deleted.
func (ca *CA) BackRoot() error {
	if ca.Brought() {
		return ErrNotOurs
	}
	ca.mu.Lock()
	stage, added := ca.trust.stage(), ca.trust.Also
	ca.mu.Unlock()
	switch stage {
	case Switched:
		return ca.change(Switched, ca.swap)
	case Added:
		err := ca.change(Added, func(t trust) (trust, *signer, error) {
			return trust{Version: t.Version + 1, Signing: t.Signing}, nil, nil
		})
		if err != nil {
			return err
		}
		if err := ca.keys.Remove(added); err != nil {
			ca.log.Warn("the added root's key can't be deleted", "name", added, "error", err)
		}
		return nil
	}
	return errors.New("the root isn't being changed: there is nothing to go back from")
}

// swap has the two roots change places.
func (ca *CA) swap(t trust) (trust, *signer, error) {
	key, chain, err := ca.keys.Load(t.Also)
	if err != nil {
		return t, nil, err
	}
	s, err := loadSigner(key, chain)
	return trust{Version: t.Version + 1, Signing: t.Also, Also: t.Signing}, s, err
}

// change takes the CA from one stage to what next says. The list is written
// before anything else depends on it, and after the keys it names.
func (ca *CA) change(from Stage, next func(trust) (trust, *signer, error)) error {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	switch {
	case ca.root == nil || ca.elsewhere:
		return ErrNotOurs
	case ca.trust.stage() != from:
		return fmt.Errorf("the change of the root is at stage %s, want %s", ca.trust.stage(), from)
	}
	t, other, err := next(ca.trust)
	if err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	t.Domain = ca.trust.Domain
	root, roots := ca.root, []*x509.Certificate{ca.root.cert}
	switch {
	case t.Signing != ca.trust.Signing: // other signs, and what signed is trusted
		root, roots = other, []*x509.Certificate{other.cert, ca.root.cert}
	case other != nil:
		roots = append(roots, other.cert)
	}
	issuer := ca.issuer
	if root != ca.root {
		if issuer, err = newSigner(ca.domain, "issuer", IssuerLife, 0, root, ca.now()); err != nil {
			return fmt.Errorf("a new issuing certificate: %w", err)
		}
	}
	if err := saveTrust(ca.keys, t); err != nil {
		return err
	}
	if issuer != ca.issuer {
		if err := ca.keys.Save(issuerName, issuer.key, issuer.chain); err != nil {
			ca.log.Warn("the new issuing certificate can't be kept; a restart makes another", "error", err)
		}
	}
	ca.trust, ca.root, ca.roots, ca.issuer = t, root, roots, issuer
	ca.log.Info("the CA's roots changed", "version", t.Version, "stage", string(t.stage()), "signing", t.Signing)
	return nil
}
