package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// shownIdentity is what `tulle identity` says.
type shownIdentity struct {
	UniqueID string `json:"unique_id"`
	Serial   string `json:"serial"`
}

func (m *mesh) identity(workload string) (i shownIdentity) {
	m.t.Helper()
	if out := m.tulle("identity", workload, "-o", "json"); json.Unmarshal([]byte(out), &i) != nil || i.UniqueID == "" {
		m.t.Fatalf("the identity of %s: %s", workload, out)
	}
	return i
}

// knownAs reports whether an endpoint of echo with a unique id may be called.
func (m *mesh) knownAs(unique string) func() bool {
	return func() bool {
		out, err := m.try("diagnostics", "endpoints", "echo", "-o", "json")
		return err == nil && strings.Contains(out, unique)
	}
}

// proxyMetrics is what a workload's proxy counts, control plane or no.
func (m *mesh) proxyMetrics(workload string) string {
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(m.dir, "workloads", workload, "admin.sock"))
	}}}
	defer c.CloseIdleConnections()
	resp, err := c.Get("http://proxy/metrics")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// impostor answers at an address with a certificate that proves the right identity,
// and counts.
type impostor struct {
	met   atomic.Int64 // connections that wanted TLS
	bytes atomic.Int64 // what it was sent inside
	stop  func()
}

func newImpostor(t *testing.T, address, chain, key string) *impostor {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	eventually(t, "the address is free: "+address, func() bool {
		l, err = net.Listen("tcp", address)
		return err == nil
	})
	i := &impostor{}
	var all sync.WaitGroup
	i.stop = func() {
		l.Close()
		all.Wait()
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"tulle-h2", "tulle-h1", "tulle-tcp"}, ClientAuth: tls.RequestClientCert}
	all.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			i.met.Add(1)
			all.Go(func() {
				defer raw.Close()
				raw.SetDeadline(time.Now().Add(patience))
				c := tls.Server(raw, config)
				n, _ := io.Copy(io.Discard, c)
				i.bytes.Add(n)
			})
		}
	})
	return i
}

// The address of a workload that is gone comes to another one with the same
// identity, while nobody can tell the callers: it is sent nothing, and no request
// fails.
func TestAddressReused(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	one := m.server("one")
	m.server("two")
	three := m.server("three")
	m.ready("echo", 3)
	address, gone := m.meshAddress("one"), m.identity("one")
	if other := m.identity("three"); other.UniqueID == gone.UniqueID {
		t.Fatalf("two workloads have the unique id %s", gone.UniqueID)
	}
	for _, w := range []string{"one", "two", "three"} {
		eventually(t, w+" is known by its unique id", m.knownAs(m.identity(w).UniqueID))
	}
	load := m.load(rate, 10*time.Minute)
	eventually(t, "requests are answered", func() bool {
		return strings.Contains(m.proxyMetrics("load"), `tulle_requests_total{direction="outbound",service="echo.default:8080",peer="",tls="mutual",status="200"}`)
	})
	// Its files go with its directory.
	files := t.TempDir()
	for _, name := range []string{"svid.pem", "key.pem"} {
		b, err := os.ReadFile(filepath.Join(m.dir, "workloads", "three", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(files, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.control.kill()
	var ends sync.WaitGroup
	ends.Go(one.stop)
	ends.Go(three.stop)
	ends.Wait()
	i := newImpostor(t, address, filepath.Join(files, "svid.pem"), filepath.Join(files, "key.pem"))
	// Connections that were refused before may have had the endpoint left out for a
	// while, a minute at most.
	for deadline := time.Now().Add(6 * patience); i.met.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	eventually(t, "the refusal is counted", func() bool { return strings.Contains(m.proxyMetrics("load"), `reason="wrong_workload"`) })
	lines := func() int {
		log, err := os.ReadFile(filepath.Join(m.dir, "workloads", "load", "proxy.log"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(log), "reason=wrong_workload")
	}
	eventually(t, "the caller's log has a line", func() bool { return lines() > 0 })
	if n := lines(); n != 1 {
		t.Errorf("the caller's log has %d lines", n)
	}
	load.stop()
	load.result(patience).noneFailed(t, rate)
	i.stop()
	if i.met.Load() == 0 || i.bytes.Load() != 0 {
		t.Errorf("the other workload was met %d times and sent %d bytes", i.met.Load(), i.bytes.Load())
	}
	// With a control plane it is another workload at another address, with an id of
	// its own.
	m.startControl()
	m.server("one")
	m.ready("echo", 2)
	again := m.identity("one")
	if again.UniqueID == gone.UniqueID {
		t.Errorf("another run has the unique id of the one before")
	}
	eventually(t, "its unique id is known", m.knownAs(again.UniqueID))
}

// A workload keeps its unique id while its certificates change every half minute,
// and when its proxy is started again; no request fails.
func TestUniqueIDStays(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t, `
apiVersion: tulle.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec: {certificateTTL: 1m}
`)
	m.server("one")
	m.server("two")
	m.ready("echo", 2)
	before := map[string]shownIdentity{"one": m.identity("one"), "two": m.identity("two")}
	const length = 45 * time.Second
	load := m.load(rate, length)
	pid := m.proxyPID("two")
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil { // `tulle run` starts it again
		t.Fatal(err)
	}
	eventually(t, "the proxy is another process", func() bool { return syscall.Kill(pid, 0) != nil })
	m.ready("echo", 2)
	if after := m.identity("two"); after.UniqueID != before["two"].UniqueID {
		t.Errorf("its proxy was started again: the unique id is %s, was %s", after.UniqueID, before["two"].UniqueID)
	}
	load.result(length+time.Minute).noneFailed(t, int(length/time.Second)*rate*9/10)
	for w, was := range before {
		after := m.identity(w)
		if after.Serial == was.Serial || after.UniqueID != was.UniqueID {
			t.Errorf("%s: %+v, was %+v: want another certificate with the same unique id", w, after, was)
		}
		eventually(t, w+" is known by its unique id", m.knownAs(was.UniqueID))
	}
	if n := strings.Count(m.proxyMetrics("one")+m.proxyMetrics("two"), "wrong_workload"); n != 0 {
		t.Errorf("somebody was taken for another workload")
	}
}
