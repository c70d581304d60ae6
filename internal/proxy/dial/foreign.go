package dial

import (
	"crypto/tls"
	"errors"
	"net"
)

// Foreign is how a server outside the mesh is spoken to over TLS: by its
// certificate and name, as the web does, not by an identity of the mesh.
type Foreign interface {
	// Config is for a connection that will carry what two proxies would call by an
	// application protocol; its NextProtos are what that is called outside. It must
	// not change any more.
	Config(alpn string) *tls.Config
	// Refused is told that the server doesn't speak that, and reports whether it may
	// speak something else: then ErrProtocol is what comes of the attempt.
	Refused(alpn string) bool
}

// noProtocol is the alert of a server that speaks nothing of what it was offered
// (RFC 7301, 3.2); crypto/tls tells of it by its text alone.
var noProtocol = tls.AlertError(120).Error()

// ErrProtocol says that a server speaks another protocol; the next attempt will be
// made with that.
var ErrProtocol = errors.New("the server speaks another application protocol")

// errProtocol is a server that agreed to something else.
var errProtocol = errors.New("the server doesn't speak the application protocol")

// Unspoken reports whether an endpoint was reached that doesn't speak the
// application protocol it was offered.
func Unspoken(err error) bool {
	var alert *net.OpError
	return errors.Is(err, errProtocol) || errors.As(err, &alert) && alert.Err.Error() == noProtocol
}

// startForeign begins TLS with a server outside the mesh.
func (a *Attempt) startForeign(f Foreign) {
	config := f.Config(a.alpn)
	a.handshake(config, func(agreed string) error {
		// A server that says nothing of protocols speaks HTTP/1.1 (RFC 9110, 4.3.4).
		for _, p := range config.NextProtos {
			if agreed == p || agreed == "" && p == "http/1.1" {
				return nil
			}
		}
		return errProtocol
	}, func(err error) error {
		if Unspoken(err) && f.Refused(a.alpn) {
			return ErrProtocol
		}
		return err
	})
}
