package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/signer"
)

// keyFile makes a key file and returns --key's value for it.
func keyFile(t *testing.T, name string, mode os.FileMode) string {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name+".pem")
	if err := identity.WriteKey(path, key); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return name + "=" + path
}

func try(t *testing.T, ctx context.Context, args ...string) (string, error) {
	t.Helper()
	f, err := parse(args, io.Discard)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = run(ctx, f, &out, slog.New(slog.DiscardHandler))
	return out.String(), err
}

func TestFlags(t *testing.T) {
	good := keyFile(t, "root", 0o600)
	for want, args := range map[string][]string{
		"there is no key":        {"--socket", "s"},
		"--socket is missing":    {"--key", good},
		"want NAME=FILE":         {"--key", "root", "--list"},
		"can be read by others":  {"--key", keyFile(t, "root", 0o644), "--list"},
		"no such file":           {"--key", "root=" + filepath.Join(t.TempDir(), "none"), "--list"},
		"no key of that name":    {"--key", good, "--certify-root", "other"},
		"--trust-domain":         {"--key", good, "--certify-root", "root", "--trust-domain", "A b"},
		"only flags":             {"--key", good, "list"},
		"--rate":                 {"--key", good, "--rate", "0"},
		"--pkcs11-module":        {"--pkcs11-module", "/nowhere.so", "--list"},
		"flag provided but not ": {"--pin", "1234"},
	} {
		if out, err := try(t, t.Context(), args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", args, err, want)
		} else if out != "" {
			t.Errorf("%v: printed %q", args, out)
		}
	}
}

// What is listed is what is served, and a root that is certified is the key's.
func TestFiles(t *testing.T) {
	one, two := keyFile(t, "root", 0o600), keyFile(t, "issuer", 0o600)
	listed, err := try(t, t.Context(), "--key", one, "--key", two, "--list")
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode([]byte(listed))
	if block == nil || block.Headers["Name"] != "root" || !strings.Contains(string(rest), "Name: issuer") {
		t.Fatalf("listed:\n%s", listed)
	}
	certified, err := try(t, t.Context(), "--key", one, "--certify-root", "root", "--trust-domain", "corp.example")
	if err != nil {
		t.Fatal(err)
	}
	der, _ := pem.Decode([]byte(certified))
	root, err := x509.ParseCertificate(der.Bytes)
	if err != nil || root.CheckSignatureFrom(root) != nil || root.URIs[0].String() != "spiffe://corp.example" || !bytes.Equal(root.RawSubjectPublicKeyInfo, block.Bytes) {
		t.Errorf("root: %v %v", root, err)
	}
	dir, err := os.MkdirTemp("", "signer")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := try(t, ctx, "--key", one, "--key", two, "--socket", socket)
		done <- err
	}()
	c := signer.NewClient(socket)
	defer c.Close()
	for err = c.Has(ctx, root.PublicKey); err != nil; err = c.Has(ctx, root.PublicKey) {
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
