package client

import (
	"context"
	"net/http"
)

// CertificateRequest asks for an X.509-SVID. Who may use the API may ask for any
// identity's, as for a join token.
type CertificateRequest struct {
	// Identity is NAMESPACE/SERVICE-ACCOUNT or a SPIFFE id.
	Identity string `json:"identity"`
	// CSR is PKCS #10, DER; only its public key is used.
	CSR []byte `json:"csr"`
}

// Certificate is the answer.
type Certificate struct {
	Identity string `json:"identity"`
	// Chain is DER, leaf first.
	Chain [][]byte `json:"chain"`
}

// CreateCertificate asks for a certificate.
func (c *Client) CreateCertificate(ctx context.Context, r CertificateRequest) (*Certificate, error) {
	out := new(Certificate)
	return out, c.json(ctx, http.MethodPost, "/tulle/v1/certificates", r, out)
}
