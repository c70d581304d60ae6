// Package identity knows names and proofs: SPIFFE ids and trust domains,
// X.509-SVIDs, trust bundles and how a peer's certificate is verified against
// them. It knows nothing of issuing (internal/ca) or of sockets.
//
// Source: the SPIFFE ID, X.509-SVID and Trust Domain and Bundle specifications.
package identity
