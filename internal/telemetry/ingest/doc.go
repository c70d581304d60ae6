// Package ingest scrapes the metrics of every proxy into the embedded database:
// a small loop of its own, because Tulle's targets come from its own registry
// and not from service discovery.
//
// In comes a function that lists the targets, out go samples to telemetry/tsdb;
// control starts Run and asks Health for `tulle check`.
package ingest
