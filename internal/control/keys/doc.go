// Package keys fetches the keys by which tokens of people and programs from
// elsewhere are judged: JWK sets (RFC 7517), found by their URL or by OpenID
// Connect Discovery.
//
// In come the URLs that AuthenticationPolicies name, out go the public keys, each
// time they change. The last good ones are kept while an issuer can't be reached,
// and in a file over a restart. The control plane's loop (internal/control) hands
// them to the graph. One goroutine, Run's, owns everything but what is wanted.
package keys
