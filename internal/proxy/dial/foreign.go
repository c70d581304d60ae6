package dial

import (
	"crypto/tls"
	"errors"
)

// Foreign is how a server outside the mesh is spoken to over TLS: by its
// certificate and name, as the web does, not by an identity of the mesh.
type Foreign interface {
	// Config is for a connection that will carry what two proxies would call by an
	// application protocol; its NextProtos are what that is called outside. It must
	// not change any more.
	Config(alpn string) *tls.Config
	// Refused is told that the server doesn't speak that.
	Refused(alpn string)
}

// noProtocol is the alert of a server that speaks nothing of what it was offered
// (RFC 7301, 3.2).
const noProtocol = tls.AlertError(120)

// errProtocol is a server that agreed to something else.
var errProtocol = errors.New("the server doesn't speak the application protocol")

// startForeign begins TLS with a server outside the mesh.
func (a *attempt) startForeign(f Foreign) {
	config := f.Config(a.alpn)
	a.handshake(config, func(agreed string) error {
		// A server that says nothing of protocols speaks HTTP/1.1 (RFC 9110, 4.3.4).
		for _, p := range config.NextProtos {
			if agreed == p || agreed == "" && p == "http/1.1" {
				return nil
			}
		}
		return errProtocol
	}, func(err error) {
		var alert tls.AlertError
		if err == errProtocol || errors.As(err, &alert) && alert == noProtocol {
			f.Refused(a.alpn)
		}
	})
}
