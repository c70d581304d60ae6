// Package jwtsvid issues JWT-SVIDs (SPIFFE's JWT-SVID specification): short-lived
// tokens that say who a workload is to whoever is named in them, where mutual TLS
// doesn't reach.
//
// In come identities with audiences (who may have which identity is decided by the
// caller, control/api), out go tokens, and the public keys that verify them, those of
// other control planes of the mesh included. Each control plane has keys of its own;
// no private key leaves it. A key is published before it signs, and for as long as
// something that it signed is good. Private keys lie where the CA's do, or are with the
// signer; what is known of them in a file of the data directory, public keys in the
// store. One goroutine, Run's, makes and publishes keys; Issue and Bundle may be called
// from anywhere.
package jwtsvid
