// Package join keeps join tokens and grants: who may ask for a first
// certificate, and which services an identity may serve.
//
// A token is used once, ends by itself, and is kept as a hash. Using it leaves
// a grant behind: the identity's services, which control/push asks about when a
// proxy registers. Everything is in control/store, so replicas agree.
package join
