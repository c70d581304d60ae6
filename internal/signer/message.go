package signer

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

const (
	// maxRequest and maxAnswer bound a line, in bytes, newline included.
	maxRequest = 4096
	maxAnswer  = 64 << 10
	// maxKeys bounds what a signer has.
	maxKeys = 32
	// maxMessage bounds what is signed without a hash (Ed25519 signs the message
	// itself: a certificate's body), in bytes.
	maxMessage = 2048
)

// Operations.
const (
	opList = "list"
	opSign = "sign"
)

// request is what a client asks.
type request struct {
	Op string `json:"op"`
	// Key is the hex SHA-256 sum of the key's SubjectPublicKeyInfo.
	Key string `json:"key,omitempty"`
	// Hash is SHA-256, SHA-384, SHA-512, or empty for a key that takes the message
	// itself.
	Hash string `json:"hash,omitempty"`
	// Digest is of the size of that hash.
	Digest []byte `json:"digest,omitempty"`
}

// answer is what the server says to it.
type answer struct {
	Error string `json:"error,omitempty"`
	// Again says that it may be asked again later.
	Again     bool     `json:"again,omitempty"`
	Keys      []keyDoc `json:"keys,omitempty"`
	Signature []byte   `json:"signature,omitempty"`
}

type keyDoc struct {
	Name   string `json:"name"`
	Public []byte `json:"public"` // SubjectPublicKeyInfo, DER
}

var hashes = map[string]crypto.Hash{"": 0, "SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// KeyID is how a key is named: the hex SHA-256 sum of its SubjectPublicKeyInfo.
func KeyID(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// check says what is wrong with a request to sign.
func (r *request) check() (crypto.Hash, error) {
	h, ok := hashes[r.Hash]
	switch {
	case !ok:
		return 0, fmt.Errorf("hash %q: want SHA-256, SHA-384, SHA-512 or none", r.Hash)
	case h != 0 && len(r.Digest) != h.Size():
		return 0, fmt.Errorf("a digest of %d bytes: %s has %d", len(r.Digest), r.Hash, h.Size())
	case h == 0 && (len(r.Digest) == 0 || len(r.Digest) > maxMessage):
		return 0, fmt.Errorf("a message of %d bytes: want 1 to %d", len(r.Digest), maxMessage)
	}
	return h, nil
}

// line reads one line and parses it.
func line(r *bufio.Reader, into any) error {
	data, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return errors.New("a line is longer than it may be")
	}
	if err != nil {
		return err
	}
	return parse(data, into)
}

// parse is strict: what isn't understood isn't answered.
func parse(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("not a message: %w", err)
	}
	if rest := strings.TrimSpace(string(data[d.InputOffset():])); rest != "" {
		return errors.New("not a message: something follows it on its line")
	}
	return nil
}
