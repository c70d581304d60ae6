//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The limits of HTTP/2: shares of a peer's CPU per request, and of the better
// peer's p99 at the same rate.
const (
	limitHTTP2      = 0.90
	limitHTTP2Envoy = 0.25
	limitHTTP2Rate  = 0.75
	limitHTTP2P99   = 1.00
)

// Full load of HTTP/2: connections, and streams on each.
const (
	h2Conns   = 10
	h2Streams = 10
)

// serveHTTP2 starts nghttpd twice: one answers with 100 bytes, the other as a
// gRPC server would, with a message of 100 bytes and a status in the trailers.
func (r *rig) serveHTTP2(ctx context.Context) error {
	if r.origin2 != nil {
		return nil
	}
	for _, name := range []string{"h2load", "nghttpd"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is missing: apt-get install nghttp2-client nghttp2-server", name)
		}
	}
	body := strings.Repeat("0123456789", 10)
	message := string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))) + body
	for name, text := range map[string]string{"htdocs/index.html": body, "htdocs/unary.grpc": message, "unary.request": message, "mime.types": "text/plain html\napplication/grpc grpc\n"} {
		if _, err := r.file(name, text); err != nil {
			return err
		}
	}
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	r.address2, r.addressGRPC = local(ports[0]), local(ports[1])
	start := func(address string, args ...string) (*process, error) {
		args = append(args, "-n1", "-a", "127.0.0.1", "-d", filepath.Join(r.dir, "htdocs"), "--mime-types-file", filepath.Join(r.dir, "mime.types"), strconv.Itoa(port(address)))
		p, err := spawn("nghttpd", otherCPUs(), nil, append([]string{"nghttpd", "--no-tls"}, args...)...)
		if err != nil {
			return nil, err
		}
		return p, p.wait(ctx, address)
	}
	if r.origin2, err = start(r.address2); err != nil {
		return err
	}
	r.originGRPC, err = start(r.addressGRPC, "--trailer", "grpc-status: 0")
	return err
}

