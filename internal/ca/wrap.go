package ca

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tulle.dev/tulle/internal/identity"
)

// This file is how a CA's keys lie encrypted on the disk: with a wrapping key that
// comes from elsewhere, so that who gets the directory, or a backup of it, has
// nothing.

const (
	// wrappedType is the PEM type of an encrypted key: a nonce and the PKCS #8 form
	// sealed with AES-256-GCM, the key's name as additional data.
	wrappedType = "TULLE ENCRYPTED PRIVATE KEY"
	// minWrapping is the least size of a wrapping key's file, in bytes.
	minWrapping = 32
	maxWrapping = 4096
)

// Wrapping is a key that encrypts keys.
type Wrapping struct{ aead cipher.AEAD }

// ReadWrapping reads a wrapping key: a file of 32 to 4096 bytes, of which the
// SHA-256 sum is the key. It should hold 32 random bytes or their text.
func ReadWrapping(path string) (*Wrapping, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the wrapping key: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the wrapping key %s can be read by others (%s): chmod 600 it", path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the wrapping key: %w", err)
	}
	if len(data) < minWrapping || len(data) > maxWrapping {
		return nil, fmt.Errorf("the wrapping key %s has %d bytes, want %d to %d: head -c 32 /dev/urandom makes one", path, len(data), minWrapping, maxWrapping)
	}
	return newWrapping(data)
}

func newWrapping(data []byte) (*Wrapping, error) {
	sum := sha256.Sum256(data)
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Wrapping{aead}, nil
}

// CredentialName is the systemd credential that holds a wrapping key.
const CredentialName = "tulle-ca-wrapping-key"

// Credential returns the path of the systemd credential, or "" when the service
// was given none (systemd.exec, LoadCredential=).
func Credential(getenv func(string) string) string {
	dir := getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	path := filepath.Join(dir, CredentialName)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// WrappedFiles is Files with encrypted keys. Keys that lie there in the clear are
// read, and encrypted then.
type WrappedFiles struct {
	Files
	Wrapping *Wrapping
}

// Load implements Keys.
func (f WrappedFiles) Load(name string) (crypto.Signer, [][]byte, error) {
	path := filepath.Join(f.Dir, identity.KeyFile(name))
	data, err := os.ReadFile(path)
	if err != nil {
		return f.Files.Load(name) // says what is missing
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != wrappedType {
		key, chain, err := f.Files.Load(name)
		if err == nil {
			err = f.Save(name, key, chain)
		}
		return key, chain, err
	}
	chain, err := identity.ReadCertificates(filepath.Join(f.Dir, identity.ChainFile(name)))
	if err != nil {
		return nil, nil, err
	}
	n := f.Wrapping.aead.NonceSize()
	if len(block.Bytes) < n {
		return nil, nil, fmt.Errorf("%s: is cut short", path)
	}
	der, err := f.Wrapping.aead.Open(nil, block.Bytes[:n], block.Bytes[n:], []byte(name))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: can't be decrypted: is this the wrapping key it was encrypted with?", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s: a %T can't sign", path, parsed)
	}
	return key, chain, nil
}

// Save implements Keys.
func (f WrappedFiles) Save(name string, key crypto.Signer, chain [][]byte) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return fmt.Errorf("the CA's directory: %w", err)
	}
	if err := identity.WriteCertificates(filepath.Join(f.Dir, identity.ChainFile(name)), chain); err != nil {
		return err
	}
	nonce := make([]byte, f.Wrapping.aead.NonceSize())
	rand.Read(nonce)
	sealed := f.Wrapping.aead.Seal(nonce, nonce, der, []byte(name))
	return identity.WriteFile(filepath.Join(f.Dir, identity.KeyFile(name)), pem.EncodeToMemory(&pem.Block{Type: wrappedType, Bytes: sealed}), 0o600)
}

// Encrypted reports whether a directory has an encrypted key: to open it without
// the wrapping key would make a new CA.
func Encrypted(dir string) (bool, error) {
	paths, err := filepath.Glob(filepath.Join(dir, identity.KeyFile("*")))
	if err != nil {
		return false, err
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		if block, _ := pem.Decode(data); block != nil && block.Type == wrappedType {
			return true, nil
		}
	}
	return false, nil
}
