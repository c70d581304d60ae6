package route

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// CrossOrigin is a compiled CORS. It is immutable and safe for concurrent use.
type CrossOrigin struct {
	any      bool
	origins  map[string]struct{}
	patterns []originPattern

	methods, headers, expose []byte // ready to be sent; nil when echoed or not said
	anyMethod, anyHeader     bool
	exposeNames              bool
	credentials              bool
	maxAge                   []byte
}

// originPattern is met by an origin of that scheme and port whose host is
// something followed by the suffix.
type originPattern struct {
	scheme string // "https://"
	suffix string // ".shop.example", or empty for any host
	port   string // ":8443", or empty
}

// Preflight is what a browser asks before a request (Fetch standard, CORS-preflight
// request). A field that didn't come is empty.
type Preflight struct {
	Origin  []byte
	Method  []byte // Access-Control-Request-Method
	Headers []byte // Access-Control-Request-Headers
}

// Header is a field of a response. Name is in lower case; Value may be what the
// request brought and is only to be read.
type Header struct {
	Name  string
	Value []byte
}

// PreflightStatus is the status of the answer to every preflight request, which
// has no content. A browser reads refusal from what the answer doesn't say.
const PreflightStatus = 200

// MaxCORSHeaders is the most fields that AppendPreflight and AppendResponse append.
const MaxCORSHeaders = 7

// defaultMaxAge is how long a browser may keep a preflight's answer when the rule
// doesn't say (Gateway API, HTTPCORSFilter).
const defaultMaxAge = 5 * time.Second

// Compile makes a CrossOrigin, or says which field makes no sense.
func (c *CORS) Compile() (*CrossOrigin, error) {
	out := &CrossOrigin{origins: make(map[string]struct{}), credentials: c.Credentials}
	for i, o := range c.Origins {
		if o == "*" {
			out.any = true
			continue
		}
		if err := out.add(o); err != nil {
			return nil, fmt.Errorf("origins[%d]: %w", i, err)
		}
	}
	var err error
	if out.methods, out.anyMethod, err = list("methods", c.Methods); err != nil {
		return nil, err
	}
	if out.headers, out.anyHeader, err = list("headers", c.Headers); err != nil {
		return nil, err
	}
	var all bool
	if out.expose, all, err = list("expose", c.Expose); err != nil {
		return nil, err
	}
	if len(c.Expose) == 0 {
		out.expose = nil
	}
	if all {
		// With credentials a star is a name like any other (Fetch standard).
		if out.exposeNames = c.Credentials; !c.Credentials {
			out.expose = []byte("*")
		}
	}
	age := c.MaxAge
	switch {
	case age < 0:
		return nil, fmt.Errorf("maxAge: %s is negative", age)
	case age == 0:
		age = defaultMaxAge
	}
	out.maxAge = strconv.AppendInt(nil, int64(age/time.Second), 10)
	return out, nil
}

// add takes an origin, or a pattern of one.
func (c *CrossOrigin) add(origin string) error {
	want := fmt.Errorf("%q: want \"*\", or an origin such as https://shop.example, https://shop.example:8443 or https://*.shop.example", origin)
	lower := strings.ToLower(origin)
	scheme, host, ok := strings.Cut(lower, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return want
	}
	host, port, hasPort := strings.Cut(host, ":")
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return want
		}
		if port = ":" + strconv.FormatUint(n, 10); uint16(n) == usualPort(scheme) {
			port = ""
		}
	}
	name, wild := strings.CutPrefix(host, "*")
	for i := range len(name) {
		if !inHost(name[i]) {
			return want
		}
	}
	switch {
	case wild && name != "" && name[0] != '.', !wild && name == "":
		return want
	case wild:
		c.patterns = append(c.patterns, originPattern{scheme + "://", name, port})
	default:
		c.origins[scheme+"://"+name+port] = struct{}{}
	}
	return nil
}

// inHost reports whether a character may be in the host of an origin, which a
// browser writes in lower case and without escapes.
func inHost(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_'
}

// list joins names as a field's value, and says whether one of them stands for all.
func list(what string, names []string) (joined []byte, all bool, err error) {
	for i, n := range names {
		if n == "*" {
			return nil, true, nil
		}
		if !isToken(n) {
			return nil, false, fmt.Errorf("%s[%d]: %q is no token (RFC 9110, 5.6.2)", what, i, n)
		}
	}
	return []byte(strings.Join(names, ", ")), false, nil
}

