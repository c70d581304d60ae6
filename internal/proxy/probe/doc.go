// Package probe asks endpoints how they are, where a policy wants that (active
// health checks): each endpoint that the proxy knows, once for the whole proxy.
//
// In: the endpoints of a service and its policy.HealthCheck (Prober.Follow). Out:
// what all loops know of an endpoint (eject.Endpoint.SetHealthy). How an endpoint
// is asked is the business of a Target, which the proxy makes: over the same
// connections and with the same identities as its traffic.
//
// A Prober belongs to one loop and is called on it alone. An endpoint is thought
// healthy until as many checks in a row have failed as the policy says.
package probe
