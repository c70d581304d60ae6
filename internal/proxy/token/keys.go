package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // for algorithms
	_ "crypto/sha512"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
)

const (
	// MaxKeys bounds the keys of a set, MaxKeySet its text in bytes.
	MaxKeys   = 64
	MaxKeySet = 64 << 10
	// An RSA key of fewer bits can be broken; one of more takes too long.
	minRSA, maxRSA = 2048, 8192
)

// algorithm is a way to sign (RFC 7518, 3.1; RFC 8037; RFC 9864).
type algorithm struct {
	name  string
	hash  crypto.Hash
	curve elliptic.Curve // of ECDSA
	rsa   bool
	pss   bool
}

var algorithms = []algorithm{
	{name: "RS256", hash: crypto.SHA256, rsa: true},
	{name: "RS384", hash: crypto.SHA384, rsa: true},
	{name: "RS512", hash: crypto.SHA512, rsa: true},
	{name: "PS256", hash: crypto.SHA256, rsa: true, pss: true},
	{name: "PS384", hash: crypto.SHA384, rsa: true, pss: true},
	{name: "PS512", hash: crypto.SHA512, rsa: true, pss: true},
	{name: "ES256", hash: crypto.SHA256, curve: elliptic.P256()},
	{name: "ES384", hash: crypto.SHA384, curve: elliptic.P384()},
	{name: "ES512", hash: crypto.SHA512, curve: elliptic.P521()},
	{name: "EdDSA"},
	{name: "Ed25519"},
}

// algorithmOf returns nil when a name is none that is believed: "none", those with
// shared keys and those with SHA-1 among them.
func algorithmOf(name string) *algorithm {
	for i := range algorithms {
		if algorithms[i].name == name {
			return &algorithms[i]
		}
	}
	return nil
}

// KeySet is an issuer's public keys. It is immutable; the zero value has none.
type KeySet struct{ keys []key }

type key struct {
	id, alg string // empty: doesn't say
	public  crypto.PublicKey
}

// Len is how many keys there are.
func (s *KeySet) Len() int { return len(s.keys) }

// ParseKeys reads a JWK set (RFC 7517, 5). Keys that can't verify a signature, or
// mustn't, are left out; why says so for each of them. It fails when the set as a
// whole makes no sense.
func ParseKeys(b []byte) (set *KeySet, why []error, err error) {
	if len(b) > MaxKeySet {
		return nil, nil, fmt.Errorf("a key set of %d bytes is too big, want at most %d", len(b), MaxKeySet)
	}
	o, ok := object(b)
	if !ok {
		return nil, nil, fmt.Errorf("the key set isn't a JSON object, or too large a one")
	}
	list, is := o["keys"].([]any)
	if !is {
		return nil, nil, fmt.Errorf(`the key set has no list "keys"`)
	}
	if len(list) > MaxKeys {
		return nil, nil, fmt.Errorf("%d keys are too many, want at most %d", len(list), MaxKeys)
	}
	set = &KeySet{}
	for i, k := range list {
		parsed, err := parseKey(k)
		if err != nil {
			why = append(why, fmt.Errorf("keys[%d]: %w", i, err))
			continue
		}
		set.keys = append(set.keys, parsed)
	}
	return set, why, nil
}

func parseKey(v any) (k key, err error) {
	o, ok := v.(map[string]any)
	if !ok {
		return k, fmt.Errorf("is no JSON object")
	}
	var kty, use, crv string
	for name, to := range map[string]*string{"kty": &kty, "use": &use, "crv": &crv, "kid": &k.id, "alg": &k.alg} {
		if *to, ok = text(o, name); !ok {
			return k, fmt.Errorf("%s isn't a string", name)
		}
	}
	if use != "" && use != "sig" {
		return k, fmt.Errorf("use is %q, not sig", use)
	}
	if ops, there := o["key_ops"]; there {
		list, _ := ops.([]any)
		if !slices.Contains(list, any("verify")) {
			return k, fmt.Errorf("key_ops doesn't hold verify")
		}
	}
	for _, secret := range []string{"d", "p", "q", "k"} {
		if _, there := o[secret]; there {
			return k, fmt.Errorf("holds %q: a secret that is published is none, and signs for anybody", secret)
		}
	}
	number := func(name string) []byte {
		s, _ := text(o, name)
		b, err := base64.RawURLEncoding.Strict().DecodeString(s)
		if err != nil {
			return nil
		}
		return b
	}
	switch {
	case kty == "RSA":
		k.public, err = rsaKey(number("n"), number("e"))
	case kty == "EC":
		k.public, err = ecKey(crv, number("x"), number("y"))
	case kty == "OKP" && crv == "Ed25519":
		x := number("x")
		if len(x) != ed25519.PublicKeySize {
			return k, fmt.Errorf("x has %d bytes, want %d", len(x), ed25519.PublicKeySize)
		}
		k.public = ed25519.PublicKey(x)
	default:
		return k, fmt.Errorf("kty %q (crv %q) can't be used, want RSA, EC or OKP with Ed25519", kty, crv)
	}
	if err != nil {
		return k, err
	}
	if k.alg != "" && (algorithmOf(k.alg) == nil || !algorithmOf(k.alg).fits(k.public)) {
		return k, fmt.Errorf("alg %q isn't for its kind of key, or can't be used", k.alg)
	}
	return k, nil
}

