package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
)

var _ access.Claims = (*Token)(nil)

const iss = "https://issuer.example"

var now = time.Unix(1_800_000_000, 0)

// signers are one private key for each algorithm, made once.
var signers = sync.OnceValue(func() map[jose.SignatureAlgorithm]crypto.Signer {
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return k
	}
	r := must(rsa.GenerateKey(rand.Reader, 2048))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	return map[jose.SignatureAlgorithm]crypto.Signer{
		jose.RS256: r, jose.RS384: r, jose.RS512: r, jose.PS256: r, jose.PS384: r, jose.PS512: r,
		jose.ES256: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		jose.ES384: must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		jose.ES512: must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		jose.EdDSA: must(ed, err),
	}
})

func sign(t testing.TB, alg jose.SignatureAlgorithm, k crypto.Signer, header map[string]any, payload string) string {
	t.Helper()
	o := &jose.SignerOptions{}
	for n, v := range header {
		o.WithHeader(jose.HeaderKey(n), v)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: k}, o)
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	c, err := j.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func jwks(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func public(alg jose.SignatureAlgorithm, kid string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: signers()[alg].Public(), KeyID: kid}
}

func verifier(t testing.TB, is ...policy.Issuer) *Verifier {
	t.Helper()
	v, err := New(&policy.JWT{Issuers: is})
	if err != nil || len(v.Skipped) > 0 {
		t.Fatal(err, v)
	}
	return v
}

func claims(more string) string {
	return fmt.Sprintf(`{"iss":%q,"exp":%d%s}`, iss, now.Unix()+300, more)
}

func one(text string) []Candidate { return []Candidate{{0, []byte(text)}} }

func outcome(t testing.TB, v *Verifier, text string) string {
	t.Helper()
	tok, _, err := v.Verify(one(text), now)
	var e *Error
	switch {
	case err == nil && tok != nil:
		return Valid
	case !errors.As(err, &e) || tok != nil:
		t.Fatalf("%v %v", tok, err)
	}
	return e.Outcome
}

// TestAlgorithms: what go-jose signs is believed with the right key and no other.
func TestAlgorithms(t *testing.T) {
	for alg, k := range signers() {
		v := verifier(t, policy.Issuer{Name: iss, Keys: jwks(t, public(alg, "a"))})
		text := sign(t, alg, k, map[string]any{"kid": "a"}, claims(""))
		if got := outcome(t, v, text); got != Valid {
			t.Errorf("%s: %s", alg, got)
		}
		if got := outcome(t, v, sign(t, alg, k, map[string]any{"kid": "b"}, claims(""))); got != UnknownKey {
			t.Errorf("%s with another kid: %s", alg, got)
		}
		if got := outcome(t, v, sign(t, alg, k, nil, claims(""))); got != Valid {
			t.Errorf("%s without kid: %s", alg, got)
		}
		for other := range signers() {
			if oneKey(other, alg) {
				continue
			}
			w := verifier(t, policy.Issuer{Name: iss, Keys: jwks(t, public(other, "a"))})
			if got := outcome(t, w, text); got != UnknownKey {
				t.Errorf("%s with a key for %s: %s", alg, other, got)
			}
		}
		// A key that says what it is for is for nothing else.
		said := public(alg, "a")
		said.Algorithm = string(alg)
		w := verifier(t, policy.Issuer{Name: iss, Keys: jwks(t, said)})
		for also := range signers() {
			if !oneKey(also, alg) {
				continue
			}
			want := UnknownKey
			if also == alg {
				want = Valid
			}
			if got := outcome(t, w, sign(t, also, k, nil, claims(""))); got != want {
				t.Errorf("a key for %s alone, token by %s: %s", alg, also, got)
			}
		}
		// Any bit of the signature counts.
		dot := strings.LastIndexByte(text, '.')
		sig, _ := base64.RawURLEncoding.DecodeString(text[dot+1:])
		for _, i := range []int{0, len(sig) / 2, len(sig) - 1} {
			sig[i] ^= 1
			if got := outcome(t, v, text[:dot+1]+base64.RawURLEncoding.EncodeToString(sig)); got != BadSignature {
				t.Errorf("%s with a changed signature: %s", alg, got)
			}
			sig[i] ^= 1
		}
		for _, s := range [][]byte{sig[:len(sig)-1], append(sig, 0), make([]byte, len(sig))} {
			if got := outcome(t, v, text[:dot+1]+base64.RawURLEncoding.EncodeToString(s)); got != BadSignature {
				t.Errorf("%s with a signature of %d bytes: %s", alg, len(s), got)
			}
		}
	}
}

