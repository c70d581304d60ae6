// Package ratelimit is the messages of Envoy's rate limit protocol
// (envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit), as far as Tulle
// uses them.
//
// In comes what a request is told apart by, out goes a RateLimitRequest; in comes the
// answer, out go whether there are too many, how many are left, and fields to add.
// l7http asks with it. Fields that are unknown, and dynamic metadata, are skipped.
package ratelimit
