// Package client is the control API as a Go program sees it: its types, and a
// client for them over the control plane's Unix socket or over TLS.
//
// In come method calls, out go HTTP requests; errors are *Status, as the
// control plane said it, or say that it couldn't be reached. The CLI, `tulle
// run` and tests call it; control/api serves the other side with the same types.
package client
