package object

import (
	"fmt"
	"net/url"
	"strings"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/identity"
)

const (
	// maxFederated bounds the other trust domains of a mesh.
	maxFederated = 64
	// maxBundle bounds a bundle in an object, in bytes.
	maxBundle = 256 << 10
)

func (is *issues) federated(m *v1alpha1.Mesh) {
	is.atMost("spec.federatedTrustDomains", len(m.Spec.FederatedTrustDomains), maxFederated)
	seen := map[string]bool{m.Spec.TrustDomain: true}
	for i := range m.Spec.FederatedTrustDomains {
		d := &m.Spec.FederatedTrustDomains[i]
		at := fmt.Sprintf("spec.federatedTrustDomains[%d]", i)
		if _, err := identity.ParseTrustDomain(d.TrustDomain); err != nil {
			is.add(at+".trustDomain", "%s", err)
		}
		if seen[d.TrustDomain] {
			is.add(at+".trustDomain", "%q: is the mesh's own, or there twice", d.TrustDomain)
		}
		seen[d.TrustDomain] = true
		if len(d.Bundle) > maxBundle {
			is.add(at+".bundle", "%d bytes: want at most %d", len(d.Bundle), maxBundle)
		}
		if d.Endpoint != "" {
			u, err := url.Parse(d.Endpoint)
			if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
				is.add(at+".endpoint", "%q: want https://HOST/PATH", d.Endpoint)
			}
		}
		switch d.Profile {
		case v1alpha1.ProfileWeb:
			if d.EndpointSPIFFEID != "" {
				is.add(at+".endpointSPIFFEID", "is for profile https_spiffe: a certificate of the public web has none")
			}
			if d.Endpoint == "" {
				is.add(at+".endpoint", "is missing: profile https_web is about how it is asked")
			}
		case "", v1alpha1.ProfileSPIFFE:
			if strings.TrimSpace(d.Bundle) == "" {
				is.add(at+".bundle", "is missing: give the other mesh's roots, by which its endpoint is believed (there: tulle trust bundle)")
			}
			if id := d.EndpointSPIFFEID; id != "" {
				domain, path, _ := strings.Cut(strings.TrimPrefix(id, "spiffe://"), "/")
				if _, err := identity.ParseTrustDomain(domain); err != nil || !strings.HasPrefix(id, "spiffe://") || path == "" {
					is.add(at+".endpointSPIFFEID", "%q: want spiffe://TRUST-DOMAIN/PATH", id)
				}
			}
		default:
			is.add(at+".profile", "%q: want https_spiffe or https_web", d.Profile)
		}
	}
}
