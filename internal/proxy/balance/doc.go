// Package balance picks the endpoint of a request: the better of two random
// choices, judged by peak-EWMA latency times requests in flight.
//
// A Set belongs to one event loop and is not safe for concurrent use: each loop
// judges endpoints by its own traffic. The exchange asks it for an endpoint and
// reports how the request went. Time is passed in; there is no clock here.
//
// Sources: Mitzenmacher, "The Power of Two Choices in Randomized Load
// Balancing" (2001); the peak-EWMA balancer described by Finagle.
package balance
