//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/identity"
	wire "tulle.dev/tulle/internal/wire/control"
)

// The limits of many proxies that ask for a certificate at once.
const (
	limitIssueSeconds = 30.0
	limitIssueMB      = 1000.0
)

// issueProxies is how many ask; fewer when measurements are short.
const issueProxies = 5000

// issueCommand makes this program many proxies that ask for a certificate.
const issueCommand = "issue"

// issueResult is what happened.
type issueResult struct {
	Served  int
	Errors  map[string]int
	Seconds float64 // until the last one was served
	P50     float64 // seconds, from the common beginning
}

// plane is a running control plane.
type plane struct {
	proc   *process
	dir    string
	listen string
	api    *client.Client
}

// controlPlane starts one with a store of its own, and waits until it answers.
func (r *rig) controlPlane(ctx context.Context) (*plane, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(r.dir, fmt.Sprintf("plane%d", ports[0]))
	var all unix.CPUSet
	all.Fill()
	c := &plane{dir: dir, listen: local(ports[0])}
	c.proc, err = spawn("tulle control-plane", &all, nil, r.tulle, "control-plane", "--data-dir", dir, "--listen", c.listen, "--dashboard", "none", "--log-level", "warn")
	if err != nil {
		return nil, err
	}
	c.api = client.New(client.Config{Socket: filepath.Join(dir, "control.sock")})
	for {
		asked, cancel := context.WithTimeout(ctx, time.Second)
		_, err := c.api.Identity(asked)
		cancel()
		if err == nil {
			return c, nil
		}
		select {
		case <-c.proc.done:
			return nil, fmt.Errorf("the control plane ended: %s", c.proc.said)
		case <-ctx.Done():
			c.stop()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(c.proc.began) > time.Minute {
			c.stop()
			return nil, fmt.Errorf("the control plane doesn't answer: %w\n%s", err, c.proc.said)
		}
	}
}

func (c *plane) stop() {
	c.api.Close()
	c.proc.stop()
}

// peak is the most memory that it and its children had resident, in MB.
func (c *plane) peak() float64 {
	total := peakBytes(c.proc.pid())
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", c.proc.pid()))
	for f := range strings.FieldsSeq(string(children)) {
		var pid int
		fmt.Sscan(f, &pid)
		total += peakBytes(pid)
	}
	return float64(total) / 1e6
}

func peakBytes(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return field(b, "VmHWM") << 10
}

// identityIssue is many proxies that ask for their first certificate at once.
func (r *rig) identityIssue(ctx context.Context) error {
	n := issueProxies
	if r.length < 2*time.Second {
		n /= 10
	}
	fmt.Printf("== identity-issue: %d proxies ask one control plane for a certificate at once, each with a token, key and TLS connection of its own; all on this machine\n", n)
	if !r.has("tulle") {
		return nil
	}
	c, err := r.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer c.stop()
	tokens := make([]string, n)
	if err := parallel(n, 64, func(i int) error {
		t, err := c.api.CreateJoinToken(ctx, client.JoinTokenRequest{Identity: fmt.Sprintf("default/proxy-%d", i), TTL: "1h"})
		if err == nil {
			tokens[i] = t.Token
		}
		return err
	}); err != nil {
		return err
	}
	before := c.peak()
	file, err := r.file("tokens", strings.Join(tokens, "\n"))
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, issueCommand, "-address", c.listen, "-tokens", file)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", issueCommand, err)
	}
	var res issueResult
	if err := json.Unmarshal(out, &res); err != nil {
		return err
	}
	for reason, k := range res.Errors {
		fmt.Printf("  %d were refused: %s\n", k, reason)
	}
	fmt.Printf("  %d served, the last after %.1f s, half of them after %.1f s; the control plane had at most %.0f MB resident, before that %.0f MB (its store included)\n", res.Served, res.Seconds, res.P50, c.peak(), before)
	r.bound("issue-seconds", res.Seconds, limitIssueSeconds)
	r.bound("issue-refused", float64(n-res.Served), 0)
	r.bound("issue-control-plane-mb", c.peak(), limitIssueMB)
	return nil
}

// parallel calls f for 0 to n-1, so many at a time.
func parallel(n, at int, f func(i int) error) error {
	next := make(chan int)
	errs := make(chan error, at)
	for range at {
		go func() {
			var err error
			for i := range next {
				if err == nil {
					err = f(i)
				}
			}
			errs <- err
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	var err error
	for range at {
		err = errors.Join(err, <-errs)
	}
	return err
}

func issueMain(args []string) int {
	fs := flag.NewFlagSet(issueCommand, flag.ExitOnError)
	address := fs.String("address", "", "HOST:PORT of the control plane")
	file := fs.String("tokens", "", "file with a join token on each line")
	fs.Parse(args)
	res, err := askAtOnce(*address, *file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "issue:", err)
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(res)
	return 0
}

// asker is one simulated proxy.
type asker struct {
	token identity.JoinToken
	text  string
	key   crypto.Signer
	csr   []byte
	took  time.Duration
	err   error
}

func askAtOnce(address, file string) (issueResult, error) {
	res := issueResult{Errors: map[string]int{}}
	f, err := os.Open(file)
	if err != nil {
		return res, err
	}
	defer f.Close()
	var all []*asker
	for lines := bufio.NewScanner(f); lines.Scan(); {
		a := &asker{text: lines.Text()}
		if a.token, err = identity.ParseJoinToken(a.text); err != nil {
			return res, err
		}
		if a.key, err = identity.NewKey(); err != nil {
			return res, err
		}
		if a.csr, err = x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, a.key); err != nil {
			return res, err
		}
		all = append(all, a)
	}
	var running sync.WaitGroup
	begin := time.Now()
	for _, a := range all {
		running.Go(func() {
			a.err = a.ask(address)
			a.took = time.Since(begin)
		})
	}
	running.Wait()
	var took []float64
	for _, a := range all {
		if a.err != nil {
			res.Errors[a.err.Error()]++
			continue
		}
		res.Served++
		took = append(took, a.took.Seconds())
		res.Seconds = max(res.Seconds, a.took.Seconds())
	}
	res.P50 = median(took)
	return res, nil
}

// bytesCodec hands messages over as bytes: internal/wire/control encodes them.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// askTimeout is longer than a proxy waits, so that what is late is seen.
const askTimeout = 2 * time.Minute

// ask asks for a certificate as a proxy does at its start, once.
func (a *asker) ask(address string) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(identity.PinnedConfig(a.token.Pin, time.Now, "h2"))),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{})), grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: askTimeout}))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	in := wire.EncodeCertifyRequest(&wire.CertifyRequest{CSR: a.csr, JoinToken: a.text})
	var out []byte
	if err := conn.Invoke(ctx, wire.MethodCertify, &in, &out); err != nil {
		return err
	}
	answer, err := wire.DecodeCertifyResponse(out)
	if err != nil {
		return err
	}
	_, err = identity.NewSVID(answer.Chain, a.key)
	return err
}