// oneKey says whether two algorithms have the same key here: RSA's.
func oneKey(a, b jose.SignatureAlgorithm) bool {
	_, rsaA := signers()[a].(*rsa.PrivateKey)
	_, rsaB := signers()[b].(*rsa.PrivateKey)
	return a == b || rsaA && rsaB
}

func raw(header, payload, signature string) string {
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(payload)) + "." + signature
}

// TestConfusion: a token can't choose how it is verified (RFC 8725, 2.1 and 3).
func TestConfusion(t *testing.T) {
	keys := jwks(t, public(jose.RS256, "r"), public(jose.ES256, "e"))
	v := verifier(t, policy.Issuer{Name: iss, Keys: keys})
	// HMAC with what everybody knows: the public key.
	hmac, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: keys}, nil)
	if err != nil {
		t.Fatal(err)
	}
	j, _ := hmac.Sign([]byte(claims("")))
	symmetric, _ := j.CompactSerialize()
	good := sign(t, jose.ES256, signers()[jose.ES256], map[string]any{"kid": "e"}, claims(""))
	parts := strings.Split(good, ".")
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	for name, test := range map[string]struct{ text, want string }{
		"none":           {raw(`{"alg":"none"}`, claims(""), ""), Malformed},
		"none, signed":   {raw(`{"alg":"none"}`, claims(""), parts[2]), Unsupported},
		"NONE":           {raw(`{"alg":"NoNe"}`, claims(""), parts[2]), Unsupported},
		"no alg":         {raw(`{}`, claims(""), parts[2]), Unsupported},
		"alg twice":      {raw(`{"alg":"ES256","alg":"none"}`, claims(""), parts[2]), Malformed},
		"alg a number":   {raw(`{"alg":256}`, claims(""), parts[2]), Malformed},
		"Alg":            {raw(`{"Alg":"ES256"}`, claims(""), parts[2]), Unsupported},
		"HMAC":           {symmetric, Unsupported},
		"its own key":    {sign(t, jose.EdDSA, stranger, map[string]any{"jwk": jose.JSONWebKey{Key: stranger.Public()}}, claims("")), UnknownKey},
		"crit":           {sign(t, jose.ES256, signers()[jose.ES256], map[string]any{"crit": []string{"exp"}, "exp": 1}, claims("")), Unsupported},
		"b64":            {sign(t, jose.ES256, signers()[jose.ES256], map[string]any{"crit": []string{"b64"}, "b64": true}, claims("")), Unsupported},
		"a logout token": {sign(t, jose.ES256, signers()[jose.ES256], map[string]any{"typ": "logout+jwt"}, claims("")), Unsupported},
		"at+jwt":         {sign(t, jose.ES256, signers()[jose.ES256], map[string]any{"typ": "application/AT+JWT"}, claims("")), Valid},
		"other payload":  {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(claims(`,"admin":true`))) + "." + parts[2], BadSignature},
		"padded":         {good + "==", Malformed},
		"line break":     {good[:len(good)-4] + "\n" + good[len(good)-4:], Malformed},
		"four parts":     {good + ".x", Malformed},
		"two parts":      {parts[0] + "." + parts[1], Malformed},
		"five parts":     {"a.b.c.d.e", Malformed},
		"empty":          {"", Malformed},
		"dots":           {"..", Malformed},
		"opaque":         {"ya29.a0AfH6SMB", Malformed},
		"not an object":  {raw(`{"alg":"ES256"}`, `["iss"]`, parts[2]), Malformed},
		"trailing":       {raw(`{"alg":"ES256"}`, claims("")+"{}", parts[2]), Malformed},
		"not UTF-8":      {raw(`{"alg":"ES256"}`, claims(`,"a":"`+"\xff"+`"`), parts[2]), Malformed},
		"too long":       {raw(`{"alg":"ES256"}`, claims(`,"a":"`+strings.Repeat("a", MaxToken)+`"`), parts[2]), Malformed},
		"too deep":       {raw(`{"alg":"ES256"}`, claims(`,"a":`+strings.Repeat("[", 9)+strings.Repeat("]", 9)), parts[2]), Malformed},
		"too many":       {raw(`{"alg":"ES256"}`, claims(`,"a":[1`+strings.Repeat(",1", maxValues)+`]`), parts[2]), Malformed},
		"good":           {good, Valid},
	} {
		if got := outcome(t, v, test.text); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	// Not the bits that mean nothing (RFC 4648, 3.5) either: the same bytes, another text.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, good[len(good)-1])
	if got := outcome(t, v, good[:len(good)-1]+alphabet[last|1:last|1+1]); last&1 == 0 && got != Malformed {
		t.Errorf("bits that mean nothing: %s", got)
	}
}

