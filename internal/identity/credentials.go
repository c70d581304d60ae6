package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Credentials hold a workload's current SVID and the roots of its peers, and
// make TLS configurations that follow their changes. The zero value has
// neither. Safe for concurrent use.
type Credentials struct {
	svid   atomic.Pointer[SVID]
	bundle atomic.Pointer[Bundle]
	// Now is the clock; nil means time.Now. Set it before use.
	Now func() time.Time
}

// SVID returns the current SVID, or nil.
func (c *Credentials) SVID() *SVID { return c.svid.Load() }

// SetSVID makes s the SVID of connections from now on.
func (c *Credentials) SetSVID(s *SVID) { c.svid.Store(s) }

// Bundle returns the current roots, or nil.
func (c *Credentials) Bundle() *Bundle { return c.bundle.Load() }

// SetBundle makes b the roots of connections from now on.
func (c *Credentials) SetBundle(b *Bundle) { c.bundle.Store(b) }

func (c *Credentials) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

var errNoSVID = errors.New("there is no certificate of our own yet")

func (c *Credentials) certificate() (*tls.Certificate, error) {
	if s := c.SVID(); s != nil {
		return s.Certificate, nil
	}
	return nil, errNoSVID
}

// base is what all configurations have in common: TLS 1.3, no session tickets
// (a resumed session would carry an identity past a change of the roots), and
// every check of a peer in VerifyConnection, which crypto/tls calls on each
// handshake.
func (c *Credentials) base(protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		NextProtos:             protocols,
		Time:                   c.Now,
	}
}

// ClientConfig is for a connection to the workload server, which must answer
// with exactly that id. The zero ID accepts any id of a trusted domain.
func (c *Credentials) ClientConfig(server ID, protocols ...string) *tls.Config {
	config := c.base(protocols)
	// The default check is for DNS names; VerifyConnection replaces it.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		id, err := c.Bundle().Verify(cs.PeerCertificates, c.now())
		if err != nil {
			return err
		}
		if !server.IsZero() && id != server {
			return fmt.Errorf("the server is %s, want %s", id, server)
		}
		return nil
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return c.certificate()
	}
	return config
}

// AnonymousConfig is ClientConfig without a certificate of one's own.
func (c *Credentials) AnonymousConfig(server ID, protocols ...string) *tls.Config {
	config := c.ClientConfig(server, protocols...)
	config.GetClientCertificate = nil
	return config
}

// ServerConfig is for connections from workloads of the trusted domains, which
// must present an SVID. allow, when not nil, decides who of them may connect.
func (c *Credentials) ServerConfig(allow func(ID) error, protocols ...string) *tls.Config {
	config := c.base(protocols)
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		Pause(hello)
		return c.certificate()
	}
	config.ClientAuth = tls.RequireAnyClientCert
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		id, err := c.Bundle().Verify(cs.PeerCertificates, c.now())
		if err == nil && allow != nil {
			err = allow(id)
		}
		return err
	}
	return config
}

// Pause interrupts a server's handshake in the middle of its computation, if its
// connection can do that, so that its thread may do what is more urgent. A
// tls.Config's GetCertificate calls it: the key is agreed on then, and the signature
// still to be made.
func Pause(hello *tls.ClientHelloInfo) {
	if c, ok := hello.Conn.(interface{ Pause() }); ok {
		c.Pause()
	}
}

// JoinServerConfig is ServerConfig for clients that may have no SVID yet; one
// that is presented is checked as there. The server's chain gets its root
// appended, so that a client with a join token can pin it.
func (c *Credentials) JoinServerConfig(protocols ...string) *tls.Config {
	config := c.ServerConfig(nil, protocols...)
	config.ClientAuth = tls.RequestClientCert
	verify := config.VerifyConnection
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		return verify(cs)
	}
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		s := c.SVID()
		if s == nil {
			return nil, errNoSVID
		}
		return s.withRoot(c.Bundle()), nil
	}
	return config
}

// withRoot appends the root that the last certificate of the chain names as its
// issuer.
func (s *SVID) withRoot(b *Bundle) *tls.Certificate {
	last := s.Leaf
	if n := len(s.Certificate.Certificate); n > 1 {
		if c, err := x509.ParseCertificate(s.Certificate.Certificate[n-1]); err == nil {
			last = c
		}
	}
	for _, root := range b.Roots(s.ID.TrustDomain) {
		if !root.Equal(last) && last.CheckSignatureFrom(root) == nil {
			chain := append([][]byte(nil), s.Certificate.Certificate...)
			return &tls.Certificate{
				Certificate: append(chain, root.Raw),
				PrivateKey:  s.Certificate.PrivateKey,
				Leaf:        s.Leaf,
			}
		}
	}
	return s.Certificate
}

// PinnedConfig is for the first connection to the control plane: its chain must
// contain the root that a join token names, and its id must be that of a
// control plane.
func PinnedConfig(pin [sha256.Size]byte, now func() time.Time, protocols ...string) *tls.Config {
	c := &Credentials{Now: now}
	config := c.base(protocols)
	config.InsecureSkipVerify = true // VerifyConnection does it all
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		id, _, err := VerifyPinned(cs.PeerCertificates, pin, c.now())
		if err == nil && id != ControlPlane(id.TrustDomain) {
			err = fmt.Errorf("the server is %s, want %s", id, ControlPlane(id.TrustDomain))
		}
		return err
	}
	return config
}

// ControlPlane is the control plane's own id in a trust domain.
func ControlPlane(d TrustDomain) ID {
	return ID{TrustDomain: d, Namespace: "tulle", ServiceAccount: "control-plane"}
}

// Peer returns the id of a connection's verified peer, the zero ID when it sent
// no certificate. Call it only after a handshake with a configuration of this
// package.
func Peer(cs tls.ConnectionState) ID {
	if len(cs.PeerCertificates) == 0 || len(cs.PeerCertificates[0].URIs) != 1 {
		return ID{}
	}
	id, err := Parse(cs.PeerCertificates[0].URIs[0].String())
	if err != nil {
		return ID{}
	}
	return id
}
