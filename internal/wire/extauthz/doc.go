// Package extauthz is the messages of Envoy's external authorization protocol
// (envoy.service.auth.v3.Authorization/Check), as far as Tulle uses them.
//
// In comes what a request is, out goes a CheckRequest; in comes the answer, out go
// whether the request is allowed and what is to be changed in it. l7http asks with
// it. Fields that are unknown, and dynamic metadata, are skipped.
package extauthz
