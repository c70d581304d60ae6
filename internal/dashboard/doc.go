// Package dashboard serves the mesh's web pages: the built assets of web/, a
// small JSON API for them, live updates, and the Prometheus query API.
//
// In come a Mesh and Signals (what control/api and telemetry/query answer) and a
// Door (who may look), out goes an http.Handler; control mounts it. It reads only:
// nothing in the mesh can be changed from a browser.
//
// The build of web/ is tracked in dist/, so that Go alone builds the real
// dashboard; `make web` renews it and CI fails on a difference.
package dashboard
