// Package limit bounds how many requests come through: token buckets, one for
// each limit and combination of what it tells requests apart by, shared by all
// loops of the proxy.
//
// In come policies' limits (Book.Compile), requests (Set.Allow) and the control
// plane's shares of limits that all proxies have together (Book.Take); out go yes
// or no with what a refused client is told, and the proxy's demand for such shares
// (Book.Demand). It knows no clock: the caller passes the time. Who calls it:
// l7http for each request, the assembly in proxy for the rest.
package limit
