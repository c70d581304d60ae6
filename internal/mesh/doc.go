// Package mesh holds the nouns of the control plane: what a service, a
// workload, an endpoint, a gateway and a route are, as plain values.
//
// Translators (internal/control/graph) turn objects into these values; plan
// turns them into what one proxy is told (internal/view). Nothing here knows
// Kubernetes types, YAML, xDS or a wire format, and nothing here starts a
// goroutine or reads a clock.
package mesh
