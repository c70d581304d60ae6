// Package query turns samples into answers: the golden signals of services and
// edges, charts for the dashboard, and the parts of Prometheus' HTTP API that
// Grafana needs of a data source.
//
// In comes a question (a window, a chart's name, PromQL over HTTP), out goes a
// value of package telemetry or Prometheus' JSON. control/api and dashboard
// call it. It reads telemetry/tsdb and the list of services, and writes nothing.
package query
