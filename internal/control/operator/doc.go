// Package operator says who may do what with the control plane: people and
// programs that use its API, not workloads.
//
// In come what a caller brings (a certificate, a token, an OpenID Connect token)
// and the mesh's Operator objects; out goes a Who, and its May answers each
// question. control/api asks it before anything is done, the dashboard before
// anything is shown; Sessions are the browsers that were let in.
//
// The user who runs the control plane, over its socket, may do everything, and so
// may whoever holds the control plane's own token.
package operator
