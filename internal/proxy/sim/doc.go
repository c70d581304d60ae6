// Package sim runs proxies, and the programs on both sides of them, in one
// goroutine on a simulated network with virtual time.
//
// A World holds the clock, the randomness and everything under way. Its Poller
// is a poll.Poller, so the loops above it are the ones that run in production;
// TCP below it is a model: streams that arrive late, in pieces or joined, with
// windows that fill, half-closes, resets, refused connections and partitions,
// all as the seed says. One thing happens at a time, so a seed always gives the
// same run, and a failure is found again by its number:
//
//	go test ./internal/proxy/sim -run TestSeeds -seed 4711 -v
//
// The proxies under test and the programs that judge them are in the tests;
// nothing outside of tests may import this package.
package sim
