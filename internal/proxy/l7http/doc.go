// Package l7http carries HTTP requests from a client to an endpoint and the
// answers back.
//
// An Exchange is one request and its responses, whatever the protocol on either
// side: a Downstream (who asked) and an Upstream (who answers) meet in it.
// Between them flow a parsed head, body bytes in borrowed slices, an end with
// trailers, each held up by the other's lack of room. The exchange decides
// where the request goes (Router), which endpoint and connection take it, what
// may be tried again, and counts how it went. server.go and client.go are the
// two sides in HTTP/1.1; another protocol adds two files like them.
//
// exchange.go shows the steps of an exchange. Between route and first endpoint
// stand the gates (admit.go); what may be sent again, when and how often is in
// retry.go, what is kept for that in replay.go, copies that race each other in
// hedge.go, all times in deadline.go.
//
// Heads are the parsed form of wire/h1: HTTP's semantics (RFC 9110) rather
// than one version's bytes. Everything belongs to one loop (Worker); a request
// on warm connections allocates nothing and takes no lock.
//
// Who calls it: the assembly in proxy hands it accepted connections.
package l7http
