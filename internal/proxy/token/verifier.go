package token

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
)

const (
	// MaxToken is the longest token that is read, in bytes.
	MaxToken = 16 << 10
	// MaxIssuers bounds the issuers of a policy, MaxPlaces where tokens are looked for.
	MaxIssuers = 32
	MaxPlaces  = 64
	// Skew is by how much clocks may differ.
	Skew = 60 * time.Second
)

// Error is why a token isn't believed.
type Error struct {
	// Outcome is one of a fixed set of words, for metrics.
	Outcome string
	// Issuer is the issuer whom the token names, when it is one of the policy's.
	Issuer string
	// Text says it to whoever sent the token: a short sentence of printable ASCII
	// without quotes.
	Text string
}

func (e *Error) Error() string { return e.Text }

// The outcomes.
const (
	Valid         = "valid"
	Missing       = "missing"
	Malformed     = "malformed"
	Unsupported   = "unsupported"
	UnknownIssuer = "unknown_issuer"
	UnknownKey    = "unknown_key"
	BadSignature  = "bad_signature"
	Expired       = "expired"
	NotYetValid   = "not_yet_valid"
	WrongAudience = "wrong_audience"
	WrongSubject  = "wrong_subject"
	// Denied is a valid one of an identity that is trusted no more.
	Denied = "denied"
	// Ended is a valid one that ended while what it allowed was under way.
	Ended = "ended"
)

// Place is where a token may be: in a field, after a prefix.
type Place struct {
	Name, Prefix string
	issuers      uint32 // that are looked for there
}

// Verifier is a policy ready for use.
type Verifier struct {
	// Policy is what it was made of.
	Policy *policy.JWT
	// Places are where tokens are looked for, in order.
	Places []Place
	// Skipped says which keys can't be used, and why.
	Skipped []error
	// Told are the fields, in lower case, in which claims are told to the program:
	// nobody else may write them.
	Told    []string
	issuers []issuer
	headers [][][]byte // names of claim headers, by issuer
}

type issuer struct {
	*policy.Issuer
	keys *KeySet
}

// New gets a policy ready. Keys that can't be used are left out (Skipped), for they
// come from elsewhere; without a key nobody's token is valid. It fails when the
// policy makes no sense.
func New(p *policy.JWT) (v *Verifier, err error) {
	if len(p.Issuers) > MaxIssuers {
		return nil, fmt.Errorf("issuers: there are %d, want at most %d", len(p.Issuers), MaxIssuers)
	}
	v = &Verifier{Policy: p}
	for i := range p.Issuers {
		is := &p.Issuers[i]
		keys := &KeySet{}
		if len(is.Keys) > 0 {
			set, skipped, err := ParseKeys(is.Keys)
			if err != nil {
				skipped = append(skipped, err)
			} else {
				keys = set
			}
			for _, e := range skipped {
				v.Skipped = append(v.Skipped, fmt.Errorf("issuers[%d] (%s): %w", i, is.Name, e))
			}
		}
		places := is.Headers
		if len(places) == 0 {
			places = []policy.TokenHeader{{Name: "Authorization", Prefix: "Bearer "}}
		}
		for _, h := range places {
			v.look(h, i)
		}
		names := make([][]byte, len(is.Claims))
		for j, c := range is.Claims {
			if !route.Writable(c.Header) {
				return nil, fmt.Errorf("issuers[%d].claims[%d].header: %q may not be written", i, j, c.Header)
			}
			names[j] = []byte(c.Header)
			if lower := strings.ToLower(c.Header); !slices.Contains(v.Told, lower) {
				v.Told = append(v.Told, lower)
			}
		}
		v.issuers = append(v.issuers, issuer{is, keys})
		v.headers = append(v.headers, names)
	}
	if len(v.Places) > MaxPlaces {
		return nil, fmt.Errorf("issuers: tokens are looked for in %d places, want at most %d", len(v.Places), MaxPlaces)
	}
	return v, nil
}

// look has tokens of an issuer looked for in a place.
func (v *Verifier) look(h policy.TokenHeader, issuer int) {
	for i := range v.Places {
		if p := &v.Places[i]; strings.EqualFold(p.Name, h.Name) && strings.EqualFold(p.Prefix, h.Prefix) {
			p.issuers |= 1 << issuer
			return
		}
	}
	v.Places = append(v.Places, Place{h.Name, h.Prefix, 1 << issuer})
}

// Header is the name of the field for claim header i of a Token.
func (v *Verifier) Header(t *Token, i int) []byte { return v.headers[t.Issuer][i] }

// Forward says whether a token stays on its request.
func (v *Verifier) Forward(t *Token) bool { return v.issuers[t.Issuer].Forward }

// Candidate is what stood in a place.
type Candidate struct {
	Place int
	Text  []byte
}

// Verify believes the first candidate that names an issuer who is looked for in its
// place, or nobody. which is its place in the list. The error is an *Error.
func (v *Verifier) Verify(list []Candidate, now time.Time) (t *Token, which int, err error) {
	var first *Error
	for i, c := range list {
		t, err := v.verify(c.Text, v.Places[c.Place].issuers, now)
		if err == nil {
			return t, i, nil
		}
		if first == nil {
			first = err
		}
		if err.Issuer != "" { // it claims to be somebody's: that must hold
			return nil, i, err
		}
	}
	if first == nil {
		first = &Error{Outcome: Missing, Text: "there is no token"}
	}
	return nil, -1, first
}

