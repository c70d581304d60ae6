package control

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/trust"
)

// Trust says which roots the mesh trusts, and where a change of them stands.
func (f *facts) Trust(context.Context) (*client.Trust, error) {
	r := f.trust.Report()
	out := &client.Trust{TrustDomain: string(f.ca.TrustDomain()), Version: r.Version, Stage: string(r.Stage), Back: r.Back, Waiting: r.Waiting()}
	out.JWTKeys, out.JWTIssued = f.tokenKeys(), f.jwt.Issued()
	for _, root := range r.Roots {
		out.Roots = append(out.Roots, client.TrustRoot{SHA256: hex.EncodeToString(root.Pin[:]), NotBefore: root.NotBefore, NotAfter: root.NotAfter, Signs: root.Signs})
	}
	for _, p := range r.Proxies {
		out.Proxies = append(out.Proxies, client.TrustProxy{Name: p.Proxy.Name, Namespace: p.Proxy.Namespace, Gateway: p.Gateway,
			Connected: p.Connected, Roots: p.Bundle, Certificate: p.Current, CertificateExpires: p.Ends, Waiting: p.Waiting})
	}
	return out, nil
}

// ChangeTrust begins a change of the root, or turns it round.
func (f *facts) ChangeTrust(ctx context.Context, r client.TrustRequest) (*client.Trust, error) {
	var err error
	switch r.Action {
	case client.TrustRotate:
		if err = f.trust.Rotate(); err == nil {
			if failed := f.jwt.Rotate(ctx); failed != nil { // the root's change is under way all the same
				f.config.Log.Error("JWT-SVIDs have no other key yet", "error", failed)
			}
		}
	case client.TrustBack:
		err = f.trust.Back()
	default:
		return nil, badRequest("action %q: want %s or %s", r.Action, client.TrustRotate, client.TrustBack)
	}
	if errors.Is(err, trust.ErrSeveral) || errors.Is(err, ca.ErrNotOurs) {
		return nil, &client.Status{Kind: "Status", APIVersion: "v1", Result: "Failure", Code: http.StatusConflict, Reason: client.ReasonConflict, Message: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	return f.Trust(ctx)
}
