// Package ca issues workload certificates: X.509-SVIDs of the SPIFFE
// specification, from an issuing certificate under a root that it made itself
// or was given.
//
// In come public keys with the ids they are for (who may have which id is
// decided by the caller, control/push), out come certificate chains. The root
// lives ten years, the issuing certificate 90 days (a new one is made at two
// thirds of that), an SVID at most 24 hours. Keys are files of mode 0600 in a
// directory of 0700, behind the small Keys interface. ThrowAway is the CA that
// `tulle view --identity DIR` uses.
package ca
