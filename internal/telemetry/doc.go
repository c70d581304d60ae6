// Package telemetry is the vocabulary of the mesh's golden signals: what
// `tulle stat`, `tulle edges`, the dashboard and the control API say about
// services and the calls between them. It holds values only.
//
// In comes nothing; the values are made by telemetry/query, which computes them
// with PromQL from what telemetry/ingest scraped into telemetry/tsdb. They go
// out as JSON through control/api and dashboard.
//
// A number nobody can know (no traffic in the window, no histogram) is nil and
// null in JSON, never zero.
package telemetry
