// Package hpack reads and writes the field blocks of HTTP/2 (HPACK, RFC 7541).
//
// It is pure, and nothing in it allocates once a connection's tables have
// grown to what it needs: a [Reader], one for each event loop, takes fields
// out of a block in place; a [Decoder] and an [Encoder] are the state of one
// connection's two directions. It knows nothing of what fields mean: limits on
// their number, their validity and their order are the engine's, in
// internal/proxy/h2.
//
// Why not golang.org/x/net/http2/hpack: its decoder makes a string of every
// literal and hands fields to a function, so a request with four fields that
// are not in the table costs 6 allocations, and its encoder puts every field
// into the table. Measured on the gRPC request of bench_test.go
// (`go test -bench .`, AMD EPYC): decoding 191 ns and 6 allocations there,
// 78 ns and none here; encoding 676 ns there, 200 ns here. In exchange blocks
// are larger here, since strings are not Huffman-coded unless
// Encoder.Huffman asks for it. x/net's is the oracle of the fuzz tests.
package hpack
