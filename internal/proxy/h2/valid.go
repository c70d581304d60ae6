package h2

// What bytes may stand where: RFC 9110, 5.1, 5.5 and 5.6.2, RFC 9113, 8.2.1 and
// 8.3. Stricter than RFC 9113 where HTTP/1.1 is: a message that is valid here
// can be written as HTTP/1.1 without becoming another one.

const (
	isToken     = 1 << iota // a token's
	isUpper                 // A to Z
	isValue                 // a field value's
	isPath                  // a path's and query's
	isAuthority             // host, port, brackets
	isScheme
)

var classes = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		alpha := 'a' <= b|0x20 && b|0x20 <= 'z'
		digit := '0' <= b && b <= '9'
		if alpha || digit || contains("!#$%&'*+-.^_`|~", b) {
			t[c] |= isToken
		}
		if 'A' <= b && b <= 'Z' {
			t[c] |= isUpper
		}
		if b >= 0x20 && b != 0x7f || b == '\t' {
			t[c] |= isValue
		}
		if b > 0x20 && b < 0x7f && b != '#' {
			t[c] |= isPath
		}
		if alpha || digit || contains("-._~%!$&'()*+,;=:[]", b) {
			t[c] |= isAuthority
		}
		if alpha || digit || contains("+-.", b) {
			t[c] |= isScheme
		}
	}
	return t
}()

func contains(s string, b byte) bool {
	for i := range len(s) {
		if s[i] == b {
			return true
		}
	}
	return false
}

// all reports whether every byte has the class.
func all(s []byte, class uint8) bool {
	for _, b := range s {
		if classes[b]&class == 0 {
			return false
		}
	}
	return true
}

// validName: a token without upper case; not empty.
func validName(s []byte) bool {
	for _, b := range s {
		if classes[b]&(isToken|isUpper) != isToken {
			return false
		}
	}
	return len(s) > 0
}

func validToken(s []byte) bool { return len(s) > 0 && all(s, isToken) }

func validScheme(s []byte) bool {
	return len(s) > 0 && 'a' <= s[0]|0x20 && s[0]|0x20 <= 'z' && all(s, isScheme)
}

// validAuthority: host and port, no user information (RFC 9113, 8.3.1). May be empty.
func validAuthority(s []byte) bool { return all(s, isAuthority) }

// validPath: absolute, or *.
func validPath(s []byte) bool {
	return len(s) > 0 && (s[0] == '/' || len(s) == 1 && s[0] == '*') && all(s, isPath)
}

// validValue: no control characters but tabs inside, and no space around it.
func validValue(s []byte) bool {
	if len(s) == 0 {
		return true
	}
	if a, z := s[0], s[len(s)-1]; a == ' ' || a == '\t' || z == ' ' || z == '\t' {
		return false
	}
	return all(s, isValue)
}

// sameAuthority compares two authorities as servers must that aren't the origin
// (RFC 9113, 8.3.1; RFC 3986, 6.2.3): a port that the scheme has anyhow, or one
// that is empty, makes no difference.
func sameAuthority(a, b, scheme []byte) bool {
	return equalFoldBytes(withoutPort(a, scheme), withoutPort(b, scheme))
}

func withoutPort(a, scheme []byte) []byte {
	i := len(a)
	for i > 0 && '0' <= a[i-1] && a[i-1] <= '9' {
		i--
	}
	if i == 0 || a[i-1] != ':' {
		return a
	}
	switch port := a[i:]; {
	case len(port) == 0,
		string(port) == "80" && equalFold(scheme, "http"),
		string(port) == "443" && equalFold(scheme, "https"):
		return a[:i-1]
	}
	return a
}

// maxLengthDigits bounds Content-Length so that it fits an int64.
const maxLengthDigits = 18

func parseLength(s []byte) (n int64, ok bool) {
	if len(s) == 0 || len(s) > maxLengthDigits {
		return 0, false
	}
	for _, b := range s {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + int64(b-'0')
	}
	return n, true
}

func parseStatus(s []byte) (n int, ok bool) {
	if len(s) != 3 {
		return 0, false
	}
	for _, b := range s {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + int(b-'0')
	}
	return n, n >= 100 && n < 600
}

func lower(b byte) byte {
	if classes[b]&isUpper != 0 {
		return b | 0x20
	}
	return b
}

// equalFold compares with a string in lower case.
func equalFold(s []byte, low string) bool {
	if len(s) != len(low) {
		return false
	}
	for i, b := range s {
		if lower(b) != low[i] {
			return false
		}
	}
	return true
}

func equalFoldBytes(s, t []byte) bool {
	if len(s) != len(t) {
		return false
	}
	for i, b := range s {
		if lower(b) != lower(t[i]) {
			return false
		}
	}
	return true
}
