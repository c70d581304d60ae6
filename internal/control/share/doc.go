// Package share divides rate limits that all proxies have together into a part for
// each, by what each asks for.
//
// In come proxies' demands, out go parts of limits, in millionths. It is pure: no
// clock, no locks, no goroutines. Who calls it: control/push, for the proxies that
// are connected to it.
package share