func TestClaims(t *testing.T) {
	k := signers()[jose.ES256]
	v := verifier(t, policy.Issuer{Name: iss, Audiences: []string{"shop", "till"}, Keys: jwks(t, public(jose.ES256, ""))})
	at := func(d int) int64 { return now.Unix() + int64(d) }
	for payload, want := range map[string]string{
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":"shop"}`, iss, at(1)):                       Valid,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":["x","till"]}`, iss, at(1)):                 Valid,
		fmt.Sprintf(`{"iss":%q,"exp":%d.5,"aud":"shop"}`, iss, at(1)):                     Valid,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":"shop"}`, iss, at(-59)):                     Valid,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":"shop"}`, iss, at(-60)):                     Expired,
		fmt.Sprintf(`{"iss":%q,"exp":0,"aud":"shop"}`, iss):                               Expired,
		fmt.Sprintf(`{"iss":%q,"aud":"shop"}`, iss):                                       Expired,
		fmt.Sprintf(`{"iss":%q,"exp":"%d","aud":"shop"}`, iss, at(1)):                     Malformed,
		fmt.Sprintf(`{"iss":%q,"exp":-1,"aud":"shop"}`, iss):                              Malformed,
		fmt.Sprintf(`{"iss":%q,"exp":1e300,"aud":"shop"}`, iss):                           Malformed,
		fmt.Sprintf(`{"iss":%q,"exp":1e999,"aud":"shop"}`, iss):                           Malformed,
		fmt.Sprintf(`{"iss":%q,"exp":%d}`, iss, at(1)):                                    WrongAudience,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":"Shop"}`, iss, at(1)):                       WrongAudience,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":["shop",1]}`, iss, at(1)):                   Malformed,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":{"shop":1}}`, iss, at(1)):                   Malformed,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":"shop","nbf":%d}`, iss, at(300), at(60)):    Valid,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":"shop","nbf":%d}`, iss, at(300), at(61)):    NotYetValid,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":"shop","iat":%d}`, iss, at(300), at(61)):    NotYetValid,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":"shop","nbf":"soon"}`, iss, at(300)):        Malformed,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":"shop"}`, iss+"/", at(1)):                   UnknownIssuer,
		fmt.Sprintf(`{"iss":%q,"exp":%d,"aud":"shop"}`, strings.ToUpper(iss), at(1)):      UnknownIssuer,
		fmt.Sprintf(`{"iss":[%q],"exp":%d,"aud":"shop"}`, iss, at(1)):                     Malformed,
		fmt.Sprintf(`{"iss":%q,"iss":%q,"exp":%d,"aud":"shop"}`, "https://x", iss, at(1)): Malformed,
		fmt.Sprintf(`{"exp":%d,"aud":"shop"}`, at(1)):                                     UnknownIssuer,
	} {
		if got := outcome(t, v, sign(t, jose.ES256, k, nil, payload)); got != want {
			t.Errorf("%s: %s, want %s", payload, got, want)
		}
	}
}

// TestDomain: the keys of a trust domain speak for its own workloads only, and to who
// is named alone.
func TestDomain(t *testing.T) {
	k := signers()[jose.ES256]
	is := policy.Issuer{Name: iss, Domain: "partner.example", Audiences: []string{"shop"}, Keys: jwks(t, public(jose.ES256, ""))}
	nobody := is
	nobody.Audiences = nil
	for sub, want := range map[string]string{
		`"spiffe://partner.example/ns/shop/sa/web"`:              Valid,
		`"spiffe://partner.example/web"`:                         Valid,
		`"spiffe://mesh.local/ns/shop/sa/web"`:                   WrongSubject,
		`"spiffe://partner.example.evil/ns/shop/sa/web"`:         WrongSubject,
		`"spiffe://partner.example"`:                             WrongSubject,
		`"web"`:                                                  WrongSubject,
		`""`:                                                     WrongSubject,
		`["spiffe://partner.example/ns/shop/sa/web"]`:            Malformed,
		`"https://x/spiffe://partner.example/ns/shop/sa/web"`:    WrongSubject,
		`"SPIFFE://partner.example/ns/shop/sa/web"`:              WrongSubject,
		`"spiffe://Partner.example/ns/shop/sa/web"`:              WrongSubject,
		`"spiffe://partner.example@mesh.local/ns/shop/sa/admin"`: WrongSubject,
	} {
		text := sign(t, jose.ES256, k, nil, claims(`,"aud":"shop","sub":`+sub))
		if got := outcome(t, verifier(t, is), text); got != want {
			t.Errorf("%s: %s, want %s", sub, got, want)
		}
		if got := outcome(t, verifier(t, nobody), text); got != WrongAudience && want != Malformed {
			t.Errorf("%s, without an audience: %s", sub, got)
		}
	}
	text := sign(t, jose.ES256, k, nil, claims(`,"aud":"shop"`))
	if got := outcome(t, verifier(t, is), text); got != WrongSubject {
		t.Errorf("without a subject: %s", got)
	}
}

func TestClaimByName(t *testing.T) {
	v := verifier(t, policy.Issuer{Name: iss, Keys: jwks(t, public(jose.ES256, "")), Claims: []policy.ClaimHeader{
		{Claim: "sub", Header: "X-User"}, {Claim: "roles", Header: "X-Roles"}, {Claim: "realm.groups", Header: "X-Groups"},
		{Claim: "tricky", Header: "X-Tricky"}, {Claim: "broken", Header: "x-user"}, {Claim: "scope", Header: "X-Scope"}, {Claim: "realm", Header: "X-Realm"},
	}})
	tok, _, err := v.Verify(one(sign(t, jose.ES256, signers()[jose.ES256], nil, claims(`,"sub":"anna","roles":["buyer","admin"],`+
		`"realm":{"groups":["g1"],"deep":{"er":true},"a.b":"x","":"y"},"level":3,"big":12345678901234567890,"ok":false,"nothing":null,`+
		`"https://e.example/role":"boss","a.b":"literal","a":{"b":"nested"},"scope":"read write","tricky":["a,b","c"],"broken":"a\nX-Admin: 1"`))), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, values string
		want         bool
	}{
		{"sub", "anna", true}, {"sub", "Anna", false}, {"sub", "", true}, {"sub", "x|anna", true},
		{"roles", "admin", true}, {"roles", "buyer,admin", false}, {"roles", "boss", false},
		{"realm.groups", "g1", true}, {"realm.deep.er", "true", true}, {"realm", "", true}, {"realm", "g1", false}, {"realm.a.b", "", false}, {"realm.", "", false},
		{"level", "3", true}, {"level", "3.0", false}, {"big", "12345678901234567890", true}, {"ok", "false", true}, {"nothing", "", false}, {"absent", "", false},
		{"https://e.example/role", "boss", true}, {"a.b", "literal", true}, {"a.b", "nested", false},
		{"scope", "read", true}, {"scope", "read write", true}, {"scope", "rea", false}, {"iss", iss, true},
	} {
		var values []string
		if test.values != "" {
			values = strings.Split(test.values, "|")
		}
		if got := tok.Claim(test.name, values); got != test.want {
			t.Errorf("%s in %q: %v", test.name, test.values, got)
		}
	}
	if (*Token)(nil).Claim("sub", nil) {
		t.Error("no token has no claims")
	}
	for i, want := range []string{"anna", "buyer,admin", "g1", "", "", "read write", ""} {
		if got := string(tok.Headers[i]); got != want {
			t.Errorf("header %s: %q, want %q", v.Header(tok, i), got, want)
		}
	}
	if got := strings.Join(v.Told, " "); got != "x-user x-roles x-groups x-tricky x-scope x-realm" {
		t.Error(got)
	}
	values := []string{"x", "admin"}
	if n := testing.AllocsPerRun(100, func() { tok.Claim("roles", values); tok.Claim("realm.deep.er", values) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSeveral: who is looked for where, and which of several tokens counts.
func TestSeveral(t *testing.T) {
	second := "https://other.example"
	v := verifier(t, policy.Issuer{Name: iss, Keys: jwks(t, public(jose.ES256, ""))},
		policy.Issuer{Name: second, Keys: jwks(t, public(jose.EdDSA, "")), Headers: []policy.TokenHeader{{Name: "X-Token"}, {Name: "authorization", Prefix: "bearer "}}})
	if len(v.Places) != 2 || v.Places[0].Name != "Authorization" || v.Places[1].Name != "X-Token" {
		t.Fatalf("%+v", v.Places)
	}
	a := []byte(sign(t, jose.ES256, signers()[jose.ES256], nil, claims("")))
	b := []byte(sign(t, jose.EdDSA, signers()[jose.EdDSA], nil, strings.Replace(claims(""), iss, second, 1)))
	forged := []byte(sign(t, jose.EdDSA, signers()[jose.EdDSA], nil, claims("")))
	junk := []byte("junk")
	for _, test := range []struct {
		list  []Candidate
		name  string
		which int
	}{
		{[]Candidate{{0, a}}, iss, 0}, {[]Candidate{{1, b}}, second, 0}, {[]Candidate{{0, b}}, second, 0},
		{[]Candidate{{1, a}}, "", -1}, // nobody looks for it there
		{[]Candidate{{0, junk}, {1, b}}, second, 1}, {[]Candidate{{1, a}, {0, a}}, iss, 1},
		{[]Candidate{{0, a}, {1, b}}, iss, 0},
		{[]Candidate{{0, forged}, {1, b}}, "", 0}, // it claims to be somebody's
		{nil, "", -1},
	} {
		tok, which, err := v.Verify(test.list, now)
		if name := ""; err == nil {
			if name = tok.Name; name != test.name {
				t.Errorf("%v: %s", test, name)
			}
		} else if test.name != "" {
			t.Errorf("%v: %v", test, err)
		}
		if which != test.which {
			t.Errorf("%v: which is %d", test, which)
		}
	}
}

func TestParseKeys(t *testing.T) {
	e := base64.RawURLEncoding
	ec := func(x, y string) string { return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, x, y) }
	point, _ := signers()[jose.ES256].Public().(*ecdsa.PublicKey).Bytes()
	n := signers()[jose.RS256].Public().(*rsa.PublicKey).N
	x, y := e.EncodeToString(point[1:33]), e.EncodeToString(point[33:])
	private := jwks(t, jose.JSONWebKey{Key: signers()[jose.ES256]})
	for _, test := range []struct{ key, why string }{
		{ec(x, y), ""},
		{ec(y, x), "no point"},
		{ec(x, x), "no point"},
		{ec(x[:20], y), "bytes"},
		{`{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}`, "isn't known"},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"}`, e.EncodeToString(n.Bytes()[:128])), "1024 bits"},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"}`, e.EncodeToString(make([]byte, 4096))), "bits"},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"}`, e.EncodeToString([]byte(strings.Repeat("\xff", 2048)))), "bits"},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQ"}`, e.EncodeToString(n.Bytes())), "exponent"},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQABAQAB"}`, e.EncodeToString(n.Bytes())), "exponent"},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","alg":"RS256"}`, e.EncodeToString(n.Bytes())), ""},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","alg":"RS1"}`, e.EncodeToString(n.Bytes())), "alg"},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","alg":"ES256"}`, e.EncodeToString(n.Bytes())), "alg"},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","use":"enc"}`, e.EncodeToString(n.Bytes())), "use"},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","key_ops":["sign"]}`, e.EncodeToString(n.Bytes())), "key_ops"},
		{fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","key_ops":["verify"]}`, e.EncodeToString(n.Bytes())), ""},
		{`{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`, "bytes"},
		{`{"kty":"OKP","crv":"X25519","x":"AAAA"}`, "can't be used"},
		{`{"kty":"oct","k":"c2VjcmV0"}`, "published"},
		{`{"kty":7}`, "string"},
		{`7`, "object"},
	} {
		set, why, err := ParseKeys([]byte(`{"keys":[` + test.key + `]}`))
		if err != nil {
			t.Errorf("%s: %v", test.key, err)
			continue
		}
		if test.why == "" && (set.Len() != 1 || len(why) > 0) || test.why != "" && (set.Len() != 0 || len(why) != 1 || !strings.Contains(why[0].Error(), test.why)) {
			t.Errorf("%.80s: %d keys, %v, want %q", test.key, set.Len(), why, test.why)
		}
	}
	if set, why, _ := ParseKeys(private); set.Len() != 0 || len(why) != 1 {
		t.Errorf("a private key: %d, %v", set.Len(), why)
	}
	for _, text := range []string{"", "[]", "{}", `{"keys":{}}`, `{"keys":[],"keys":[]}`, `{"Keys":[]}`,
		`{"keys":[` + strings.Repeat("{},", MaxKeys) + `{}]}`, `{"keys":[],"x":"` + strings.Repeat("x", MaxKeySet) + `"}`} {
		if _, _, err := ParseKeys([]byte(text)); err == nil {
			t.Errorf("%.40s is believed", text)
		}
	}
	// Keys that are no good leave an issuer without, not the policy.
	v, err := New(&policy.JWT{Issuers: []policy.Issuer{{Name: iss, Keys: []byte("no keys")}, {Name: "b"}}})
	if err != nil || len(v.Skipped) != 1 {
		t.Fatal(err, v)
	}
	if got := outcome(t, v, sign(t, jose.ES256, signers()[jose.ES256], nil, claims(""))); got != UnknownKey {
		t.Error(got)
	}
	for _, name := range []string{"Host", "tulle-client-identity", "a b", "Content-Length"} {
		if _, err := New(&policy.JWT{Issuers: []policy.Issuer{{Name: iss, Claims: []policy.ClaimHeader{{Claim: "sub", Header: name}}}}}); err == nil {
			t.Errorf("claims may be written into %s", name)
		}
	}
}

