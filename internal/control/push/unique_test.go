package push

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"tulle.dev/tulle/internal/ca/join"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/wire/control"
)

// svid asks for a certificate and returns it with its key.
func (p *proxy) svid(t *testing.T, prove func(csr []byte, r *control.CertifyRequest)) (*identity.SVID, crypto.Signer) {
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
	prove(csr, r)
	in := control.EncodeCertifyRequest(r)
	var out []byte
	if err := p.conn.Invoke(t.Context(), control.MethodCertify, &in, &out, grpc.ForceCodecV2(rawCodec{})); err != nil {
		t.Fatal(err)
	}
	response, err := control.DecodeCertifyResponse(out)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := identity.NewSVID(response.Chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return svid, key
}

// TestUniqueIDOfCertificates: who joins gets a unique id that nobody else has, and
// keeps it over renewals, and over a time that was too long for them.
func TestUniqueIDOfCertificates(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		joins := func(p *proxy) (*identity.SVID, crypto.Signer) {
			token, _, err := w.tokens.Create(t.Context(), w.ca.Roots()[0], join.Grant{Identity: id("cart")}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return p.svid(t, func(_ []byte, r *control.CertifyRequest) { r.JoinToken = token.Reveal() })
		}
		stranger := w.connect("", "x")
		defer stranger.close()
		first, key := joins(stranger)
		second, _ := joins(stranger)
		unique := identity.UniqueID(first.Leaf)
		if unique == "" || unique == identity.UniqueID(second.Leaf) {
			t.Fatalf("two that joined are %q and %q", unique, identity.UniqueID(second.Leaf))
		}
		holder := w.connectAs("cart", unique, "cart")
		defer holder.close()
		renews := func([]byte, *control.CertifyRequest) {}
		if s, _ := holder.svid(t, renews); identity.UniqueID(s.Leaf) != unique {
			t.Errorf("after a renewal it is %q, was %q", identity.UniqueID(s.Leaf), unique)
		}
		// A token is a new beginning, also for somebody who has been here.
		token, _, err := w.tokens.Create(t.Context(), w.ca.Roots()[0], join.Grant{Identity: id("cart")}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if s, _ := holder.svid(t, func(_ []byte, r *control.CertifyRequest) { r.JoinToken = token.Reveal() }); identity.UniqueID(s.Leaf) == unique {
			t.Error("it joined again and kept its unique id")
		}
		time.Sleep(48 * time.Hour)
		back, _ := stranger.svid(t, func(csr []byte, r *control.CertifyRequest) {
			sum := sha256.Sum256(append([]byte("tulle-recover"), csr...))
			if r.RecoverySignature, err = key.Sign(rand.Reader, sum[:], crypto.SHA256); err != nil {
				t.Fatal(err)
			}
			r.ExpiredChain = first.Certificate.Certificate
		})
		if got := identity.UniqueID(back.Leaf); got != unique {
			t.Errorf("back after two days it is %q, was %q", got, unique)
		}
		// Who has a certificate of before there were unique ids gets one now.
		old := w.connect("cart", "old")
		defer old.close()
		if s, _ := old.svid(t, renews); identity.UniqueID(s.Leaf) == "" {
			t.Error("renewed, and still none")
		}
	})
}

// TestUniqueIDOfEndpoints: an endpoint's unique id is that of the certificate that
// registered it, whatever its proxy says of itself, and follows it.
func TestUniqueIDOfEndpoints(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		w.grant("cart", "cart.default")
		web := w.connect("web", "web")
		defer web.close()
		web.subscribe("endpoints/cart.default:80")
		known := func(want ...string) func() bool {
			return func() bool {
				r := web.get("endpoints/cart.default:80")
				if r == nil || r.Endpoints == nil {
					return false
				}
				var got []string
				for _, e := range r.Endpoints.List {
					got = append(got, e.UniqueID)
				}
				return slices.Equal(got, want)
			}
		}
		one, two := identity.NewUniqueID(), identity.NewUniqueID()
		arrives := func(unique string) *proxy {
			p := w.connectAs("cart", unique, "cart", serves("cart.default", 80, "10.0.0.1:9090", "10.0.0.1:15443"), func(h *control.Hello) { h.UID = two })
			p.status(control.Status{Ready: true})
			return p
		}
		p := arrives(one)
		eventually(t, "the endpoint is known by its certificate's id", known(one))
		p.close()
		p = arrives(one)
		eventually(t, "another process with the same certificate's id", known(one))
		p.close()
		p = arrives(two)
		eventually(t, "another workload at the address", known(two))
		p.close()
		p = arrives("")
		eventually(t, "one with an older certificate", known(""))
		p.close()
	})
}