func rsaKey(n, e []byte) (crypto.PublicKey, error) {
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if bits := modulus.BitLen(); bits < minRSA || bits > maxRSA {
		return nil, fmt.Errorf("an RSA key of %d bits, want %d to %d", bits, minRSA, maxRSA)
	}
	if len(e) > 4 || exponent.Int64() < 3 || exponent.Int64() > 1<<31-1 || exponent.Bit(0) == 0 || modulus.Bit(0) == 0 {
		return nil, fmt.Errorf("no RSA key: its exponent must be odd, from 3 to 2^31-1, and its modulus odd")
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

func ecKey(name string, x, y []byte) (crypto.PublicKey, error) {
	for i := range algorithms {
		c := algorithms[i].curve
		if c == nil || c.Params().Name != name {
			continue
		}
		size := (c.Params().BitSize + 7) / 8
		if len(x) != size || len(y) != size { // RFC 7518, 6.2.1.2: zeros before are written
			return nil, fmt.Errorf("x and y have %d and %d bytes, want %d", len(x), len(y), size)
		}
		public, err := ecdsa.ParseUncompressedPublicKey(c, slices.Concat([]byte{4}, x, y))
		if err != nil {
			return nil, fmt.Errorf("x and y are no point of %s", name)
		}
		return public, nil
	}
	return nil, fmt.Errorf("crv %q isn't known, want P-256, P-384 or P-521", name)
}

// fits says whether the algorithm is for such a key.
func (a *algorithm) fits(public crypto.PublicKey) bool {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return a.rsa
	case *ecdsa.PublicKey:
		return a.curve == k.Curve
	case ed25519.PublicKey:
		return !a.rsa && a.curve == nil
	}
	return false
}

// verify says whether the signature is the key's. a fits the key.
func (k *key) verify(a *algorithm, signed, signature []byte) bool {
	var sum []byte
	if a.hash != 0 {
		h := a.hash.New()
		h.Write(signed)
		sum = h.Sum(nil)
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if a.pss {
			return rsa.VerifyPSS(public, a.hash, sum, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, a.hash, sum, signature) == nil
	case *ecdsa.PublicKey:
		size := (a.curve.Params().BitSize + 7) / 8
		if len(signature) != 2*size { // RFC 7518, 3.4
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(public, sum, r, s)
	case ed25519.PublicKey:
		return ed25519.Verify(public, signed, signature)
	}
	return false
}

// maxTried bounds the keys that one signature is tried with.
const maxTried = 8

// verify finds the key that made a signature. Keys without a name are tried with
// every token, and all that fit when the token names none.
func (s *KeySet) verify(a *algorithm, id string, named bool, signed, signature []byte) (known, ok bool) {
	tried := 0
	for i := range s.keys {
		k := &s.keys[i]
		if !a.fits(k.public) || k.alg != "" && !sameAlgorithm(k.alg, a.name) || named && k.id != "" && k.id != id {
			continue
		}
		if tried++; tried > maxTried {
			break
		}
		if k.verify(a, signed, signature) {
			return true, true
		}
	}
	return tried > 0, false
}

// sameAlgorithm: EdDSA is the old name of what Ed25519 keys do (RFC 9864, 2.2).
func sameAlgorithm(a, b string) bool {
	if a == "Ed25519" {
		a = "EdDSA"
	}
	if b == "Ed25519" {
		b = "EdDSA"
	}
	return a == b
}
