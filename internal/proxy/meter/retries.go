package meter

// Retry is why a request was tried again, or should have been.
type Retry uint8

// The reasons.
const (
	RetryUnsent  Retry = iota // the application never saw it
	RetryConnect              // no connection could be had
	RetryReset                // the connection or stream broke
	RetryTimeout              // the try took too long
	RetryStatus               // the response's status
	RetryGRPC                 // the call's code
	RetryHedge                // no response yet: a copy
	retryReasons
)

var retryNames = [retryReasons]string{"unsent", "connect", "reset", "timeout", "status", "grpc", "hedge"}

func (r Retry) String() string { return retryNames[r] }

// RetryOutcome is what came of the wish to try again.
type RetryOutcome uint8

// The outcomes.
const (
	Retried        RetryOutcome = iota // it was sent again
	RetryNoBudget                      // too many others were
	RetryExhausted                     // as often as the policy says already
	RetryBody                          // the request's body wasn't kept
	RetryNoTime                        // it would have been too late, or the endpoint asked for too long a pause
	retryOutcomes
)

var retryOutcomeNames = [retryOutcomes]string{"sent", "budget", "exhausted", "body", "time"}

func (o RetryOutcome) String() string { return retryOutcomeNames[o] }
