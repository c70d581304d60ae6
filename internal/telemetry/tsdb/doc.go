// Package tsdb is the embedded Prometheus time series database and its query
// engine, behind a few plain types: the only package of Tulle that imports
// prometheus.
//
// In comes the text a proxy exposes (Target.Append), out come values for PromQL
// expressions and names of labels and series. telemetry/ingest calls the first
// half, telemetry/query the second; control assembles and closes it.
//
// A counter that is new in a target scraped before began at zero: that zero is
// stored at the time of the scrape before, so the first error of its kind is
// counted. (Plain Prometheus sees the counter appear at 1 and no increase.)
package tsdb
