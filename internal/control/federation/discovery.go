package federation

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// This file is OpenID Connect Discovery 1.0 for JWT-SVIDs: what clouds and others that
// know no SPIFFE verify tokens by.

const (
	// DiscoveryPath is where the document is, below the issuer.
	DiscoveryPath = "/.well-known/openid-configuration"
	// KeysPath is where the keys are that it names.
	KeysPath = "/.well-known/jwks.json"
)

// configuration is the document (section 3), as far as it is about tokens that nobody
// logs in for.
type configuration struct {
	Issuer        string   `json:"issuer"`
	Keys          string   `json:"jwks_uri"`
	Authorization string   `json:"authorization_endpoint"`
	Responses     []string `json:"response_types_supported"`
	Subjects      []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
}

// discovered says that the tokens' issuer is a URL, below which this can be.
func (e *Endpoint) discovered() bool {
	return e.Tokens != nil && strings.HasPrefix(e.Tokens.Issuer(), "https://")
}

func (e *Endpoint) discovery() ([]byte, error) {
	issuer := e.Tokens.Issuer()
	return json.Marshal(configuration{Issuer: issuer, Keys: strings.TrimSuffix(issuer, "/") + KeysPath,
		Responses: []string{"id_token"}, Subjects: []string{"public"}, Algorithms: []string{string(jose.ES256)}})
}

func (e *Endpoint) keySet() ([]byte, error) { return Own(e.CA, e.Tokens).KeySet() }

// KeySet writes the keys of JWT-SVIDs as a JWK set for those who know no SPIFFE.
func (b *Bundle) KeySet() ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, id := range slices.Sorted(maps.Keys(b.JWTKeys)) {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: b.JWTKeys[id], KeyID: id, Use: "sig"})
	}
	return json.Marshal(set)
}
