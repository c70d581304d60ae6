//go:build pkcs11 && cgo

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"

	"tulle.dev/tulle/internal/signer"
)

// maxObjects bounds the keys of a token that are looked at.
const maxObjects = 64

// token is one hardware token. A session is for one at a time: mu.
type token struct {
	flags tokenFlags
	pin   string

	mu      sync.Mutex
	ctx     *pkcs11.Ctx
	session pkcs11.SessionHandle
	// opened counts sessions: handles of keys are good in one.
	opened int
}

// tokenKey is one private key of it.
type tokenKey struct {
	token  *token
	id     []byte // CKA_ID, by which it is found again
	public crypto.PublicKey
	handle pkcs11.ObjectHandle // of session opened
	opened int
}

// openToken opens a token and finds its keys.
func openToken(f tokenFlags) (keys []signer.Key, closeToken func(), err error) {
	if f.label == "" || f.pinFile == "" {
		return nil, nil, errors.New("--pkcs11-module needs --token and --pin-file")
	}
	pin, err := os.ReadFile(f.pinFile)
	if err != nil {
		return nil, nil, fmt.Errorf("--pin-file: %w", err)
	}
	t := &token{flags: f, pin: strings.TrimRight(string(pin), "\r\n"), ctx: pkcs11.New(f.module)}
	if t.ctx == nil {
		return nil, nil, fmt.Errorf("--pkcs11-module %s: can't be loaded", f.module)
	}
	if err := t.ctx.Initialize(); err != nil {
		t.ctx.Destroy()
		return nil, nil, fmt.Errorf("--pkcs11-module %s: %w", f.module, err)
	}
	if err := t.open(); err != nil {
		t.close()
		return nil, nil, err
	}
	if keys, err = t.keys(); err != nil {
		t.close()
		return nil, nil, err
	}
	return keys, t.close, nil
}

func (t *token) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opened > 0 {
		t.ctx.CloseSession(t.session)
	}
	t.ctx.Finalize()
	t.ctx.Destroy()
}

// open makes a session and logs in. The caller holds mu, or nobody else has t.
func (t *token) open() error {
	slots, err := t.ctx.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("token %q: %w", t.flags.label, err)
	}
	var labels []string
	for _, slot := range slots {
		info, err := t.ctx.GetTokenInfo(slot)
		if err != nil {
			continue
		}
		label := strings.TrimRight(info.Label, " \x00")
		if label != t.flags.label {
			labels = append(labels, label)
			continue
		}
		session, err := t.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
		if err != nil {
			return fmt.Errorf("token %q: %w", label, err)
		}
		err = t.ctx.Login(session, pkcs11.CKU_USER, t.pin)
		if err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
			t.ctx.CloseSession(session)
			return fmt.Errorf("token %q: log in: %w", label, err)
		}
		t.session = session
		t.opened++
		return nil
	}
	return fmt.Errorf("there is no token %q; there are %q", t.flags.label, labels)
}

func (t *token) find(template ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := t.ctx.FindObjectsInit(t.session, template); err != nil {
		return nil, err
	}
	found, _, err := t.ctx.FindObjects(t.session, maxObjects)
	return found, errors.Join(err, t.ctx.FindObjectsFinal(t.session))
}

func (t *token) read(o pkcs11.ObjectHandle, kind uint) []byte {
	a, err := t.ctx.GetAttributeValue(t.session, o, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil || len(a) != 1 {
		return nil
	}
	return a[0].Value
}

// keys finds the private keys that can sign and whose public key lies beside them.
func (t *token) keys() ([]signer.Key, error) {
	found, err := t.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true))
	if err != nil {
		return nil, fmt.Errorf("token %q: look for keys: %w", t.flags.label, err)
	}
	var keys []signer.Key
	for _, o := range found {
		k := &tokenKey{token: t, id: t.read(o, pkcs11.CKA_ID), handle: o, opened: t.opened}
		name := string(t.read(o, pkcs11.CKA_LABEL))
		if name == "" {
			name = fmt.Sprintf("%x", k.id)
		}
		if k.public, err = t.public(k.id); err != nil {
			return nil, fmt.Errorf("token %q: key %s: %w", t.flags.label, name, err)
		}
		keys = append(keys, signer.Key{Name: name, Signer: k})
	}
	return keys, nil
}

// curves are known by their parameters, which are object identifiers.
var curves = map[string]elliptic.Curve{"1.2.840.10045.3.1.7": elliptic.P256(), "1.3.132.0.34": elliptic.P384(), "1.3.132.0.35": elliptic.P521()}

func (t *token) public(id []byte) (crypto.PublicKey, error) {
	found, err := t.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%d public keys have its CKA_ID %x, want one", len(found), id)
	}
	o := found[0]
	if n := t.read(o, pkcs11.CKA_MODULUS); len(n) > 0 {
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(t.read(o, pkcs11.CKA_PUBLIC_EXPONENT)).Int64())}, nil
	}
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(t.read(o, pkcs11.CKA_EC_PARAMS), &oid); err != nil {
		return nil, errors.New("is neither RSA nor on a named curve")
	}
	curve := curves[oid.String()]
	if curve == nil {
		return nil, fmt.Errorf("is on the curve %s: want P-256, P-384 or P-521", oid)
	}
	point := t.read(o, pkcs11.CKA_EC_POINT)
	var inner []byte // PKCS #11 wraps the point in an OCTET STRING; some don't
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

// Public implements crypto.Signer.
func (k *tokenKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer. After a token was taken out and put back it logs
// in again, once.
func (k *tokenKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	t := k.token
	t.mu.Lock()
	defer t.mu.Unlock()
	signature, err := k.sign(digest, opts.HashFunc())
	if err == nil {
		return signature, nil
	}
	t.ctx.CloseSession(t.session)
	if oerr := t.open(); oerr != nil {
		return nil, errors.Join(err, oerr)
	}
	return k.sign(digest, opts.HashFunc())
}

func (k *tokenKey) sign(digest []byte, h crypto.Hash) ([]byte, error) {
	t := k.token
	if k.opened != t.opened {
		found, err := t.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, k.id))
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("the key %x isn't found any more: %w", k.id, err)
		}
		k.handle, k.opened = found[0], t.opened
	}
	mechanism := uint(pkcs11.CKM_ECDSA)
	if _, isRSA := k.public.(*rsa.PublicKey); isRSA {
		mechanism = pkcs11.CKM_RSA_PKCS
		var err error
		if digest, err = digestInfo(h, digest); err != nil {
			return nil, err
		}
	}
	if err := t.ctx.SignInit(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, k.handle); err != nil {
		return nil, err
	}
	raw, err := t.ctx.Sign(t.session, digest)
	if err != nil || mechanism == pkcs11.CKM_RSA_PKCS {
		return raw, err
	}
	// Two numbers of equal length; certificates have them as a SEQUENCE.
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:len(raw)/2]), new(big.Int).SetBytes(raw[len(raw)/2:])})
}

// oids of hashes in a DigestInfo (RFC 8017, appendix B.1).
var oids = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
}

func digestInfo(h crypto.Hash, digest []byte) ([]byte, error) {
	type algorithm struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	oid, ok := oids[h]
	if !ok {
		return nil, fmt.Errorf("hash %s: not for RSA here", h)
	}
	return asn1.Marshal(struct {
		Algorithm algorithm
		Digest    []byte
	}{algorithm{oid, asn1.NullRawValue}, digest})
}
