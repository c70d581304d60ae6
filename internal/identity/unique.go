package identity

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// uniqueBytes is the length of a unique id before it is written in hexadecimal
// digits: nobody guesses one, and no two are ever alike.
const uniqueBytes = 16

// NewUniqueID makes a workload's unique id. Several workloads may have one SPIFFE
// id; the unique id tells them apart. It stands in the certificate as the
// subject's serialNumber (X.520, 6.2.9), where other verifiers of X.509-SVIDs
// don't look: those allow no second name of any kind that they would know.
func NewUniqueID() string {
	b := make([]byte, uniqueBytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// UniqueID returns the unique id in a certificate, "" when it has none. Another
// issuer's serialNumber of another form is none.
func UniqueID(c *x509.Certificate) string {
	if s := c.Subject.SerialNumber; IsUniqueID(s) {
		return s
	}
	return ""
}

// IsUniqueID reports whether s has the form of a unique id: 32 hexadecimal
// digits in lower case.
func IsUniqueID(s string) bool {
	if len(s) != 2*uniqueBytes {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// OtherWorkloadError says that a server has the identity that it should have, and
// is another workload than it should be.
type OtherWorkloadError struct {
	ID ID
	// Want and Got are unique ids; Got is "" when the certificate has none.
	Want, Got string
}

func (e *OtherWorkloadError) Error() string {
	got := e.Got
	if got == "" {
		got = "none"
	}
	return fmt.Sprintf("another workload of %s answers at the address: its unique id is %s, want %s", e.ID, got, e.Want)
}

// WorkloadConfig is ClientConfig for one workload among those with the id server:
// its certificate must have that unique id. An empty one stands for any.
func (c *Credentials) WorkloadConfig(server ID, unique string, protocols ...string) *tls.Config {
	config := c.ClientConfig(server, protocols...)
	if unique == "" {
		return config
	}
	verify := config.VerifyConnection
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := verify(cs); err != nil {
			return err
		}
		if got := UniqueID(cs.PeerCertificates[0]); got != unique {
			return &OtherWorkloadError{ID: server, Want: unique, Got: got}
		}
		return nil
	}
	return config
}
