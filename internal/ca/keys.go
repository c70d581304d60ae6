package ca

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"tulle.dev/tulle/internal/identity"
)

// Keys is where a CA keeps its keys and certificates. Names are file names
// without an ending ("root", "issuer"). Safe for concurrent use.
type Keys interface {
	// Load returns a key and its chain (DER, own certificate first), or an error
	// that is fs.ErrNotExist when there is neither.
	Load(name string) (crypto.Signer, [][]byte, error)
	// Save keeps both, in place of what was there.
	Save(name string, key crypto.Signer, chain [][]byte) error
	// Remove forgets both; it is no error when there is neither.
	Remove(name string) error
	// LoadNote and SaveNote keep a few bytes that are no secret, all of them or
	// the ones before.
	LoadNote(name string) ([]byte, error)
	SaveNote(name string, data []byte) error
}

// Files keeps keys in a directory (made with mode 0700), as NAME-key.pem and
// NAME.pem with mode 0600 for keys.
type Files struct{ Dir string }

// Load implements Keys.
func (f Files) Load(name string) (crypto.Signer, [][]byte, error) {
	keyPath, chainPath := filepath.Join(f.Dir, identity.KeyFile(name)), filepath.Join(f.Dir, identity.ChainFile(name))
	_, keyErr := os.Stat(keyPath)
	_, chainErr := os.Stat(chainPath)
	switch {
	case errors.Is(keyErr, fs.ErrNotExist) && errors.Is(chainErr, fs.ErrNotExist):
		return nil, nil, fs.ErrNotExist
	case errors.Is(keyErr, fs.ErrNotExist), errors.Is(chainErr, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("%s holds one of %s and %s, not both: bring the other back, or move this one away to start a new CA",
			f.Dir, identity.KeyFile(name), identity.ChainFile(name))
	}
	key, err := identity.ReadKey(keyPath)
	if err != nil {
		return nil, nil, err
	}
	chain, err := identity.ReadCertificates(chainPath)
	if err != nil {
		return nil, nil, err
	}
	return key, chain, nil
}

// Save implements Keys. The certificate goes first: after a crash in between
// the old key doesn't fit it, which Open notices, and makes another issuer. (A
// root is saved once, before anything depends on it.)
func (f Files) Save(name string, key crypto.Signer, chain [][]byte) error {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return fmt.Errorf("the CA's directory: %w", err)
	}
	if err := identity.WriteCertificates(filepath.Join(f.Dir, identity.ChainFile(name)), chain); err != nil {
		return err
	}
	return identity.WriteKey(filepath.Join(f.Dir, identity.KeyFile(name)), key)
}

// Remove implements Keys. The key goes first.
func (f Files) Remove(name string) error {
	for _, file := range []string{identity.KeyFile(name), identity.ChainFile(name)} {
		if err := os.Remove(filepath.Join(f.Dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// LoadNote implements Keys: NAME.json in the directory.
func (f Files) LoadNote(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(f.Dir, name+".json"))
}

// SaveNote implements Keys.
func (f Files) SaveNote(name string, data []byte) error {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return fmt.Errorf("the CA's directory: %w", err)
	}
	return identity.WriteFile(filepath.Join(f.Dir, name+".json"), data, 0o644)
}

// MemoryKeys keeps keys in memory, for tests. The zero value is ready.
type MemoryKeys struct {
	mu    sync.Mutex
	held  map[string]memoryPair
	notes map[string][]byte
}

type memoryPair struct {
	key   crypto.Signer
	chain [][]byte
}

// Load implements Keys.
func (m *MemoryKeys) Load(name string) (crypto.Signer, [][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.held[name]
	if !ok {
		return nil, nil, fs.ErrNotExist
	}
	return p.key, p.chain, nil
}

// Save implements Keys.
func (m *MemoryKeys) Save(name string, key crypto.Signer, chain [][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == nil {
		m.held = map[string]memoryPair{}
	}
	m.held[name] = memoryPair{key, chain}
	return nil
}

// Remove implements Keys.
func (m *MemoryKeys) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, name)
	return nil
}

// LoadNote implements Keys.
func (m *MemoryKeys) LoadNote(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if data, ok := m.notes[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

// SaveNote implements Keys.
func (m *MemoryKeys) SaveNote(name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.notes == nil {
		m.notes = map[string][]byte{}
	}
	m.notes[name] = data
	return nil
}
