// Package api is the control API: HTTP and JSON, shaped as Kubernetes' for
// objects, for the CLI, `tulle run` and the dashboard.
//
// In come requests on control.sock (peers of the same user, or root) or over TLS
// (a bearer token, or an administrator's certificate); out go objects of
// control/store and answers of the rest of the control plane, which it asks
// through the small interfaces of Config. The types are those of
// control/api/client.
package api
