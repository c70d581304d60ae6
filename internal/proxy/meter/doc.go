// Package meter counts what a proxy does and writes it for Prometheus.
//
// Each loop writes to its own Shard through handles it resolves once; a scrape
// adds the shards up. In come label values and amounts from the loops, out goes
// Prometheus text (docs/metrics.md lists every metric). Who calls it: the loops
// (l7http, l4, mtls, listen) count, live sets the gauges of the control
// connection, admin asks for the text.
package meter
