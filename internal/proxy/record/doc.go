// Package record says what became of requests and opaque connections, one line of
// JSON for each: in the proxy's access log, and to whoever taps it.
//
// In go Records, filled in by the loop on which something ended; out come lines.
// A Recorder belongs to a proxy, each of its Pens to one loop. A Pen writes into a
// bounded buffer of its own and never waits: a goroutine of the Recorder's takes
// the lines from there to their file, and what finds no room is counted. While
// nobody wants lines nothing is encoded.
//
// There are no header fields, bodies or queries in a Record, for those may be
// secrets; what comes from outside is escaped, so that a line is one line of
// printable ASCII whatever anybody sends.
//
// l7http and internal/proxy fill Records in; admin reads Taps.
package record
