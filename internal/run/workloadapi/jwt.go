package workloadapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	// maxAudiences bounds the audiences of a token, maxAudience one of them in bytes,
	// and maxToken a token that is to be judged.
	maxAudiences = 16
	maxAudience  = 1024
	maxToken     = 16 << 10
	// maxTokens bounds the tokens that are kept for the next who asks.
	maxTokens = 256
	// leastLeft is how long a token must be good still that is handed out because
	// there is no new one.
	leastLeft = 30 * time.Second
	// judgeWait is how long a token waits for newer keys than are known.
	judgeWait = 2 * time.Second
)

// ErrRefused says that the workload gets no token, now or later.
var ErrRefused = errors.New("no token for this workload")

// Token is a JWT-SVID.
type Token struct {
	Text    string // JWS, compact
	Expires time.Time
}

// kept is a token that was issued.
type kept struct {
	Token
	renew time.Time // half of its life is over then
}

// FetchJWTSVID returns a token for audiences. It is the same for everybody who asks
// for the same ones, until half of its life is over.
func (s *Server) FetchJWTSVID(ctx context.Context, r *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	done, err := s.admit(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if len(r.Audience) == 0 || len(r.Audience) > maxAudiences {
		return nil, status.Errorf(codes.InvalidArgument, "%d audiences: want 1 to %d", len(r.Audience), maxAudiences)
	}
	for i, a := range r.Audience {
		if strings.TrimSpace(a) == "" || len(a) > maxAudience {
			return nil, status.Errorf(codes.InvalidArgument, "audience[%d]: want 1 to %d bytes", i, maxAudience)
		}
	}
	if r.SpiffeId != "" && r.SpiffeId != s.id.String() {
		return nil, status.Errorf(codes.PermissionDenied, "this workload is %s, not %.300q", s.id, r.SpiffeId)
	}
	t, err := s.token(ctx, r.Audience)
	switch {
	case errors.Is(err, ErrRefused):
		return nil, status.Error(codes.PermissionDenied, err.Error())
	case ctx.Err() != nil:
		return nil, status.FromContextError(ctx.Err()).Err()
	case err != nil:
		return nil, status.Errorf(codes.Unavailable, "no JWT-SVID for %s: %s", s.id, err)
	}
	return &workload.JWTSVIDResponse{Svids: []*workload.JWTSVID{{SpiffeId: s.id.String(), Svid: t.Text}}}, nil
}

// token is one that is kept, or a new one.
func (s *Server) token(ctx context.Context, audience []string) (*Token, error) {
	key := fmt.Sprintf("%q", slices.Sorted(slices.Values(audience))) // unlike for ["a", "b"] and ["a\x00b"]
	if t := s.keptToken(key); t != nil && time.Now().Before(t.renew) {
		return &t.Token, nil
	}
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	select { // one after another: who waits finds what the one before got
	case s.minting <- struct{}{}:
		defer func() { <-s.minting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	have := s.keptToken(key)
	if have != nil && time.Now().Before(have.renew) {
		return &have.Token, nil
	}
	t, err := s.issuer.IssueJWT(ctx, audience)
	if err == nil {
		err = s.check(t, audience)
	}
	if err != nil {
		if have != nil && !errors.Is(err, ErrRefused) && time.Until(have.Expires) > leastLeft {
			s.log.Warn("the Workload API's JWT-SVID can't be renewed yet", "identity", s.id.String(), "error", err)
			return &have.Token, nil
		}
		return nil, err
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) >= maxTokens && s.tokens[key] == nil {
		first := ""
		for k, o := range s.tokens {
			if first == "" || o.Expires.Before(s.tokens[first].Expires) {
				first = k
			}
		}
		delete(s.tokens, first)
	}
	s.tokens[key] = &kept{*t, now.Add(t.Expires.Sub(now) / 2)}
	return t, nil
}

// keptToken is a token from before, nil when there is none that is believed still.
func (s *Server) keptToken(key string) *kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tokens[key]
	if t == nil || !time.Now().Before(t.Expires) {
		return nil
	}
	if s.known != nil && s.known.denied[s.id.String()] {
		return nil
	}
	return t
}

// check says what is wrong with a token that was issued.
func (s *Server) check(t *Token, audience []string) error {
	got, err := jwtsvid.ParseInsecure(t.Text, audience)
	if err != nil {
		return err
	}
	if got.ID.String() != s.id.String() {
		return fmt.Errorf("the token is for %s, want %s", got.ID, s.id)
	}
	return nil
}

// FetchJWTBundles sends the keys that JWT-SVIDs are verified with, and again whenever
// they change.
func (s *Server) FetchJWTBundles(_ *workload.JWTBundlesRequest, out grpc.ServerStreamingServer[workload.JWTBundlesResponse]) error {
	return s.follow(out.Context(), (*trusted).sameKeys, func(t *trusted) error {
		r := &workload.JWTBundlesResponse{Bundles: map[string][]byte{}}
		for id, b := range t.jwt {
			doc, err := b.Marshal()
			if err != nil {
				return err
			}
			r.Bundles[id] = doc
		}
		return out.Send(r)
	})
}

// ValidateJWTSVID judges a token for a program that doesn't itself.
func (s *Server) ValidateJWTSVID(ctx context.Context, r *workload.ValidateJWTSVIDRequest) (*workload.ValidateJWTSVIDResponse, error) {
	done, err := s.admit(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	switch {
	case strings.TrimSpace(r.Audience) == "" || len(r.Audience) > maxAudience:
		return nil, status.Errorf(codes.InvalidArgument, "the audience is missing, or longer than %d bytes", maxAudience)
	case r.Svid == "" || len(r.Svid) > maxToken:
		return nil, status.Errorf(codes.InvalidArgument, "the token is missing, or longer than %d bytes", maxToken)
	}
	wait, cancel := context.WithTimeout(ctx, judgeWait)
	t, err := s.bundles(wait)
	cancel()
	if t == nil {
		return nil, status.Errorf(codes.Unavailable, "the trust bundle: %s", err)
	}
	svid, err := jwtsvid.ParseAndValidate(r.Svid, t.set, []string{r.Audience})
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if t.denied[svid.ID.String()] {
		return nil, status.Errorf(codes.InvalidArgument, "%s is denied", svid.ID)
	}
	claims, err := structpb.NewStruct(svid.Claims)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the token's claims: %s", err)
	}
	return &workload.ValidateJWTSVIDResponse{SpiffeId: svid.ID.String(), Claims: claims}, nil
}
