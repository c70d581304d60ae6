//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/control/api/client"
)

const (
	rotationRate = 2000.0 // requests a second
	// rotationLife is the life of certificates; each is renewed at half of it.
	rotationLife = 2 * time.Minute
	// rotationTimes is how much longer than a measurement it runs: five minutes.
	rotationTimes = 60
)

// identityRotation is a mesh whose certificates are renewed every minute, and whose
// root is changed once, under load.
func (r *rig) identityRotation(ctx context.Context) error {
	length := rotationTimes * r.length
	fmt.Printf("== identity-rotation: a pair under %.0f requests a second for %v; certificates live for %v and are renewed at half of that, the root is changed once\n", rotationRate, length, rotationLife)
	if !r.has("tulle") {
		return nil
	}
	c, err := r.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer c.stop()
	address, proxies, err := r.joined(ctx, c)
	defer func() {
		for _, p := range proxies {
			p.stop()
		}
	}()
	if err != nil {
		return err
	}
	type outcome struct {
		res openResult
		err error
	}
	loaded := make(chan outcome, 1)
	go func() {
		res, err := openLoop(ctx, address, rotationRate, length)
		loaded <- outcome{res, err}
	}()
	// The root changes a fifth into the run: what follows needs its time.
	select {
	case <-time.After(length / 5):
	case <-ctx.Done():
		return ctx.Err()
	}
	before, err := c.api.ChangeTrust(ctx, client.TrustRotate)
	if err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	began, steady := time.Now(), time.Duration(0)
	renewed := map[string]map[time.Time]bool{}
	var out outcome
	for running := true; running; {
		select {
		case out = <-loaded:
			running = false
		case <-time.After(time.Second):
		}
		t, err := c.api.Trust(ctx)
		if err != nil {
			return fmt.Errorf("ask for the root: %w", err)
		}
		if steady == 0 && t.Stage == "steady" && t.Version != before.Version {
			steady = time.Since(began)
		}
		for _, p := range t.Proxies {
			if renewed[p.Name] == nil {
				renewed[p.Name] = map[time.Time]bool{}
			}
			renewed[p.Name][p.CertificateExpires] = true
		}
	}
	if out.err != nil {
		return out.err
	}
	fmt.Printf("  %d of %d failed%s; p50 %.2f ms, p99 %.2f ms, longest %.0f ms\n", out.res.failed(), out.res.Sent, out.res.statuses(), out.res.P50, out.res.P99, out.res.Max)
	for name, of := range renewed {
		fmt.Printf("  %s had %d certificates since the change began\n", name, len(of))
	}
	if steady == 0 {
		fmt.Println("  the change of the root wasn't done when the load ended")
	} else {
		fmt.Printf("  the root was changed in %.0f s\n", steady.Seconds())
	}
	r.bound("rotation-failed", float64(out.res.failed()), 0)
	undone := 0.0
	if steady == 0 {
		undone = 1
	}
	r.bound("rotation-root-undone", undone, 0)
	return nil
}

// joined starts the two proxies of a pair that follow the control plane, and
// returns where the client connects once requests come through. What it returns is
// to be stopped, also beside an error.
func (r *rig) joined(ctx context.Context, c *plane) (address string, proxies []*process, err error) {
	ports, err := freePorts(2)
	if err != nil {
		return "", nil, err
	}
	mesh, err := r.file("rotation/mesh.yaml", rotationMesh(port(r.address), ports[0], ports[1]))
	if err != nil {
		return "", nil, err
	}
	if out, err := exec.CommandContext(ctx, r.tulle, "--data-dir", c.dir, "apply", "-f", mesh).CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("tulle apply: %w\n%s", err, out)
	}
	var everywhere unix.CPUSet
	everywhere.Fill()
	for _, name := range []string{"cart", "web"} {
		request := client.JoinTokenRequest{Identity: "default/" + name}
		if name == "cart" {
			request.Services = []string{"cart.default"}
		}
		token, err := c.api.CreateJoinToken(ctx, request)
		if err != nil {
			return "", proxies, err
		}
		file, err := r.file("rotation/"+name+".token", token.Token)
		if err != nil {
			return "", proxies, err
		}
		p, err := spawn("tulle-proxy "+name, &everywhere, nil, r.proxy, "--control-plane", c.listen, "--data", filepath.Join(r.dir, "rotation", name+".data"), "--name", name, "--join-token-file", file, "--log-level", "warn")
		if err != nil {
			return "", proxies, err
		}
		proxies = append(proxies, p)
	}
	address = local(ports[1])
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		_, err := openLoop(ctx, address, 10, 100*time.Millisecond)
		var res openResult
		if err == nil {
			res, err = openLoop(ctx, address, 10, time.Second)
		}
		if err == nil && res.failed() == 0 {
			return address, proxies, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return "", proxies, fmt.Errorf("no request comes through the joined proxies (%v%s)\n%s\n%s", err, res.statuses(), proxies[0].said, proxies[len(proxies)-1].said)
		}
	}
}

// rotationMesh is pairMesh with certificates that live shortly.
func rotationMesh(app, inbound, outbound int) string {
	return fmt.Sprintf(pairMesh, "http", app, inbound, outbound, multiplexed.tulle) + fmt.Sprintf("  certificateTTL: %s\n", rotationLife)
}
