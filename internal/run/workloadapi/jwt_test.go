package workloadapi

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/control/federation"
	own "tulle.dev/tulle/internal/control/jwtsvid"
	"tulle.dev/tulle/internal/identity"
)

const patience = time.Minute

func source(t *testing.T, socket string) *spiffe.JWTSource {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := spiffe.NewJWTSource(ctx, spiffe.WithClientOptions(spiffe.WithAddr(socket)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// until waits for something that must happen.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// The SPIFFE library gets tokens, judges them itself, and has them judged.
func TestJWTSource(t *testing.T) {
	socket, issuer := serve(t)
	s := source(t, socket)
	got, err := s.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "payment", ExtraAudiences: []string{"stock"}})
	if err != nil {
		t.Fatal(err)
	}
	left := time.Until(got.Expiry)
	if got.ID.String() != web.String() || len(got.Audience) != 2 || left > own.DefaultTTL || left < own.DefaultTTL-patience {
		t.Errorf("%s for %v, %s left", got.ID, got.Audience, left)
	}
	if got.Claims["iss"] != "spiffe://mesh.local" || got.Claims["iat"] == nil {
		t.Errorf("claims %v", got.Claims)
	}
	for _, audience := range []string{"payment", "stock"} {
		if _, err := jwtsvid.ParseAndValidate(got.Marshal(), s, []string{audience}); err != nil {
			t.Errorf("for %s, by the library: %v", audience, err)
		}
		judged, err := spiffe.ValidateJWTSVID(t.Context(), got.Marshal(), audience, spiffe.WithAddr(socket))
		if err != nil || judged.ID.String() != web.String() {
			t.Errorf("for %s, by the Workload API: %v %v", audience, judged, err)
		}
	}
	// Who asks for the same again gets the same, in any order; for another audience
	// another.
	again, err := s.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "stock", ExtraAudiences: []string{"payment"}, Subject: got.ID})
	if err != nil || again.Marshal() != got.Marshal() {
		t.Errorf("again: another token, or %v", err)
	}
	other, err := s.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "cart"})
	if err != nil || other.Marshal() == got.Marshal() || issuer.minted.Load() != 2 {
		t.Errorf("for cart: %v, %d tokens", err, issuer.minted.Load())
	}
	// Two audiences aren't one that looks like them.
	alike, err := s.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "payment\x00stock"})
	if err != nil || alike.Marshal() == got.Marshal() {
		t.Errorf("for another with a NUL: the same token, or %v", err)
	}
}

// Many who ask at once have one token made.
func TestJWTOnce(t *testing.T) {
	socket, issuer := serve(t)
	s := source(t, socket)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if _, err := s.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "payment"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := issuer.minted.Load(); n != 1 {
		t.Errorf("%d tokens", n)
	}
	for i := range 2 * maxTokens {
		if _, err := s.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: fmt.Sprint("a", i)}); err != nil {
			if strings.Contains(err.Error(), "too many") { // the identity's limit, which isn't this server's
				break
			}
			t.Fatal(err)
		}
	}
}

// A token that isn't right is refused, by the library and by the Workload API.
func TestJWTRefused(t *testing.T) {
	socket, issuer := serve(t)
	s := source(t, socket)
	mint := func(a *own.Authority, id identity.ID, audience string) string {
		t.Helper()
		tok, err := a.Issue(id, []string{audience}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return tok.Text
	}
	good := mint(issuer.tokens, web, "payment")
	_, stranger := mesh(t, "mesh.local") // the same name, and other keys
	_, elsewhere := mesh(t, "partner.example")
	parts := strings.Split(good, ".")
	flip := func(s string) string {
		if s[10] == 'A' {
			return s[:10] + "B" + s[11:]
		}
		return s[:10] + "A" + s[11:]
	}
	partner := identity.ID{TrustDomain: "partner.example", Namespace: "shop", ServiceAccount: "web"}
	for name, token := range map[string]string{
		"another audience":       mint(issuer.tokens, web, "stock"),
		"a changed payload":      parts[0] + "." + flip(parts[1]) + "." + parts[2],
		"a changed signature":    parts[0] + "." + parts[1] + "." + flip(parts[2]),
		"no signature":           parts[0] + "." + parts[1] + ".",
		"alg none":               "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"another's key":          mint(stranger, web, "payment"),
		"a foreign trust domain": mint(elsewhere, partner, "payment"),
		"no token":               "payment",
		"a long one":             good + strings.Repeat("A", maxToken),
	} {
		if _, err := jwtsvid.ParseAndValidate(token, s, []string{"payment"}); err == nil {
			t.Errorf("%s is taken by the library", name)
		}
		_, err := spiffe.ValidateJWTSVID(t.Context(), token, "payment", spiffe.WithAddr(socket))
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
	// A denied identity's tokens aren't believed, and it gets none.
	issuer.denied.Store(true)
	until(t, "the denial", func() bool {
		_, err := spiffe.ValidateJWTSVID(t.Context(), good, "payment", spiffe.WithAddr(socket))
		return status.Code(err) == codes.InvalidArgument && strings.Contains(err.Error(), "is denied")
	})
	if _, err := s.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "payment"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a token for who is denied: %v", err)
	}
}

func TestJWTRequests(t *testing.T) {
	socket, issuer := serve(t)
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := workload.NewSpiffeWorkloadAPIClient(conn)
	ctx := metadata.AppendToOutgoingContext(t.Context(), securityHeader, "true")
	if r, err := api.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"a"}}); err != nil || len(r.Svids) != 1 || r.Svids[0].SpiffeId != web.String() {
		t.Fatalf("a good one: %v, %v", r, err)
	}
	for name, c := range map[string]struct {
		ctx  context.Context
		r    *workload.JWTSVIDRequest
		want codes.Code
	}{
		"no header":          {t.Context(), &workload.JWTSVIDRequest{Audience: []string{"a"}}, codes.InvalidArgument},
		"no audience":        {ctx, &workload.JWTSVIDRequest{}, codes.InvalidArgument},
		"an empty audience":  {ctx, &workload.JWTSVIDRequest{Audience: []string{"a", ""}}, codes.InvalidArgument},
		"too many":           {ctx, &workload.JWTSVIDRequest{Audience: make([]string, maxAudiences+1)}, codes.InvalidArgument},
		"a long audience":    {ctx, &workload.JWTSVIDRequest{Audience: []string{strings.Repeat("a", maxAudience+1)}}, codes.InvalidArgument},
		"more than is read":  {ctx, &workload.JWTSVIDRequest{Audience: []string{strings.Repeat("a", maxMessage+1)}}, codes.ResourceExhausted},
		"another's identity": {ctx, &workload.JWTSVIDRequest{Audience: []string{"a"}, SpiffeId: "spiffe://mesh.local/ns/shop/sa/cart"}, codes.PermissionDenied},
	} {
		if _, err := api.FetchJWTSVID(c.ctx, c.r); status.Code(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	for name, r := range map[string]*workload.ValidateJWTSVIDRequest{"no audience": {Svid: "a.b.c"}, "no token": {Audience: "a"}} {
		if _, err := api.ValidateJWTSVID(ctx, r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("validate with %s: %v", name, err)
		}
	}
	if _, err := api.ValidateJWTSVID(t.Context(), &workload.ValidateJWTSVIDRequest{Audience: "a", Svid: "a.b.c"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("validate without header: %v", err)
	}
	if out, err := api.FetchJWTBundles(t.Context(), &workload.JWTBundlesRequest{}); err == nil {
		if _, err = out.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("bundles without header: %v", err)
		}
	}
	// With the control plane away, what there is is used; nothing new is to be had.
	issuer.away.Store(true)
	if _, err := api.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"a"}}); err != nil {
		t.Errorf("a token that is there: %v", err)
	}
	if _, err := api.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"b"}}); status.Code(err) != codes.Unavailable {
		t.Errorf("a token from nowhere: %v", err)
	}
}

