package object

import (
	"strings"
	"testing"

	"tulle.dev/tulle/api/v1alpha1"
)

// What a Mesh says of other trust domains is refused by field.
func TestFederatedDomains(t *testing.T) {
	good := v1alpha1.FederatedTrustDomain{TrustDomain: "partner.example", Endpoint: "https://a.example:9440/.well-known/spiffe/bundle", Bundle: "-----BEGIN CERTIFICATE-----"}
	for name, c := range map[string]struct {
		change func(*v1alpha1.FederatedTrustDomain)
		want   string // the field, "" for none
	}{
		"as it should be":     {func(*v1alpha1.FederatedTrustDomain) {}, ""},
		"a bundle alone":      {func(d *v1alpha1.FederatedTrustDomain) { d.Endpoint = "" }, ""},
		"another's endpoint":  {func(d *v1alpha1.FederatedTrustDomain) { d.EndpointSPIFFEID = "spiffe://third.example/spire/server" }, ""},
		"the public web":      {func(d *v1alpha1.FederatedTrustDomain) { d.Profile, d.Bundle = v1alpha1.ProfileWeb, "" }, ""},
		"ourselves":           {func(d *v1alpha1.FederatedTrustDomain) { d.TrustDomain = "mesh.local" }, "trustDomain"},
		"no name":             {func(d *v1alpha1.FederatedTrustDomain) { d.TrustDomain = "Partner" }, "trustDomain"},
		"plaintext":           {func(d *v1alpha1.FederatedTrustDomain) { d.Endpoint = "http://a.example/" }, "endpoint"},
		"somebody's password": {func(d *v1alpha1.FederatedTrustDomain) { d.Endpoint = "https://me:x@a.example/" }, "endpoint"},
		"nothing to believe":  {func(d *v1alpha1.FederatedTrustDomain) { d.Bundle = " " }, "bundle"},
		"a very long one":     {func(d *v1alpha1.FederatedTrustDomain) { d.Bundle = strings.Repeat("x", maxBundle+1) }, "bundle"},
		"web with an id": {func(d *v1alpha1.FederatedTrustDomain) {
			d.Profile, d.EndpointSPIFFEID = v1alpha1.ProfileWeb, "spiffe://partner.example/x"
		}, "endpointSPIFFEID"},
		"web without a place": {func(d *v1alpha1.FederatedTrustDomain) { d.Profile, d.Endpoint = v1alpha1.ProfileWeb, "" }, "endpoint"},
		"an id without path":  {func(d *v1alpha1.FederatedTrustDomain) { d.EndpointSPIFFEID = "spiffe://partner.example" }, "endpointSPIFFEID"},
		"no such profile":     {func(d *v1alpha1.FederatedTrustDomain) { d.Profile = "http" }, "profile"},
	} {
		t.Run(name, func(t *testing.T) {
			m := Mesh.New().(*v1alpha1.Mesh)
			Default(m)
			d := good
			c.change(&d)
			m.Spec.FederatedTrustDomains = []v1alpha1.FederatedTrustDomain{d}
			issues := validateMesh(m)
			switch {
			case c.want == "" && len(issues) > 0:
				t.Errorf("refused: %v", issues)
			case c.want != "" && (len(issues) != 1 || issues[0].Field != "spec.federatedTrustDomains[0]."+c.want):
				t.Errorf("got %v, want one about %s", issues, c.want)
			}
		})
	}
	m := Mesh.New().(*v1alpha1.Mesh)
	Default(m)
	m.Spec.FederatedTrustDomains = []v1alpha1.FederatedTrustDomain{good, good}
	if issues := validateMesh(m); len(issues) != 1 || !strings.Contains(issues[0].Problem, "twice") {
		t.Errorf("twice the same: %v", issues)
	}
}
