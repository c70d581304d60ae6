package policy

import (
	"time"

	"tulle.dev/tulle/internal/access"
)

// JWT says whose tokens are believed (RFC 7519). A token that is there and isn't
// valid is refused, 401.
type JWT struct {
	// Required refuses requests without a token.
	Required bool
	Issuers  []Issuer
}

// Issuer is one whose tokens are believed.
type Issuer struct {
	// Name is the iss claim.
	Name string
	// Audiences, one of which the aud claim must hold; empty doesn't look.
	Audiences []string
	// Keys is a JWK set (RFC 7517), as the control plane fetched it. Empty while
	// it has none: then nobody's token is valid.
	Keys []byte
	// Domain is the trust domain whose JWT-SVIDs these are: the sub claim must be one of
	// its SPIFFE ids, for a domain's keys speak for nobody else's workloads, and there
	// must be Audiences. Empty for others' tokens.
	Domain string
	// Headers are where the token is looked for; empty is Authorization with the
	// scheme Bearer.
	Headers []TokenHeader
	// Claims are told to the program in header fields, in which what clients send
	// is removed.
	Claims []ClaimHeader
	// Forward keeps the token on the request.
	Forward bool
}

// TokenHeader is a field that may hold a token, after Prefix.
type TokenHeader struct{ Name, Prefix string }

// ClaimHeader writes a claim, nested with dots, into a field.
type ClaimHeader struct{ Claim, Header string }

// External asks another program about each request.
type External struct {
	// Destination is the key of the port that answers.
	Destination string
	// GRPC speaks envoy.service.auth.v3.Authorization/Check; otherwise the
	// request's head is sent, its path after Path.
	GRPC bool
	Path string
	// Timeout bounds the answer.
	Timeout time.Duration
	// FailOpen lets requests pass when there is no answer.
	FailOpen bool
	// Send are the fields that are told; empty is all that don't name a
	// connection. Take are fields of the answer that the request gets.
	Send, Take []string
}

// Guard is who may come in: what is asked of a request's caller, in the order of
// the fields.
type Guard struct {
	JWT    *JWT
	Access *access.Spec
	// External is asked last.
	External *External
}
