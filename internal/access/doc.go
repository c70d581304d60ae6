// Package access decides who may do what: it compiles access rules into a Table,
// narrows that to what can concern one peer when its connection begins (Session),
// and answers each request with a decision and the rule it is due to.
//
// In come rules as the control plane writes them and views carry them (Spec), a
// peer that has proven who it is, and requests; out go decisions, and for people
// the rule that came nearest. The proxy runs it on each connection and request
// without allocating, the control plane validates with it, the CLI asks it ("may
// web POST /charge?"). It is pure: no clock, no sockets.
//
// How rules combine: a Deny that is met refuses. Otherwise an Allow that is met
// lets pass. Otherwise the Default holds; where there is an Allow at all, the
// default the control plane writes is Deny. Callers of another trust domain may do
// nothing by default, whatever that is. A rule in audit decides nothing, what
// it would have decided is told beside.
//
// Paths are compared so that no spelling of one gets around a rule: see path.go.
package access
