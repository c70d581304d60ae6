// Package attest finds out who brings a proof that somebody else made: Kubernetes
// says whose a projected service account token is (TokenReview of
// authentication.k8s.io/v1).
//
// In comes what a proxy that asks for its first certificate sent, out goes an
// identity of this mesh's trust domain. control/push asks it. Tokens are never
// logged, nor part of an error.
package attest
