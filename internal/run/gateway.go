package run

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
)

// GatewayConfig is one gateway whose proxy runs on this machine.
type GatewayConfig struct {
	// Name and Namespace are the Gateway object's.
	Name, Namespace string
	Mesh            *client.Client
	ControlPlane    string
	DataDir         string
	ProxyBinary     string
	LogLevel        string
	Say             func(format string, a ...any)
}

// dir makes the directory of the gateway's proxy, NAMESPACE_NAME: neither name can
// have a "_". One that was called NAME or NAME.NAMESPACE by an earlier version is
// taken over; where it could be two gateways' ("a.b" and b's "a"), the first one that
// is started has it, and nothing is lost: what is kept there is made anew.
func (g *GatewayConfig) dir() (string, error) {
	all := filepath.Join(g.DataDir, "gateways")
	dir := filepath.Join(all, g.Namespace+"_"+g.Name)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return dir, err
	}
	if err := os.MkdirAll(all, 0o700); err != nil {
		return "", err
	}
	old := filepath.Join(all, g.Name)
	if g.Namespace != "default" {
		old += "." + g.Namespace
	}
	err := os.Rename(old, dir)
	if errors.Is(err, os.ErrNotExist) {
		err = os.Mkdir(dir, 0o700)
	}
	return dir, err
}

// StartGateway starts the proxy of a Gateway object and waits until it is
// ready: its listeners are open. Its identity is the gateway's own.
func StartGateway(ctx context.Context, g GatewayConfig) (*Proxy, error) {
	dir, err := g.dir()
	if err != nil {
		return nil, fail("", "the gateway's directory: %w", err)
	}
	asked, cancel := context.WithTimeout(ctx, askTimeout)
	token, err := g.Mesh.CreateJoinToken(asked, client.JoinTokenRequest{Identity: g.Namespace + "/" + g.Name, TTL: tokenTTL})
	cancel()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "join-token")
	if err := os.WriteFile(file, []byte(token.Token+"\n"), 0o600); err != nil {
		return nil, fail("", "keep the join token: %w", err)
	}
	defer os.Remove(file)
	for _, name := range []string{"state", "svid.pem", "key.pem"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fail("", "remove what an earlier run left: %w", err)
		}
	}
	const patience = 5 * time.Second // its identity takes moments; what takes longer is a taken port
	return StartProxy(ctx, ProxyConfig{Name: g.Name, Namespace: g.Namespace, Binary: g.ProxyBinary, Dir: dir, ControlPlane: g.ControlPlane,
		Admin: loopback.String() + ":0", TokenFile: file, LogLevel: g.LogLevel, Gateway: true, Patience: patience, Say: g.Say}, nil)
}
