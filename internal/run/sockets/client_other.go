//go:build !linux

package sockets

import "errors"

// ErrClosed is returned once the client is closed.
var ErrClosed = errors.New("sockets: closed")

var errLinux = errors.New("sockets: network namespaces exist only on Linux")

// Client asks the helper for sockets; outside Linux there is none.
type Client struct{}

// NewClient fails: only Linux has network namespaces.
func NewClient(int) (*Client, error) { return nil, errLinux }

// Has reports whether the namespace has the family.
func (*Client) Has(Family) bool { return false }

// Sockets fails outside Linux.
func (*Client) Sockets(Kind, Family, int) ([]int, error) { return nil, errLinux }

// Dialer returns the pool of sockets for dialling the program.
func (*Client) Dialer() *Dialer { return &Dialer{} }

// Close does nothing outside Linux.
func (*Client) Close() error { return nil }

// Dialer is a pool of sockets; outside Linux it is empty.
type Dialer struct{}

// TryTake returns no socket outside Linux.
func (*Dialer) TryTake(Family) (int, bool) { return -1, false }

// Take fails outside Linux.
func (*Dialer) Take(Family) (int, error) { return -1, errLinux }