var (
	h2loadTook  = regexp.MustCompile(`finished in ([\d.]+)(us|ms|s), `)
	h2loadCount = regexp.MustCompile(`requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
	h2loadMean  = regexp.MustCompile(`(?m)^time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)\s`)
)

// h2load is full load over HTTP/2, 10 connections with 10 streams each, on a
// path. args are further ones of h2load's. Of latency it prints no percentiles:
// the mean stands for p50, and p99 is NaN.
func h2load(path string, args ...string) loader {
	return func(ctx context.Context, address string, length time.Duration) (sample, int64, error) {
		var s sample
		all := append([]string{"-c", cpuList(otherCPUs()), "h2load", "-t1", fmt.Sprintf("-c%d", h2Conns), fmt.Sprintf("-m%d", h2Streams), "-D", fmt.Sprint(max(1, int(length.Seconds()+0.5)))}, args...)
		out, err := exec.CommandContext(ctx, "taskset", append(all, "http://"+address+path)...).CombinedOutput()
		if err != nil {
			return s, 0, fmt.Errorf("h2load: %w: %s", err, out)
		}
		m, took := h2loadCount.FindSubmatch(out), h2loadTook.FindSubmatch(out)
		if m == nil || took == nil {
			return s, 0, fmt.Errorf("h2load said something else: %s", out)
		}
		n := make([]int64, len(m))
		for i := range m[1:] {
			n[i+1], _ = strconv.ParseInt(string(m[i+1]), 10, 64)
		}
		// Those that h2load doesn't wait for at its end count as nothing.
		if n[2] == 0 || n[2] != n[1] {
			return s, 0, fmt.Errorf("h2load through %s%s: %s\n%s", address, path, m[0], out)
		}
		d, _ := time.ParseDuration(string(took[1]) + string(took[2]))
		s.rate, s.p99 = float64(n[2])/d.Seconds(), math.NaN()
		if mean := h2loadMean.FindSubmatch(out); mean != nil {
			d, _ := time.ParseDuration(string(mean[1]) + string(mean[2]))
			s.p50 = float64(d) / 1e6
		}
		return s, n[2], nil
	}
}

// unary is h2load with requests shaped like gRPC's.
func (r *rig) unary() loader {
	return h2load("/unary.grpc", "-d", filepath.Join(r.dir, "unary.request"), "-H", "content-type: application/grpc", "-H", "te: trailers")
}

// atRate2 is evenly paced load over HTTP/2.
func atRate2(rate float64) loader {
	return func(ctx context.Context, address string, length time.Duration) (sample, int64, error) {
		res, err := pace(ctx, address, rate, length, "-http2")
		if err != nil {
			return sample{}, 0, fmt.Errorf("through %s: %w", address, err)
		}
		return sample{rate: float64(res.Answered) / length.Seconds(), p50: res.P50, p99: res.P99}, res.Answered, nil
	}
}

// hops2 starts one hop of each that speaks HTTP/2 to both sides.
func (r *rig) hops2(ctx context.Context, origin string) (hops []*hop, err error) {
	for _, name := range r.peers("haproxy", "envoy", "tulle") {
		h, err := r.oneHop(ctx, name, origin, true)
		if err != nil {
			stopAll(hops)
			return nil, err
		}
		hops = append(hops, h)
	}
	return hops, nil
}

// http2 is HTTP/2 all along: full load, gRPC's form of it, and 1,000 requests
// a second.
func (r *rig) http2(ctx context.Context) error {
	if err := r.serveHTTP2(ctx); err != nil {
		return err
	}
	fmt.Printf("== http2: HTTP/2 from client to server, %d connections, 100-byte body; full load is %d streams on each (p50: the mean)\n", h2Conns, h2Streams)
	plains := func(origin string) ([]*hop, error) { return r.hops2(ctx, origin) }
	pairs := func(origin string) ([]*hop, error) {
		f := allAlong
		f.origin = origin
		return r.pairs(ctx, f)
	}
	for _, l := range []struct {
		name, title string
		load        loader
		origin      string
	}{
		{"http2", "full load", h2load("/"), r.address2},
		{"grpc", "full load of gRPC unary calls", r.unary(), r.addressGRPC},
	} {
		for _, form := range []struct {
			name, title string
			hops        func(origin string) ([]*hop, error)
		}{
			{"plain", "one plain hop (h2c on both sides)", plains},
			{"pair", "pair, mutual TLS 1.3 (CPU of both)", pairs},
		} {
			// Fresh each time: what h2load leaves open at its end is reset, and
			// servers give up connections on which much was.
			hops, err := form.hops(l.origin)
			if err != nil {
				return err
			}
			all, err := r.turns(ctx, hops, l.load, 0, r.length)
			stopAll(hops)
			if err != nil {
				return err
			}
			r.show(form.title+", "+l.title, all)
			r.beside("haproxy", l.name+"-"+form.name, all, limitHTTP2)
			r.beside("envoy", l.name+"-"+form.name+"-envoy", all, limitHTTP2Envoy)
		}
	}
	const rate = 1000
	direct := &hop{name: "direct", address: r.address2}
	for _, form := range []struct {
		name, title string
		hops        func(origin string) ([]*hop, error)
	}{
		{"plain", "one plain hop", plains},
		{"pair", "pair (CPU of both)", pairs},
	} {
		hops, err := form.hops(r.address2)
		if err != nil {
			return err
		}
		all, err := r.turns(ctx, append([]*hop{direct}, hops...), atRate2(rate), rate, r.length)
		stopAll(hops)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("http2-rate-%d-%s", rate, form.name)
		r.show(fmt.Sprintf("%s, %d requests a second, evenly paced", form.title, rate), all)
		r.beside("haproxy", name, all, limitHTTP2Rate)
		r.noWorse(name+"-p99", all)
	}
	return nil
}

// noWorse bounds Tulle's p99 by the better one of HAProxy's and Envoy's.
func (r *rig) noWorse(name string, all []*series) {
	best := 0.0
	for _, peer := range []string{"haproxy", "envoy"} {
		if p := find(all, peer); p != nil && (best == 0 || p.p99() < best) {
			best = p.p99()
		}
	}
	if t := find(all, "tulle"); t != nil && best > 0 {
		r.bound(name, t.p99()/best, limitHTTP2P99)
	} else {
		r.missing = append(r.missing, name)
	}
}

// keep makes sure that a file of some size is there for the servers to send.
func (r *rig) keep(name string, size int64) (string, error) {
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return path, f.Truncate(size)
}