// Allow says whether pages of an origin may use the responses. Origins are
// compared byte by byte as browsers write them, but for a port that is the
// scheme's usual one. It doesn't allocate.
func (c *CrossOrigin) Allow(origin []byte) bool {
	if len(origin) == 0 {
		return false
	}
	if c.any {
		return true
	}
	if bytes.HasPrefix(origin, https) {
		origin = bytes.TrimSuffix(origin, port443)
	} else if bytes.HasPrefix(origin, http) {
		origin = bytes.TrimSuffix(origin, port80)
	}
	if _, ok := c.origins[string(origin)]; ok {
		return true
	}
	for i := range c.patterns {
		if c.patterns[i].meets(origin) {
			return true
		}
	}
	return false
}

var (
	https, port443 = []byte("https://"), []byte(":443")
	http, port80   = []byte("http://"), []byte(":80")
)

func (p *originPattern) meets(origin []byte) bool {
	// Something has to stand where the star is.
	if len(origin) <= len(p.scheme)+len(p.suffix)+len(p.port) {
		return false
	}
	host, ok := cutSuffix(origin, p.port)
	if !ok || string(host[:len(p.scheme)]) != p.scheme {
		return false
	}
	rest, ok := cutSuffix(host[len(p.scheme):], p.suffix)
	if !ok {
		return false
	}
	if n := len(rest) - 1; p.suffix == "" && rest[0] == '[' && rest[n] == ']' {
		// An IPv6 address, which no suffix of a name meets.
		return bytes.IndexAny(rest[1:n], "[]/@") < 0
	}
	for _, b := range rest {
		if !inHost(b) {
			return false
		}
	}
	return true
}

func cutSuffix(b []byte, suffix string) ([]byte, bool) {
	n := len(b) - len(suffix)
	if n < 0 || string(b[n:]) != suffix {
		return nil, false
	}
	return b[:n], true
}

// IsPreflight says whether a request is a preflight, and what it asks. It looks
// fields up for OPTIONS only.
func IsPreflight(r *Request) (Preflight, bool) {
	if string(r.Method) != "OPTIONS" || r.Fields == nil {
		return Preflight{}, false
	}
	var p Preflight
	var origin, method bool
	p.Origin, origin = r.Fields.Field("origin")
	p.Method, method = r.Fields.Field("access-control-request-method")
	if !origin || !method {
		return Preflight{}, false
	}
	p.Headers, _ = r.Fields.Field("access-control-request-headers")
	return p, true
}

// AppendPreflight appends the fields of the answer to a preflight request; its
// status is PreflightStatus. Of an origin that isn't allowed it says nothing, so
// that the browser refuses. What is "*" in the rule is answered with what was
// asked for: that holds with credentials and for Authorization too, for which a
// star in a response doesn't stand.
func (c *CrossOrigin) AppendPreflight(dst []Header, p *Preflight) []Header {
	dst = c.AppendResponse(dst, p.Origin)
	if !c.Allow(p.Origin) {
		return dst
	}
	dst = appendList(dst, "access-control-allow-methods", c.methods, c.anyMethod, p.Method)
	dst = appendList(dst, "access-control-allow-headers", c.headers, c.anyHeader, p.Headers)
	return append(dst, Header{"access-control-max-age", c.maxAge})
}

func appendList(dst []Header, name string, value []byte, echo bool, asked []byte) []Header {
	if echo {
		value = asked
	}
	if len(value) == 0 {
		return dst
	}
	return append(dst, Header{name, value})
}

// AppendResponse appends the fields of a response to a request of an origin; it is
// empty when the request had none. They take the place of access-control fields
// that the backend wrote, but "vary" is one more. The response differs with the
// origin, which caches must know even of requests without one.
func (c *CrossOrigin) AppendResponse(dst []Header, origin []byte) []Header {
	if c.Allow(origin) {
		dst = append(dst, Header{"access-control-allow-origin", origin})
		if c.credentials {
			dst = append(dst, Header{"access-control-allow-credentials", yes})
		}
		if c.expose != nil {
			dst = append(dst, Header{"access-control-expose-headers", c.expose})
		}
	}
	return append(dst, Header{"vary", byOrigin})
}

var yes, byOrigin = []byte("true"), []byte("origin")

// ExposeNames says that a response to an allowed origin has to name all its fields
// in access-control-expose-headers: the rule exposes all, and with credentials a
// star doesn't say that.
func (c *CrossOrigin) ExposeNames() bool { return c.exposeNames }
