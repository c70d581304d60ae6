package l4

import (
	"io"

	"tulle.dev/tulle/internal/proxy/poll"
)

// Vet looks at the first bytes that a client sends into a tunnel, before any of
// them goes on; b is all that came so far. last is what a client that is refused
// is told.
type Vet func(b []byte) (v Vetted, last []byte)

// Vetted is what a Vet comes to.
type Vetted uint8

// The answers; with VetMore it is asked again when more has come.
const (
	VetMore Vetted = iota
	VetPass
	VetRefuse
)

// maxVetted bounds the bytes that a Vet is shown; whoever sends more without a
// decision is refused.
const maxVetted = 16 << 10

// upward is up.move for a client that is to be looked at first.
func (t *tunnel) upward() bool {
	for t.options.Vet != nil && !t.done {
		in := t.client.In()
		v, last := VetMore, []byte(nil)
		if in.Len() > 0 {
			v, last = t.options.Vet(in.Bytes())
		}
		switch v {
		case VetPass:
			t.options.Vet = nil
			continue
		case VetRefuse:
			t.refuse(last)
			return false
		}
		switch _, err := t.client.Fill(maxVetted); err {
		case nil:
		case poll.ErrAgain:
			return false
		case io.EOF:
			if in.Len() == 0 { // it only listens
				t.options.Vet = nil
				continue
			}
			t.refuse(nil)
			return false
		default:
			if t.client.Err() == nil { // more than is looked at
				t.refuse(nil)
			}
			return false
		}
	}
	return !t.done && t.up.move()
}

// refuse ends a tunnel whose client may not say what it says.
func (t *tunnel) refuse(last []byte) {
	t.client.Write(last)
	t.server.Abort()
	t.count()
	t.end(false)
}
