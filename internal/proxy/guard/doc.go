// Package guard keeps to access rules on one loop: who a connection is from
// (Caller), whether it or a request on it is allowed, and, when rules change,
// whether what is under way still is. It counts decisions, writes some of the
// refusals to the log, and remembers who asked for what (Observed).
//
// In come compiled rules (access.Table), peers and requests; out come refusals. It
// ends nothing itself: l7http asks it for each request, internal/proxy for each
// connection, and both end what it forbids. A Keeper and all that it makes belong
// to one loop; a Log serves all of them.
package guard
