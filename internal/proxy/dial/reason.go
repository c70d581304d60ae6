package dial

import (
	"errors"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/identity"
)

// OtherWorkload is how it is counted that another workload with an endpoint's
// identity answered at its address, and was sent nothing.
const OtherWorkload = "wrong_workload"

// Other reports whether an endpoint's address has come to another workload.
func Other(err error) bool {
	var other *identity.OtherWorkloadError
	return errors.As(err, &other)
}

// Reason is the Proxy-Status error type (RFC 9209, 2.3) of what kept Dial from
// connecting; the metrics use the same words.
func Reason(err error) string {
	var tls *TLSError
	switch {
	case errors.Is(err, ErrTimeout):
		return "connection_timeout"
	case errors.Is(err, ErrLimit):
		return "connection_limit_reached"
	case errors.Is(err, ErrSelf):
		return "proxy_loop_detected"
	case errors.As(err, &tls):
		return "tls_certificate_error"
	case errors.Is(err, unix.ECONNREFUSED):
		return "connection_refused"
	}
	return "destination_ip_unroutable"
}
