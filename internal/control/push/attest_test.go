package push

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/ca/join"
	"tulle.dev/tulle/internal/control/attest"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// attestor knows one token.
type attestor struct {
	id   identity.ID
	away atomic.Bool
}

func (a *attestor) Attest(_ context.Context, proof string) (identity.ID, error) {
	switch {
	case a.away.Load():
		return identity.ID{}, errors.New("no route to host")
	case proof != "a.b.c":
		return identity.ID{}, attest.ErrRefused
	}
	return a.id, nil
}

func (p *proxy) certify(t *testing.T, change func(*control.CertifyRequest)) (*control.CertifyResponse, error) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	r := &control.CertifyRequest{CSR: csr}
	change(r)
	in, out := control.EncodeCertifyRequest(r), []byte(nil)
	if err := p.conn.Invoke(t.Context(), control.MethodCertify, &in, &out, grpc.ForceCodecV2(rawCodec{})); err != nil {
		return nil, err
	}
	return control.DecodeCertifyResponse(out)
}

// A service account token of Kubernetes is a proof like a join token, and never
// one for the control plane or another trust domain.
func TestServiceAccountToken(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		p := w.connect("", "x")
		defer p.close()
		token := func(r *control.CertifyRequest) { r.KubernetesToken = "a.b.c" }
		if _, err := p.certify(t, token); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "--kubernetes-api") {
			t.Errorf("nobody to ask: %v", err)
		}
		a := &attestor{id: id("cart")}
		w.server.config.Attestor = a
		got, err := p.certify(t, token)
		if err != nil || got.Identity != id("cart").String() {
			t.Fatalf("got %v %v", got, err)
		}
		if _, err := p.certify(t, func(r *control.CertifyRequest) { r.KubernetesToken = "x.y.z" }); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a wrong token: %v", err)
		}
		a.away.Store(true)
		if _, err := p.certify(t, token); status.Code(err) != codes.Unavailable {
			t.Errorf("nobody answers: %v", err)
		}
		a.away.Store(false)
		for _, bad := range []identity.ID{identity.ControlPlane("mesh.local"), {TrustDomain: "other", Namespace: "a", ServiceAccount: "b"}} {
			a.id = bad
			if _, err := p.certify(t, token); status.Code(err) != codes.PermissionDenied {
				t.Errorf("as %s: %v", bad, err)
			}
		}
	})
}

// A token's services are all that its proxy may serve, and what one identity has
// registered isn't another's: neither while it is there nor while its name is kept.
func TestGrantsAndNames(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart + "---" + strings.ReplaceAll(cart, "cart", "payment"))
		w.grant("cart", "cart.default")
		w.grant("web", "cart.default", "payment.default")
		refused := func(account, name, want string, options ...option) {
			t.Helper()
			p := w.connect(account, name, options...)
			defer p.close()
			<-p.done
			if !strings.Contains(p.refused, want) {
				t.Errorf("%s as %s: refused with %q (%v), want %q", account, name, p.refused, p.err, want)
			}
		}
		refused("cart", "cart-1", "may not serve payment.default", serves("payment.default", 80, "127.0.0.1:1", "127.0.0.1:2"))
		refused("cart", "cart-1", "may not serve payment.default", serves("cart.default", 80, "127.0.0.1:1", "127.0.0.1:2"), serves("payment.default", 80, "127.0.0.1:1", "127.0.0.1:3"))
		p := w.connect("cart", "cart-1", serves("cart.default", 80, "127.0.0.1:1", "127.0.0.1:2"))
		eventually(t, "it is there", func() bool { return p.get(control.KeyProxy) != nil && w.workload("cart-1") != nil })
		if got := w.workload("cart-1"); got.Spec.ServiceAccount != "cart" {
			t.Errorf("registered for %s", got.Spec.ServiceAccount)
		}
		squat := serves("cart.default", 80, "127.0.0.1:66", "127.0.0.1:67")
		refused("web", "cart-1", "has service account cart", squat)
		p.close()
		refused("web", "cart-1", "has service account cart", squat) // its lease holds
		if got := w.workload("cart-1"); got.Spec.Ports[0].MeshAddress != "127.0.0.1:2" {
			t.Errorf("its address is %s now", got.Spec.Ports[0].MeshAddress)
		}
	})
}

// Roots of other trust domains are told with our own, and taken back.
func TestForeignRoots(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		var foreign atomic.Pointer[[]view.TrustDomain]
		w.server.config.Foreign = func() []view.TrustDomain {
			if f := foreign.Load(); f != nil {
				return *f
			}
			return nil
		}
		p := w.connect("web", "web")
		defer p.close()
		p.subscribe(control.KeyBundle)
		domains := func() string {
			var names []string
			if r := p.get(control.KeyBundle); r != nil {
				for _, d := range r.Bundle.Domains {
					names = append(names, d.Name)
				}
			}
			return strings.Join(names, " ")
		}
		eventually(t, "our own", func() bool { return domains() == "mesh.local" })
		foreign.Store(&[]view.TrustDomain{{Name: "partner.example", Roots: w.ca.Roots()}})
		w.server.BundleChanged()
		eventually(t, "both", func() bool { return domains() == "mesh.local partner.example" })
		foreign.Store(nil)
		w.server.BundleChanged()
		eventually(t, "our own again", func() bool { return domains() == "mesh.local" })
		if c, err := p.certify(t, func(*control.CertifyRequest) {}); err != nil || len(c.Bundle.Domains) != 1 {
			t.Errorf("with a certificate: %v %v", c, err)
		}
	})
}

// A join token is good for another try where nothing could be issued for it.
func TestTokenKeptWithoutCertificate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		token, _, err := w.tokens.Create(t.Context(), w.ca.Roots()[0], join.Grant{Identity: id("cart")}, 0)
		if err != nil {
			t.Fatal(err)
		}
		away := errors.New("the signer is away")
		for _, c := range []struct{ issue, want error }{{away, away}, {away, away}, {nil, nil}} {
			if _, err := w.server.redeem(t.Context(), token.Reveal(), func(identity.ID) error { return c.issue }); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		}
		if _, err := w.server.redeem(t.Context(), token.Reveal(), func(identity.ID) error { return nil }); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a second certificate: %v", err)
		}
	})
}