func TestCache(t *testing.T) {
	v := verifier(t, policy.Issuer{Name: iss, Keys: jwks(t, public(jose.ES256, ""))})
	list := one(sign(t, jose.ES256, signers()[jose.ES256], nil, claims("")))
	var c Cache
	sum := SumOf(AppendCandidate(nil, list[0]))
	if tok, _ := c.Get(v, sum, now); tok != nil {
		t.Fatal("it knows what it was never told")
	}
	tok, which, err := v.Verify(list, now)
	if err != nil {
		t.Fatal(err)
	}
	c.Put(v, sum, tok, which)
	if got, at := c.Get(v, sum, now); got != tok || at != 0 {
		t.Error("forgotten")
	}
	if got, _ := c.Get(verifier(t, *v.issuers[0].Issuer), sum, now); got != nil {
		t.Error("believed by another policy")
	}
	if got, _ := c.Get(v, SumOf(AppendCandidate(nil, Candidate{1, list[0].Text})), now); got != nil {
		t.Error("believed in another place")
	}
	if got, _ := c.Get(v, sum, tok.Ends.Add(Skew)); got != nil {
		t.Error("believed after its end")
	}
	var scratch []byte
	if n := testing.AllocsPerRun(100, func() {
		scratch = AppendCandidate(scratch[:0], list[0])
		if got, _ := c.Get(v, SumOf(scratch), now); got == nil {
			t.Error("forgotten")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	// What is asked for stays.
	for i := range 3 * MaxCached {
		c.Get(v, sum, now)
		c.Put(v, Sum{byte(i), byte(i >> 8), byte(i >> 16), 1}, &Token{Ends: tok.Ends, size: 10}, 0)
	}
	if len(c.ring) != MaxCached || len(c.entries) != MaxCached {
		t.Errorf("%d %d entries", len(c.ring), len(c.entries))
	}
	if got, _ := c.Get(v, sum, now); got != tok {
		t.Error("forgotten")
	}
	for i := range 20 {
		c.Put(v, Sum{byte(i), 2}, &Token{Ends: tok.Ends, size: MaxCachedBytes / 4}, 0)
	}
	if c.bytes > MaxCachedBytes {
		t.Errorf("%d bytes", c.bytes)
	}
}

// FuzzVerify: what is believed is what go-jose believes too, and nothing panics.
func FuzzVerify(f *testing.F) {
	algs := []jose.SignatureAlgorithm{}
	keys := []jose.JSONWebKey{}
	for alg := range maps.Keys(signers()) {
		algs = append(algs, alg)
		keys = append(keys, public(alg, string(alg)))
		f.Add(sign(f, alg, signers()[alg], map[string]any{"kid": string(alg)}, claims(`,"a":{"b":[1,"x"]}`)))
	}
	f.Add(raw(`{"alg":"none"}`, claims(""), ""))
	f.Add(raw(`{"alg":"ES256","crit":["b64"],"b64":false}`, claims(""), "AA"))
	v := verifier(f, policy.Issuer{Name: iss, Keys: jwks(f, keys...)})
	f.Fuzz(func(t *testing.T, text string) {
		tok, _, err := v.Verify(one(text), now)
		if err != nil {
			return
		}
		j, err := jose.ParseSigned(text, algs)
		if err != nil {
			t.Fatalf("go-jose doesn't read %q: %v", text, err)
		}
		for _, k := range keys {
			if payload, err := j.Verify(k.Key); err == nil {
				var c struct{ Iss string }
				if json.Unmarshal(payload, &c); c.Iss != tok.Name {
					t.Fatalf("%q is from %q", text, c.Iss)
				}
				return
			}
		}
		t.Fatalf("go-jose believes nobody signed %q", text)
	})
}

func FuzzKeys(f *testing.F) {
	for alg := range signers() {
		f.Add(jwks(f, public(alg, "a")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		set, _, err := ParseKeys(b)
		if err == nil && set.Len() > MaxKeys {
			t.Error(set.Len())
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for alg, k := range signers() {
		v := verifier(b, policy.Issuer{Name: iss, Keys: jwks(b, public(alg, "a"))})
		list := one(sign(b, alg, k, map[string]any{"kid": "a"}, claims(`,"sub":"anna","roles":["buyer","admin"],"scope":"read write"`)))
		b.Run(string(alg), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := v.Verify(list, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCached(b *testing.B) {
	v := verifier(b, policy.Issuer{Name: iss, Keys: jwks(b, public(jose.RS256, "a"))})
	list := one(sign(b, jose.RS256, signers()[jose.RS256], nil, claims(`,"sub":"anna","roles":["buyer","admin"],"scope":"read write"`)))
	tok, which, err := v.Verify(list, now)
	if err != nil {
		b.Fatal(err)
	}
	var c Cache
	var scratch []byte
	c.Put(v, SumOf(AppendCandidate(nil, list[0])), tok, which)
	b.ReportAllocs()
	for b.Loop() {
		scratch = AppendCandidate(scratch[:0], list[0])
		if got, _ := c.Get(v, SumOf(scratch), now); got == nil {
			b.Fatal("forgotten")
		}
	}
}