var (
	malformed = &Error{Outcome: Malformed, Text: "it is no signed JSON Web Token"}
	encoding  = base64.RawURLEncoding.Strict()
)

func (v *Verifier) verify(compact []byte, among uint32, now time.Time) (*Token, *Error) {
	if len(compact) > MaxToken {
		return nil, &Error{Outcome: Malformed, Text: "it is too long"}
	}
	head, rest, _ := bytes.Cut(compact, dot)
	body, sign, ok := bytes.Cut(rest, dot)
	if !ok || bytes.IndexByte(sign, '.') >= 0 {
		return nil, malformed
	}
	signed := compact[:len(head)+1+len(body)]
	header, ok1 := decode(head)
	payload, ok2 := decode(body)
	signature, ok3 := decode(sign)
	if !ok1 || !ok2 || !ok3 {
		return nil, malformed
	}
	h, ok1 := object(header)
	claims, ok2 := object(payload)
	if !ok1 || !ok2 {
		return nil, malformed
	}
	name, ok := text(claims, "iss")
	if !ok {
		return nil, malformed
	}
	at := -1
	for i := range v.issuers {
		if among&(1<<i) != 0 && v.issuers[i].Name == name && name != "" {
			at = i
			break
		}
	}
	if at < 0 {
		return nil, &Error{Outcome: UnknownIssuer, Text: "its issuer is not known"}
	}
	is := &v.issuers[at]
	fail := func(outcome, text string) (*Token, *Error) { return nil, &Error{outcome, name, text} }
	if err := is.signed(h, signed, signature); err != nil {
		return fail(err.Outcome, err.Text)
	}
	// From here on it is the issuer who speaks.
	exp, ok1 := date(claims, "exp")
	nbf, ok2 := date(claims, "nbf")
	iat, ok3 := date(claims, "iat")
	aud, ok4 := audience(claims["aud"])
	sub, ok5 := text(claims, "sub")
	switch {
	case !ok1 || !ok2 || !ok3 || !ok4 || is.Domain != "" && !ok5:
		return fail(Malformed, "a registered claim is not what it must be")
	case exp.IsZero():
		return fail(Expired, "it has no end")
	case !now.Before(exp.Add(Skew)):
		return fail(Expired, "it has expired")
	case !nbf.IsZero() && now.Before(nbf.Add(-Skew)), !iat.IsZero() && now.Before(iat.Add(-Skew)):
		return fail(NotYetValid, "it is not valid yet")
	case (len(is.Audiences) > 0 || is.Domain != "") && !slices.ContainsFunc(aud, func(a string) bool { return slices.Contains(is.Audiences, a) }):
		return fail(WrongAudience, "it is for another audience")
	case is.Domain != "" && !strings.HasPrefix(sub, "spiffe://"+is.Domain+"/"):
		return fail(WrongSubject, "its subject is not of its issuer's trust domain")
	}
	t := &Token{Issuer: at, Name: is.Name, Ends: exp, claims: flatten(claims), size: overhead + 4*len(payload)}
	if is.Domain != "" {
		t.Subject, _ = identity.Parse(sub) // other meshes may name theirs otherwise
	}
	for _, c := range is.Claims {
		t.Headers = append(t.Headers, t.header(c.Claim))
	}
	return t, nil
}

// overhead is what a Token takes beside its claims, about, in bytes.
const overhead = 512

var dot = []byte(".")

// decode reads base64url without padding and without bits that mean nothing.
func decode(b []byte) ([]byte, bool) {
	if bytes.IndexByte(b, '\n') >= 0 || bytes.IndexByte(b, '\r') >= 0 { // encoding/base64 skips them
		return nil, false
	}
	out := make([]byte, encoding.DecodedLen(len(b)))
	n, err := encoding.Decode(out, b)
	return out[:n], err == nil && n > 0
}

// signed checks the signature as the header describes it.
func (i *issuer) signed(h map[string]any, signed, signature []byte) *Error {
	alg, ok1 := text(h, "alg")
	kid, ok2 := text(h, "kid")
	typ, ok3 := text(h, "typ")
	_, named := h["kid"]
	_, critical := h["crit"]
	a := algorithmOf(alg)
	switch {
	case !ok1 || !ok2 || !ok3:
		return malformed
	case critical:
		return &Error{Outcome: Unsupported, Text: "it has critical extensions"}
	case a == nil:
		return &Error{Outcome: Unsupported, Text: "its algorithm is not accepted"}
	case !accepted(typ):
		return &Error{Outcome: Unsupported, Text: "it is another type of token"}
	}
	switch known, ok := i.keys.verify(a, kid, named, signed, signature); {
	case !known:
		return &Error{Outcome: UnknownKey, Text: "its key is not known"}
	case !ok:
		return &Error{Outcome: BadSignature, Text: "its signature does not match"}
	}
	return nil
}

// accepted says whether tokens of a type are for those whom requests are sent to
// (RFC 8725, 3.11): a logout token, for one, isn't.
func accepted(typ string) bool {
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case "", "jwt", "jose", "at+jwt":
		return true
	}
	return false
}
