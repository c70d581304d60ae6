package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxFile bounds a key, chain or bundle file, in bytes.
const maxFile = 4 << 20

// NewKey makes a workload's key: ECDSA on P-256.
func NewKey() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// WriteKey writes a private key as PEM (PKCS #8), readable by its owner only.
// Like all writers here it replaces the file whole or not at all.
func WriteKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("write the key %s: %w", path, err)
	}
	return WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// ReadKey reads a private key that WriteKey wrote, an EC key in SEC 1 form or an RSA
// key in PKCS #1 form.
func ReadKey(path string) (crypto.Signer, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("key file %s: holds no PEM block", path)
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		err = fmt.Errorf("holds %q, want PRIVATE KEY", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key file %s: a %T can't sign", path, key)
	}
	return signer, nil
}

// WriteCertificates writes certificates (DER) as PEM, readable by their owner
// only.
func WriteCertificates(path string, certificates [][]byte) error {
	var b bytes.Buffer
	for _, der := range certificates {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Buffer doesn't fail
	}
	return WriteFile(path, b.Bytes(), 0o600)
}

// ReadCertificates reads a PEM file of one or more certificates, as DER.
func ReadCertificates(path string) ([][]byte, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	var list [][]byte
	for {
		var block *pem.Block
		block, b = pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("certificate file %s: holds %q, want CERTIFICATE", path, block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("certificate file %s: %w", path, err)
		}
		list = append(list, block.Bytes)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("certificate file %s: holds no certificate", path)
	}
	return list, nil
}

// ReadSVID reads a chain and its key. Expired ones are read too.
func ReadSVID(chainPath, keyPath string) (*SVID, error) {
	chain, err := ReadCertificates(chainPath)
	if err != nil {
		return nil, err
	}
	key, err := ReadKey(keyPath)
	if err != nil {
		return nil, err
	}
	s, err := NewSVID(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", chainPath, keyPath, err)
	}
	return s, nil
}

// The files of an identity directory (`tulle view --identity DIR`): BundleFile
// for all, and a chain and a key a proxy.
const BundleFile = "bundle.pem"

// ChainFile is the name of a proxy's certificate chain.
func ChainFile(name string) string { return name + ".pem" }

// KeyFile is the name of a proxy's key.
func KeyFile(name string) string { return name + "-key.pem" }

// ReadDir reads a proxy's SVID and the roots of its trust domain from an
// identity directory.
func ReadDir(dir, name string) (*SVID, *Bundle, error) {
	s, err := ReadSVID(filepath.Join(dir, ChainFile(name)), filepath.Join(dir, KeyFile(name)))
	if err != nil {
		return nil, nil, err
	}
	roots, err := ReadCertificates(filepath.Join(dir, BundleFile))
	if err != nil {
		return nil, nil, err
	}
	b, err := NewBundle(map[TrustDomain][][]byte{s.ID.TrustDomain: roots})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", filepath.Join(dir, BundleFile), err)
	}
	return s, b, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: is bigger than %d bytes", path, maxFile)
	}
	return b, nil
}

// WriteFile replaces a file so that after a crash it is the old one or the new one.
func WriteFile(path string, b []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
