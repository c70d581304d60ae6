package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/run"
)

// gateways are the proxies of Gateway objects.
type gateways struct {
	mesh    *upMesh
	target  string
	mu      sync.Mutex // guards running
	running map[string]*run.Proxy
	failed  map[string]time.Time // when it last couldn't be started
}

// gatewayRetry parts two attempts to start a gateway's proxy that couldn't be
// started: its port may have become free.
const gatewayRetry = 10 * time.Second

func newGateways(m *upMesh, target string) *gateways {
	return &gateways{mesh: m, target: target, running: map[string]*run.Proxy{}, failed: map[string]time.Time{}}
}

// follow starts a proxy for each Gateway that has none, and stops those whose
// Gateway is gone.
func (g *gateways) follow(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, g.mesh.app.timeout)
	objects, _, err := list(asked, g.mesh.conn, object.Gateway, "")
	cancel()
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, o := range objects {
		gateway := o.(*gatewayv1.Gateway)
		name := gateway.Name + "." + gateway.Namespace
		wanted[name] = true
		failed, again := g.failed[name]
		if g.running[name] != nil || again && time.Since(failed) < gatewayRetry {
			continue
		}
		began := time.Now()
		if !again {
			g.mesh.board.progress("gateway " + gateway.Name + " starts")
		}
		p, err := run.StartGateway(ctx, run.GatewayConfig{Name: gateway.Name, Namespace: gateway.Namespace, Mesh: g.mesh.conn,
			ControlPlane: g.target, DataDir: g.mesh.dir, ProxyBinary: g.mesh.proxy, Say: g.mesh.board.note})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			g.failed[name] = time.Now()
			if !again { // said once
				g.mesh.board.bad("gateway "+gateway.Name, err.Error()+" (it is tried again)")
			}
			continue
		}
		delete(g.failed, name)
		g.running[name] = p
		g.mesh.board.done("gateway "+gateway.Name, fmt.Sprintf("%s, ready after %s", gatewayListeners(gateway), since(began)))
	}
	for name, p := range g.running {
		if !wanted[name] {
			delete(g.running, name)
			g.mesh.board.note("gateway %s is gone, its proxy drains", name)
			go p.Stop(ctx)
		}
	}
	for name := range g.failed {
		if !wanted[name] {
			delete(g.failed, name)
		}
	}
	return nil
}

func (g *gateways) stop(hurry context.Context) {
	var all sync.WaitGroup
	for _, p := range g.running {
		all.Go(func() { p.Stop(hurry) })
	}
	all.Wait()
}
