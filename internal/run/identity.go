package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/run/workloadapi"
)

// workloadSocket is the SPIFFE Workload API's socket, in the workload's directory.
const workloadSocket = "workload.sock"

// socketVariable is where programs look for it (SPIFFE Workload Endpoint, 5).
const socketVariable = "SPIFFE_ENDPOINT_SOCKET"

// maxSocketPath is what fits into a socket's address.
const maxSocketPath = 107

// issuer gets certificates for the workload from the control plane.
type issuer struct {
	mesh *client.Client
	id   identity.ID
}

// Issue implements workloadapi.Issuer.
func (i *issuer) Issue(ctx context.Context, csr []byte) ([][]byte, error) {
	c, err := i.mesh.CreateCertificate(ctx, client.CertificateRequest{Identity: i.id.String(), CSR: csr})
	if err != nil {
		return nil, err
	}
	return c.Chain, nil
}

// IssueJWT implements workloadapi.Issuer.
func (i *issuer) IssueJWT(ctx context.Context, audience []string) (*workloadapi.Token, error) {
	t, err := i.mesh.CreateJWTSVID(ctx, client.JWTSVIDRequest{Identity: i.id.String(), Audience: audience})
	var s *client.Status
	if errors.As(err, &s) && (s.Reason == client.ReasonBadRequest || s.Reason == client.ReasonForbidden) {
		return nil, fmt.Errorf("%w: %w", workloadapi.ErrRefused, err)
	}
	if err != nil {
		return nil, err
	}
	return &workloadapi.Token{Text: t.Token, Expires: t.Expires}, nil
}

// Bundles implements workloadapi.Issuer.
func (i *issuer) Bundles(ctx context.Context) (*workloadapi.Bundles, error) {
	b, err := i.mesh.Bundles(ctx)
	if err != nil {
		return nil, err
	}
	out := &workloadapi.Bundles{Documents: map[string][]byte{}, Denied: b.Denied}
	for name, doc := range b.Bundles {
		out.Documents[name] = doc
	}
	return out, nil
}

// offerIdentity serves the Workload API to the program, and tells it where. What
// hinders it is said and no reason not to run.
func (r *running) offerIdentity(ctx context.Context) {
	c := r.config
	asked, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	known, err := c.Mesh.Identity(asked)
	if err != nil {
		c.say("the SPIFFE Workload API isn't there for %s, as no control plane says which trust domain this is", c.Name)
		return
	}
	path := filepath.Join(c.dir(), workloadSocket)
	if len(path) > maxSocketPath {
		c.say("the SPIFFE Workload API isn't there for %s: %s is too long for a socket", c.Name, path)
		return
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.say("the SPIFFE Workload API isn't there for %s: %v", c.Name, err)
		return
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		c.say("the SPIFFE Workload API isn't there for %s: %v", c.Name, err)
		return
	}
	_ = os.Chmod(path, 0o600) // its directory is closed to others already
	id := identity.ID{TrustDomain: identity.TrustDomain(known.TrustDomain), Namespace: c.Namespace, ServiceAccount: c.ServiceAccount}
	log := slog.New(slog.DiscardHandler)
	if c.Say != nil {
		log = slog.New(slog.NewTextHandler(io.Writer(c.Say), nil))
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := workloadapi.New(id, &issuer{c.Mesh, id}, log).Serve(serving, l); err != nil {
			c.say("%v", err)
		}
	}()
	r.stopIdentity = func() { stop(); <-done }
	r.env = merge(r.env, []string{socketVariable + "=unix://" + path})
}
