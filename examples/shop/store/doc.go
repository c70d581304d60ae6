// Package store keeps the carts: a client for the few commands of Redis that
// the shop uses, and a small server that knows the same ones, for machines
// with no Redis. Both speak RESP2 (the Redis serialization protocol) over
// plain TCP.
package store
