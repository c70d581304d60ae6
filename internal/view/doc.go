// Package view is what one proxy is told: its listeners, the services it asked
// for, their endpoints, the trust bundle. A View is a set of resources, each
// with a key and a version; the control plane sends the resources that changed,
// the proxy keeps the last good set on disk, and `tulle view` writes the same
// file from objects.
//
// It encodes with protobuf's wire format (api/proto/view.proto describes it; a
// test compares the two). Who calls it: control/plan and control/push make and
// send views, proxy/live reads them, cli renders them.
package view
