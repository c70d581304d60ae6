// Package token verifies signed JSON Web Tokens (RFC 7519, RFC 7515, as RFC 8725
// advises), with the keys of their issuers (RFC 7517).
//
// In come what a policy says (policy.JWT, with the keys in it) and tokens as
// requests bear them; out go a Token with its claims, or an *Error that says what
// is wrong. A Cache remembers what was verified, so that a token costs its
// signature once. l7http calls it; live makes the Verifiers.
//
// It is pure: the caller passes the time. A Verifier and a Token are immutable and
// any loop may use them; a Cache belongs to one.
//
// What is believed is narrow. Only asymmetric signatures are, by a key of the
// issuer that the token names and of a kind that fits the algorithm: a token can't
// choose how it is verified (RFC 8725, 3.1). Keys that a token brings along (jwk,
// jku, x5u, x5c) aren't looked at, "crit" is refused. A token must end (exp).
package token
