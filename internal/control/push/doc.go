// Package push talks with proxies: it certifies them (Certify) and keeps each
// told about what it asked for (Discover), over gRPC with the messages of
// internal/wire/control.
//
// In come snapshots with what changed in them (Publish), and proxies' messages;
// out go updates, each a diff against what that proxy holds, and workloads'
// status and leases into the store. Nothing is queued per change: a stream has
// a set of resources to look at again, bounded by what the proxy subscribed to,
// and one update under way; whatever changes meanwhile goes into the next one.
package push
