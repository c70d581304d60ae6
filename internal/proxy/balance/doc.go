// Package balance picks the endpoint of a request, by the policy that came with
// the endpoints: the better of two random choices, judged by peak-EWMA latency
// times requests in flight, unless told otherwise; or by requests in flight, in
// turn, by chance, or by a hash (ring, Maglev). Weights, zones, slow start,
// sessions, ejection and health narrow the choice for all of them.
//
// A Set belongs to one event loop and is not safe for concurrent use: each loop
// judges latency by its own traffic; who is left out, all loops know together
// (eject). The exchange asks it for an endpoint and reports how the request went.
// Time is passed in; there is no clock here.
//
// Sources: Mitzenmacher, "The Power of Two Choices in Randomized Load
// Balancing" (2001); the peak-EWMA balancer described by Finagle; Karger et al.,
// "Consistent Hashing and Random Trees" (1997); Eisenbud et al., "Maglev" (2016);
// Walker, "An Efficient Method for Generating Discrete Random Variables" (1977).
package balance
