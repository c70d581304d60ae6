package h1

// Error says why a message is refused. All Errors are constants of this
// package: comparing pointers is fine, and none allocates.
type Error struct {
	// Status is what a client is answered: 4xx or 5xx for its own request, 502
	// for a response from upstream.
	Status int
	// Reason is a metric label from a fixed set: see Reasons.
	Reason string
	// Text is one sentence for people; it quotes nothing of the message.
	Text string
}

// Error returns the sentence.
func (e *Error) Error() string { return e.Text }
