//go:build linux

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// limitBulk bounds Tulle's CPU per gigabyte by a share of HAProxy's.
const limitBulk = 1.00

// bulkCommand is the hidden first argument that makes this program the reader
// of large bodies.
const bulkCommand = "bulk-load"

const (
	bulkConns = 4
	// bulkBody is the size of one body.
	bulkBody = 256 << 20
	// bulkUnit is what counts as one request in samples, in bytes: µs for each
	// are ms for a gigabyte.
	bulkUnit = 1e6
)

// bulk is large bodies, and the same bytes as opaque TCP: CPU per gigabyte.
func (r *rig) bulk(ctx context.Context) error {
	fmt.Printf("== bulk: bodies of %d MiB on %d connections; CPU is per gigabyte\n", bulkBody>>20, bulkConns)
	if _, err := r.keep("big", bulkBody); err != nil {
		return err
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	origin := local(ports[0])
	server, err := r.nginx("bulk", otherCPUs(), fmt.Sprintf(`sendfile on; sendfile_max_chunk 1m; server { listen %s; root %s; location / { default_type application/octet-stream; } }`, origin, r.dir))
	if err != nil {
		return err
	}
	defer server.stop()
	if err := server.wait(ctx, origin); err != nil {
		return err
	}
	for _, form := range []struct {
		name, title string
		hop         func(name string) (*hop, error)
	}{
		{"bulk-http1", "one plain hop, HTTP/1.1", func(name string) (*hop, error) { return r.bulkHTTP(ctx, name, origin) }},
		{"bulk-tcp", "one plain hop, opaque TCP", func(name string) (*hop, error) { return r.bulkTCP(ctx, name, origin) }},
	} {
		var hops []*hop
		for _, name := range r.peers("haproxy", "tulle") {
			h, err := form.hop(name)
			if err != nil {
				stopAll(hops)
				return err
			}
			hops = append(hops, h)
		}
		all, err := r.turns(ctx, hops, bulkLoad, 0, r.length)
		stopAll(hops)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n  %-9s %20s %8s %14s  %s\n", form.title, "", "ms CPU per GB", "GB/s", "syscalls/GB", "RSS MB")
		for _, s := range all {
			fmt.Printf("  %-9s %20.1f %8.2f %14.0f  %s\n", s.hop.name, s.cpu(), s.median(func(x sample) float64 { return x.rate }), 1e3*s.calls, s.memory)
			if r.calls {
				fmt.Printf("    system calls per MB:%s\n", s.names)
			}
		}
		r.compare(form.name, all, limitBulk)
	}
	return nil
}

func (r *rig) bulkHTTP(ctx context.Context, name, origin string) (*hop, error) {
	if name != "haproxy" {
		return r.oneHop(ctx, name, origin, false)
	}
	return r.spliced(ctx, "http", origin)
}

// spliced is HAProxy that moves bytes within the kernel where it can.
func (r *rig) spliced(ctx context.Context, mode, origin string) (*hop, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	h := &hop{name: "haproxy", address: local(ports[0])}
	p, err := r.haproxy("haproxy-"+mode, h.address, origin, "mode "+mode, "option splice-auto", "option splice-response")
	if err != nil {
		return nil, err
	}
	h.procs = []*process{p}
	return h.waited(ctx)
}

// waited waits until a hop of one process accepts, and stops one that doesn't.
func (h *hop) waited(ctx context.Context) (*hop, error) {
	if err := h.procs[0].wait(ctx, h.address); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

// tcpMesh is a client's proxy and a service without one, whose bytes are opaque.
const tcpMesh = `
apiVersion: v1
kind: Service
metadata: {name: bulk}
spec:
  ports: [{name: tcp, port: 80, appProtocol: tcp}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: bulk, labels: {kubernetes.io/service-name: bulk}}
addressType: IPv4
ports: [{name: tcp, port: %d}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: web, labels: {app: web}}
spec:
  address: 127.0.0.1
  serviceAccount: web
  outbound: [{service: bulk, port: 80, listen: "127.0.0.1:%d"}]
`

func (r *rig) bulkTCP(ctx context.Context, name, origin string) (*hop, error) {
	if name == "haproxy" {
		return r.spliced(ctx, "tcp", origin)
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	h := &hop{name: name, address: local(ports[0])}
	mesh, err := r.file("tcp/mesh.yaml", fmt.Sprintf(tcpMesh, port(origin), ports[0]))
	if err != nil {
		return nil, err
	}
	state, err := r.view(mesh, "web", r.identities())
	if err != nil {
		return nil, err
	}
	p, err := r.tulleProxy("tulle-tcp", state)
	if err != nil {
		return nil, err
	}
	h.procs = []*process{p}
	return h.waited(ctx)
}

// bulkLoad reads large bodies for a while. A sample's rate is GB/s; what counts
// as requests are megabytes.
func bulkLoad(ctx context.Context, address string, length time.Duration) (sample, int64, error) {
	return bulkWith(ctx, address, length)
}

// bulkWith runs the reader of large bodies as a process beside the proxies.
func bulkWith(ctx context.Context, address string, length time.Duration, args ...string) (sample, int64, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, 0, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{bulkCommand, "-target", address, "-length", length.String()}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return sample{}, 0, fmt.Errorf("bulk load: %w", err)
	}
	var bytes int64
	if err := json.Unmarshal(out, &bytes); err != nil {
		return sample{}, 0, err
	}
	if bytes < bulkUnit {
		return sample{}, 0, fmt.Errorf("only %d bytes came through %s", bytes, address)
	}
	return sample{rate: float64(bytes) / 1e9 / length.Seconds()}, bytes / bulkUnit, nil
}

func bulkMain(args []string) int {
	fs := flag.NewFlagSet(bulkCommand, flag.ExitOnError)
	target := fs.String("target", "", "HOST:PORT")
	length := fs.Duration("length", 5*time.Second, "how long")
	conns := fs.Int("conns", bulkConns, "connections")
	rate := fs.Float64("rate", 0, "bytes a second on each; 0: all there are")
	fs.Parse(args)
	if err := unix.SchedSetaffinity(0, otherCPUs()); err != nil {
		fmt.Fprintln(os.Stderr, "bulk load:", err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), *length)
	defer cancel()
	var bytes atomic.Int64
	var failed atomic.Pointer[error]
	var readers sync.WaitGroup
	for range *conns {
		readers.Go(func() {
			if err := readBodies(ctx, *target, *rate, &bytes); err != nil && ctx.Err() == nil {
				failed.Store(&err)
			}
		})
	}
	readers.Wait()
	if err := failed.Load(); err != nil {
		fmt.Fprintln(os.Stderr, "bulk load:", *err)
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(bytes.Load())
	return 0
}

// readBodies asks for one body after the other on one connection, and reads at
// rate bytes a second.
func readBodies(ctx context.Context, target string, rate float64, bytes *atomic.Int64) error {
	t := &http.Transport{
		ReadBufferSize: 256 << 10,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, target)
		},
	}
	defer t.CloseIdleConnections()
	block := make([]byte, 256<<10)
	began, own := time.Now(), 0
	for {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+target+"/big", nil)
		if err != nil {
			return err
		}
		resp, err := t.RoundTrip(req)
		if err != nil {
			return err
		}
		if resp.StatusCode != 200 {
			resp.Body.Close()
			return fmt.Errorf("%s", resp.Status)
		}
		for {
			n, err := resp.Body.Read(block)
			bytes.Add(int64(n))
			if own += n; rate > 0 {
				time.Sleep(time.Duration(float64(own)/rate*1e9) - time.Since(began))
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				resp.Body.Close()
				return err
			}
		}
		resp.Body.Close()
	}
}
