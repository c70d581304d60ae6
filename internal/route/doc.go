// Package route decides which rule serves a request, and what the rule does to it:
// in come rules as data (Spec), out comes a Table that says for a request's
// authority, path, query, method and header which rule and match it meets, and
// pure functions for what the rule's filters make of it: the location of a
// redirect, the path of a rewrite, the fields of CORS, the backend by weight.
//
// The proxy runs it on every request (no allocation), the control plane
// validates with it and the CLI explains with it. It is pure: no clock, no
// sockets, and randomness for weighted backends is passed in.
//
// # Precedence
//
// The most specific hostname is taken first, and then only its rules count. Of
// their matches that a request meets the one wins that has (Gateway API v1,
// HTTPRouteRule and GRPCRouteRule)
//
//  1. an exact path; else a regular expression, the longest source first; else a
//     prefix, the longest first without its final slash; else a gRPC method of any
//     service; else any path, which is what the prefix "/" is
//  2. a method
//  3. the most header fields
//  4. the most query parameters
//  5. the first place in the Spec
//
// Gateway API leaves the place of regular expressions open; they are where nginx and
// most gateways have them. A GRPCRoute's matches are paths here: service and method
// are exact, a service is the prefix "/SERVICE", so that the most characters of
// service and then of method win as its text has it; expressions go after service
// with method and before a service alone.
//
// # Conditions
//
// Paths and header values are compared byte by byte as they came. Regular
// expressions are RE2 and must match the whole path or value. Names and values of
// query parameters are compared with their percent-encoding decoded; a plus is a
// plus. Of several conditions on one name in a match, and of several parameters of
// one name in a request, the first counts; several header fields of one name are
// one whose values are joined by commas. The field "host" is the authority.
package route
