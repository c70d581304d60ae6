package l7http

import "tulle.dev/tulle/internal/wire/h1"

// vouching is what another program says about a request.
type vouching struct {
	told []h1.Field // fields of the answer to the client
}

// vouched is the gate of who is asked.
func (x *Exchange) vouched() *Failure { return nil }

// forget gives up what is under way.
func (x *Exchange) forget() {}
