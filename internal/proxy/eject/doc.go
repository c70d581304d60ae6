// Package eject is what a proxy's loops know together of the endpoints they send
// to: who fails, who is slow, who doesn't answer health checks, and who is
// therefore left out for a while; and how much of a service's limits is used.
//
// In: each loop hands in how its requests went (Tally), health checks what they
// found (Endpoint.SetHealthy). Out: a generation that changes when balance has to
// choose among others, and flags of each endpoint. A Service is one service port,
// for the whole proxy.
//
// An endpoint that is ejected comes back by one request: when its time is over
// some loop claims it (Endpoint.Claim), and what becomes of that request decides.
//
// Concurrency: everything is safe for use by several loops, but a Tally, which
// belongs to one. A request that goes well costs one atomic load; its count is
// handed over some ten times in a Window, so that what is known of the others'
// successes is up to a tenth of it old. Failures take the service's lock. The
// loops' clocks may differ by the milliseconds between their beginnings.
//
// Who calls it: balance and dial on the loops; probe; proxy for what it shows.
package eject
