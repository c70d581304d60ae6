//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The limits of handshakes.
const (
	limitHandshakes = 1 / 0.85 // the best peer's handshakes per CPU second, of Tulle's
	limitStormP99   = 2.0      // p99 of existing traffic beside a storm, of p99 alone
)

// handshakesCommand makes this program a client that only greets.
const handshakesCommand = "handshakes"

// handshakers is how many clients greet at once.
const handshakers = 8

// handshakeResult is what happened.
type handshakeResult struct {
	Done, Failed int64
	// Error is one of the failures.
	Error string
	// Negotiated is what the last one agreed on.
	Suite, Group uint16
	Server       string
	Verified     bool // the server's chain leads to the root
	Tickets      bool
}

func (h handshakeResult) String() string {
	return fmt.Sprintf("TLS 1.3, %s, %s, %s, chain verified: %v, tickets: %v", tls.CipherSuiteName(h.Suite), tls.CurveID(h.Group), h.Server, h.Verified, h.Tickets)
}

// shake runs the client as a child process beside the proxies. args are further ones
// of its command line.
func (r *rig) shake(ctx context.Context, target string, group tls.CurveID, length time.Duration, args ...string) (handshakeResult, error) {
	var res handshakeResult
	self, err := os.Executable()
	if err != nil {
		return res, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{handshakesCommand, "-target", target, "-length", length.String(), "-identity", r.identities(), "-group", strconv.Itoa(int(group))}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return res, fmt.Errorf("handshakes: %w", err)
	}
	if err := json.Unmarshal(out, &res); err != nil {
		return res, err
	}
	if res.Done == 0 {
		return res, fmt.Errorf("no handshake with %s succeeded: %s", target, res.Error)
	}
	return res, nil
}

