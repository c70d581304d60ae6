// Package workloadapi serves the SPIFFE Workload API (its specification, version
// 1.0) to one program on a Unix socket, so that the program can use its workload's
// identity itself: in TLS of its own, with any of the SPIFFE libraries.
//
// Each caller gets an X.509-SVID and a key of its own, renewed at half of its life,
// hears of new trust bundles, and gets JWT-SVIDs and judgements of them. Only processes of the user who runs the program are
// served. In come an Issuer; out go the answers of the Workload API. `tulle run`
// starts it and sets SPIFFE_ENDPOINT_SOCKET.
package workloadapi