// Tokens of a mesh that is federated with are believed once its keys are known, and no
// more when they are gone; its roots come along for X.509-SVIDs.
func TestFederated(t *testing.T) {
	socket, issuer := serve(t)
	s := source(t, socket)
	authority, partner := mesh(t, "partner.example")
	tok, err := partner.Issue(identity.ID{TrustDomain: "partner.example", Namespace: "shop", ServiceAccount: "web"}, []string{"payment"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	believed := func() bool {
		_, err := jwtsvid.ParseAndValidate(tok.Text, s, []string{"payment"})
		_, judged := spiffe.ValidateJWTSVID(t.Context(), tok.Text, "payment", spiffe.WithAddr(socket))
		return err == nil && judged == nil
	}
	if believed() {
		t.Fatal("believed before anything is known")
	}
	issuer.mu.Lock()
	issuer.foreign["partner.example"] = federation.Own(authority, partner)
	issuer.mu.Unlock()
	until(t, "their token is believed", believed)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	td := spiffeid.RequireTrustDomainFromString("partner.example")
	x, err := spiffe.FetchX509Context(ctx, spiffe.WithAddr(socket))
	if err != nil || !x.Bundles.Has(td) || x.DefaultSVID().ID.String() != web.String() {
		t.Errorf("roots that come with an SVID: %v, %v", x, err)
	}
	bundles, err := spiffe.FetchX509Bundles(ctx, spiffe.WithAddr(socket))
	if err != nil || bundles.Len() != 2 {
		t.Errorf("roots: %v, %v", bundles, err)
	}
	issuer.mu.Lock()
	delete(issuer.foreign, "partner.example")
	issuer.mu.Unlock()
	until(t, "their token is believed no more", func() bool {
		_, err := jwtsvid.ParseAndValidate(tok.Text, s, []string{"payment"})
		_, judged := spiffe.ValidateJWTSVID(t.Context(), tok.Text, "payment", spiffe.WithAddr(socket))
		return err != nil && judged != nil
	})
}

// Keys change while tokens are asked for and judged, and none is refused.
func TestJWTKeysChange(t *testing.T) {
	socket, issuer := serve(t)
	s := source(t, socket)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { issuer.tokens.Run(ctx) })
	defer running.Wait()
	defer cancel()
	_, before := issuer.tokens.Bundle()
	if err := issuer.tokens.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i := 0; len(seen) < 2; i++ {
		if i > 600 {
			t.Fatal("the new key never signed")
		}
		got, err := s.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: fmt.Sprint("payment-", i)})
		if err != nil {
			t.Fatal(err)
		}
		// The library hears of keys some seconds later than the Workload API itself: on a
		// machine that is stopped for long the key may sign meanwhile.
		until(t, "the library believes it", func() bool {
			_, err := jwtsvid.ParseAndValidate(got.Marshal(), s, got.Audience)
			return err == nil
		})
		if _, err := spiffe.ValidateJWTSVID(t.Context(), got.Marshal(), got.Audience[0], spiffe.WithAddr(socket)); err != nil {
			t.Fatalf("a token was refused: %v", err)
		}
		seen[strings.SplitN(got.Marshal(), ".", 2)[0]] = true // the header, with the kid
		time.Sleep(300 * time.Millisecond)
	}
	keys, after := issuer.tokens.Bundle()
	if len(keys) != 2 || after <= before && before != 0 {
		t.Errorf("%d keys, sequence %d after %d", len(keys), after, before)
	}
}