func handshakesMain(args []string) int {
	fs := flag.NewFlagSet(handshakesCommand, flag.ExitOnError)
	target := fs.String("target", "", "HOST:PORT")
	length := fs.Duration("length", 5*time.Second, "how long")
	ids := fs.String("identity", "", "directory with web.pem, web-key.pem and bundle.pem")
	group := fs.Int("group", int(tls.X25519), "key exchange group, its number in TLS")
	idle := fs.Bool("idle", false, "give way to every other program")
	fs.Parse(args)
	err := setAffinity(otherCPUs())
	if err == nil && *idle {
		// Being nice isn't enough: the kernel would let it go on for some milliseconds.
		err = everyThread(func(id int) error {
			return unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "handshakes:", err)
		return 1
	}
	res, err := handshakes(*target, *ids, tls.CurveID(*group), *length)
	if err != nil {
		fmt.Fprintln(os.Stderr, "handshakes:", err)
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(res)
	return 0
}

// handshakes does full handshakes with mutual TLS, each on a connection of its own,
// for a while.
func handshakes(target, ids string, group tls.CurveID, length time.Duration) (handshakeResult, error) {
	var res handshakeResult
	cert, err := tls.LoadX509KeyPair(filepath.Join(ids, "web.pem"), filepath.Join(ids, "web-key.pem"))
	if err != nil {
		return res, err
	}
	roots := x509.NewCertPool()
	bundle, err := os.ReadFile(filepath.Join(ids, "bundle.pem"))
	if err != nil || !roots.AppendCertsFromPEM(bundle) {
		return res, fmt.Errorf("bundle.pem holds no root (%v)", err)
	}
	var mu sync.Mutex
	var done, failed atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(length)
	for range handshakers {
		all.Go(func() {
			for time.Now().Before(end) {
				cache := &ticketWatch{}
				state, err := handshake(target, &tls.Config{
					Certificates: []tls.Certificate{cert}, ServerName: "8080.cart.default.svc.mesh.local", NextProtos: []string{"tulle-h1", "http/1.1"},
					MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{group}, ClientSessionCache: cache, InsecureSkipVerify: true, // no DNS name; verified below
					VerifyConnection: func(cs tls.ConnectionState) error {
						_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
						return err
					},
				})
				mu.Lock()
				if err != nil {
					failed.Add(1)
					res.Error = err.Error()
				} else {
					done.Add(1)
					res.Suite, res.Group, res.Server, res.Verified, res.Tickets = state.CipherSuite, uint16(state.CurveID), certificateName(state.PeerCertificates[0]), true, cache.put
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	res.Done, res.Failed = done.Load(), failed.Load()
	return res, nil
}

// handshake does one, and waits until the server has seen all of it: in TLS 1.3
// the client's end of it comes first.
func handshake(target string, c *tls.Config) (tls.ConnectionState, error) {
	raw, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	conn := tls.Client(raw, c)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := conn.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	if err := conn.CloseWrite(); err != nil {
		return tls.ConnectionState{}, err
	}
	if err := raw.(*net.TCPConn).CloseWrite(); err != nil {
		return tls.ConnectionState{}, err
	}
	// A server that refuses says so in an alert.
	if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), nil
}

var openssl35 = regexp.MustCompile(`Running on OpenSSL version : OpenSSL (?:3\.(?:[5-9]|\d\d)|[4-9])`)

// haproxyHybrid says whether HAProxy's OpenSSL knows X25519MLKEM768: 3.5 and later.
func haproxyHybrid() bool {
	out, _ := exec.Command("haproxy", "-vv").CombinedOutput()
	return openssl35.Match(out)
}

// inboundProxy starts the named server proxy with mutual TLS, alone. Both groups
// are offered where it knows them.
func (r *rig) inboundProxy(ctx context.Context, name string, hybrid bool) (*hop, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	ids, at := r.identities(), ports[0]
	file := func(name string) string { return filepath.Join(ids, name) }
	curves := "X25519"
	if hybrid {
		curves = "X25519MLKEM768:X25519"
	}
	var p *process
	switch name {
	case "haproxy":
		p, err = r.haproxy(fmt.Sprintf("haproxy-handshakes%d", at), fmt.Sprintf("%s ssl crt %s ca-file %s verify required curves %s", local(at), file("cart-both.pem"), file("bundle.pem"), curves), r.address)
	case "envoy":
		end := &envoyTLS{file("cart.pem"), file("cart-key.pem"), file("bundle.pem"), "[http/1.1]", "[X25519MLKEM768, X25519]"}
		if !hybrid {
			end.curves = "[X25519]"
		}
		p, err = r.envoyProxy(fmt.Sprintf("envoy-handshakes%d", at), at, port(r.address), end, nil, false)
	case "tulle":
		var mesh, state string
		if mesh, err = r.file(fmt.Sprintf("handshakes%d/mesh.yaml", at), fmt.Sprintf(pairMesh, "http", port(r.address), at, at+1, between.tulle)); err != nil {
			return nil, err
		}
		if state, err = r.view(mesh, "cart", ids); err != nil {
			return nil, err
		}
		var env []string // Go offers both by default
		if !hybrid {
			env = tulleEnv
		}
		p, err = spawn(name, pinned(proxyCPU), env, r.proxy, "--state", state, "--loops", "1")
	}
	return started(ctx, name, at, p, err)
}

// identityHandshakes is what a full handshake costs the server's proxy.
func (r *rig) identityHandshakes(ctx context.Context) error {
	fmt.Printf("== identity-handshakes: full mutual handshakes with the server's proxy, P-256 certificates, no tickets; %d clients on fresh connections, with one certificate: Tulle remembers that its chain is right, the others verify it each time\n", handshakers)
	if err := r.certificates(); err != nil {
		return err
	}
	for _, group := range []tls.CurveID{tls.X25519, tls.X25519MLKEM768} {
		hybrid := group == tls.X25519MLKEM768
		names := r.peers("haproxy", "envoy", "tulle")
		if hybrid && r.has("haproxy") && !haproxyHybrid() {
			fmt.Println("haproxy is left out: its OpenSSL is older than 3.5 and knows no X25519MLKEM768")
			names = r.peers("envoy", "tulle")
		}
		ratio := "handshakes-x25519"
		if hybrid {
			ratio = "handshakes-x25519mlkem768"
		}
		if err := r.compareHandshakes(ctx, names, group, ratio); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) compareHandshakes(ctx context.Context, names []string, group tls.CurveID, ratio string) error {
	var hops []*hop
	defer func() { stopAll(hops) }()
	said := map[string]handshakeResult{}
	hybrid := group == tls.X25519MLKEM768
	for i, name := range append(names, reference) {
		var h *hop
		var err error
		if name == reference {
			h, err = r.referenceServer(ctx, hybrid)
		} else {
			h, err = r.inboundProxy(ctx, name, hybrid)
		}
		if err != nil {
			return err
		}
		hops = append(hops, h)
		res, err := r.shake(ctx, h.address, group, min(r.length, time.Second))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Printf("%-10s %v\n", name, res)
		res.Done, res.Failed, res.Error = 0, 0, ""
		said[name] = res
		switch {
		case tls.CurveID(res.Group) != group || res.Suite != tls.TLS_AES_128_GCM_SHA256 || res.Tickets:
			return fmt.Errorf("%s negotiated %v: the figures would not compare", name, res)
		case i > 0 && res != said[names[0]]:
			return fmt.Errorf("%s differs from %s: the figures would not compare", name, names[0])
		}
	}
	load := func(ctx context.Context, address string, length time.Duration) (sample, int64, error) {
		res, err := r.shake(ctx, address, group, length)
		if err == nil && res.Failed > 0 {
			err = fmt.Errorf("%d handshakes failed: %s", res.Failed, res.Error)
		}
		return sample{rate: float64(res.Done) / length.Seconds()}, res.Done, err
	}
	all, err := r.turns(ctx, hops, load, 0, r.length)
	if err != nil {
		return err
	}
	fmt.Printf("%v (%s: a server that does nothing else, for what Tulle's cost is made of)\n  %-10s %24s %20s %14s\n", group, reference, "", "handshakes/CPU second", "µs CPU of each", "handshakes/s")
	best := 0.0
	for _, s := range all {
		each := 1e6 / s.cpu()
		fmt.Printf("  %-10s %24.0f %20.1f %14.0f\n", s.hop.name, each, s.cpu(), s.median(func(x sample) float64 { return x.rate }))
		if s.hop.name != "tulle" && s.hop.name != reference {
			best = max(best, each)
		}
	}
	if t := find(all, "tulle"); t != nil && best > 0 {
		r.bound(ratio, best*t.cpu()/1e6, limitHandshakes)
	} else {
		r.missing = append(r.missing, ratio)
	}
	return nil
}
