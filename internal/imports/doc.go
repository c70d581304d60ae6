// Package imports translates what other meshes say about access into Tulle's own
// objects: Istio's AuthorizationPolicy and PeerAuthentication, Linkerd's Server,
// AuthorizationPolicy and their relatives, Consul's service-intentions, and SMI's
// TrafficTarget.
//
// In come YAML documents, out go AccessPolicy and AuthenticationPolicy objects and
// a report: of each field that has no equal here, what it was and what was done
// instead. Nothing is ever left out without a word, and where the meaning can't be
// kept the result permits less, never more. Who calls it: `tulle import`.
//
// Sources: the Istio, Linkerd, Consul and SMI API references.
package imports
