package signer

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
)

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// lines collects a log.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve runs a signer; its log and a client come back.
func serve(t *testing.T, c Config) (path string, log *lines) {
	t.Helper()
	dir, err := os.MkdirTemp("", "signer")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	log = new(lines)
	c.Log = slog.New(slog.NewTextHandler(log, nil))
	if c.UID == 0 {
		c.UID = uint32(os.Getuid())
	}
	l, err := Listen(path, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, c) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return path, log
}

// Keys of every kind sign certificates through it.
func TestSigns(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := []Key{{"ec", newKey(t)}, {"ed", ed}, {"rsa", r}}
	path, log := serve(t, Config{Keys: keys})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info.Mode(), err)
	}
	c := NewClient(path)
	defer c.Close()
	listed, err := c.Keys(t.Context())
	if err != nil || len(listed) != 3 || listed[0].Name != "ec" {
		t.Fatalf("%v %v", listed, err)
	}
	for i, k := range keys {
		remote, err := c.Key(listed[i].Key)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), remote)
		if err != nil {
			t.Errorf("%s: %v", k.Name, err)
			continue
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil || cert.CheckSignatureFrom(cert) != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
		if !strings.Contains(log.String(), "msg=signed key="+k.Name) {
			t.Errorf("%s isn't in the log", k.Name)
		}
	}
	if err := c.Has(t.Context(), r.Public()); err != nil {
		t.Error(err)
	}
	if err := c.Has(t.Context(), newKey(t).Public()); err == nil || !strings.Contains(err.Error(), "none is the certificate's") {
		t.Errorf("a key that it hasn't: %v", err)
	}
	var all sync.WaitGroup
	for range 50 { // more than there may be connections
		all.Go(func() {
			k, _ := c.Key(listed[0].Key)
			sum := sha256.Sum256([]byte("x"))
			s, err := k.Sign(nil, sum[:], crypto.SHA256)
			if err != nil || !ecdsa.VerifyASN1(listed[0].Key.(*ecdsa.PublicKey), sum[:], s) {
				t.Errorf("side by side: %v", err)
			}
		})
	}
	all.Wait()
}

func TestRefusals(t *testing.T) {
	path, log := serve(t, Config{Keys: []Key{{"ec", newKey(t)}}})
	c := NewClient(path)
	defer c.Close()
	sum := sha256.Sum256(nil)
	k, _ := c.Key(newKey(t).Public())
	if _, err := k.Sign(nil, sum[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "no such key") || errors.Is(err, ErrUnavailable) {
		t.Errorf("another key: %v", err)
	}
	if _, err := k.Sign(nil, sum[:4], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "4 bytes") {
		t.Errorf("a short digest: %v", err)
	}
	if _, err := k.Sign(nil, sum[:], &rsa.PSSOptions{Hash: crypto.SHA256}); err == nil || !strings.Contains(err.Error(), "PSS") {
		t.Errorf("RSA-PSS: %v", err)
	}
	if _, err := k.Sign(nil, sum[:20], crypto.SHA1); err == nil || !strings.Contains(err.Error(), "SHA-1") {
		t.Errorf("SHA-1: %v", err)
	}
	// What isn't a message ends the connection, and nothing else.
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", strings.Repeat("x", maxRequest+1), `{"op":"list"} {"op":"list"}` + "\n", `{"op":"list","more":1}` + "\n"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(text))
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.20q was answered: %d %v", text, n, err)
		}
		conn.Close()
	}
	if !strings.Contains(log.String(), "can't be read") {
		t.Error("nothing of it is in the log")
	}
	if _, err := c.Keys(t.Context()); err != nil {
		t.Error(err)
	}
}

// Another user's process is sent away. (Root may always ask.)
func TestAnotherUser(t *testing.T) {
	config := Config{UID: 1000}
	for uid, want := range map[uint32]bool{1000: true, 0: true, 1001: false} {
		if config.allows(uid) != want {
			t.Errorf("uid %d: want %v", uid, want)
		}
	}
	path, log := serve(t, Config{Keys: []Key{{"ec", newKey(t)}}, UID: uint32(os.Getuid()) + 1})
	c := NewClient(path)
	defer c.Close()
	_, err := c.Keys(t.Context())
	if os.Getuid() == 0 {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(log.String(), "sent away") {
		t.Errorf("%v: %s", err, log)
	}
}

func TestRate(t *testing.T) {
	path, log := serve(t, Config{Keys: []Key{{"ec", newKey(t)}}, Rate: 1})
	c := NewClient(path)
	defer c.Close()
	listed, err := c.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k, _ := c.Key(listed[0].Key)
	sum := sha256.Sum256(nil)
	for range burst {
		if _, err := k.Sign(nil, sum[:], crypto.SHA256); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Sign(nil, sum[:], crypto.SHA256); !errors.Is(err, ErrUnavailable) || !strings.Contains(log.String(), "too many signatures") {
		t.Errorf("one more: %v", err)
	}
}

// A signer that is away is said to be; one that came back is asked again.
func TestAway(t *testing.T) {
	key := newKey(t)
	c := NewClient(filepath.Join(t.TempDir(), "nobody"))
	defer c.Close()
	k, _ := c.Key(key.Public())
	sum := sha256.Sum256(nil)
	if _, err := k.Sign(nil, sum[:], crypto.SHA256); !errors.Is(err, ErrUnavailable) {
		t.Errorf("nobody there: %v", err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	for i := range 2 {
		l, err := Listen(path, uint32(os.Getuid()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(path, uint32(os.Getuid())); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("a second: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Serve(ctx, l, Config{Keys: []Key{{"ec", key}}, UID: uint32(os.Getuid()), Log: slog.New(slog.DiscardHandler)})
		}()
		if i == 0 {
			c = NewClient(path)
			defer c.Close()
			k, _ = c.Key(key.Public())
		}
		if _, err := k.Sign(nil, sum[:], crypto.SHA256); err != nil {
			t.Errorf("round %d: %v", i, err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	file := filepath.Join(dir, "file")
	os.WriteFile(file, []byte("precious"), 0o600)
	if _, err := Listen(file, uint32(os.Getuid())); err == nil {
		t.Error("a file was replaced by the socket")
	}
}

// FuzzRequest: whatever comes, there is an answer or an error, and only a whole
// request signs.
func FuzzRequest(f *testing.F) {
	key, _ := identity.NewKey()
	id, _ := KeyID(key.Public())
	sum := sha256.Sum256(nil)
	good, _ := json.Marshal(request{Op: opSign, Key: id, Hash: "SHA-256", Digest: sum[:]})
	f.Add(append(good, '\n'))
	f.Add([]byte("{\"op\":\"list\"}\n"))
	f.Add([]byte("{\"op\":\"sign\",\"digest\":\"\"}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var q request
		if line(bufio.NewReaderSize(strings.NewReader(string(data)), maxRequest), &q) != nil || q.Op != opSign {
			return
		}
		h, err := q.check()
		if err == nil && h != 0 && len(q.Digest) != h.Size() || err == nil && h == 0 && len(q.Digest) > maxMessage {
			t.Errorf("%q: would sign %d bytes for %v", data, len(q.Digest), h)
		}
	})
}
