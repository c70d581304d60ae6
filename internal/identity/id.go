package identity

import (
	"errors"
	"fmt"
	"strings"
)

// TrustDomain is the authority part of a SPIFFE id, such as "mesh.local".
type TrustDomain string

// ID is a workload's SPIFFE id,
// spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT.
// The zero ID means "no identity".
type ID struct {
	TrustDomain    TrustDomain
	Namespace      string
	ServiceAccount string
}

// IsZero reports whether the id is absent.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the URI, or "" for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return "spiffe://" + string(id.TrustDomain) + "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount
}

// Parse reads a SPIFFE id of Tulle's form. It is strict: no query, fragment,
// port, user, empty or dot segment, and only the characters the SPIFFE ID
// specification allows in a trust domain (section 2.1) and a path (2.2).
func Parse(uri string) (ID, error) {
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	if !ok {
		return ID{}, fmt.Errorf("SPIFFE id %q: must begin with spiffe://", uri)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" {
		return ID{}, fmt.Errorf("SPIFFE id %q: want spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT", uri)
	}
	if err := checkTrustDomain(parts[0]); err != nil {
		return ID{}, fmt.Errorf("SPIFFE id %q: %w", uri, err)
	}
	for _, segment := range []string{parts[2], parts[4]} {
		if err := checkSegment(segment); err != nil {
			return ID{}, fmt.Errorf("SPIFFE id %q: %w", uri, err)
		}
	}
	if len(uri) > 2048 {
		return ID{}, errors.New("SPIFFE id: longer than 2048 bytes")
	}
	return ID{TrustDomain: TrustDomain(parts[0]), Namespace: parts[2], ServiceAccount: parts[4]}, nil
}

// ParseTrustDomain reads a trust domain name.
func ParseTrustDomain(s string) (TrustDomain, error) {
	if err := checkTrustDomain(s); err != nil {
		return "", err
	}
	return TrustDomain(s), nil
}

func checkTrustDomain(s string) error {
	if s == "" || len(s) > 255 {
		return fmt.Errorf("trust domain %q: want 1 to 255 characters", s)
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_') {
			return fmt.Errorf("trust domain %q: %q is not allowed, use a-z 0-9 . - _", s, c)
		}
	}
	return nil
}

func checkSegment(s string) error {
	if s == "" || s == "." || s == ".." {
		return fmt.Errorf("path segment %q is not allowed", s)
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_') {
			return fmt.Errorf("path segment %q: %q is not allowed, use a-z A-Z 0-9 . - _", s, c)
		}
	}
	return nil
}
