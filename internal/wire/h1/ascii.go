package h1

import (
	"encoding/binary"
	"strings"
)

// class says where a byte may stand.
type class uint8

const (
	classToken class = 1 << iota // tchar (RFC 9110, 5.6.2)
	classPath                    // a path's byte
	classQuery                   // a query's byte
	classHost                    // a reg-name's byte (RFC 3986, 3.2.2)
	classText                    // HTAB, SP, VCHAR, obs-text
	classHex                     // HEXDIG
	classDigit                   // DIGIT
)

const (
	digits     = "0123456789"
	letters    = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	unreserved = digits + letters + "-._~"
	subDelims  = "!$&'()*+,;="
	pchar      = unreserved + subDelims + ":@%"
	// inPath and inQuery are bytes RFC 3986 doesn't allow there but browsers and
	// curl send as they are typed (the URL standard's percent-encode sets). No
	// recipient takes them for a delimiter. "\" isn't one of them in a path.
	inPath  = "[]{}|^`"
	inQuery = inPath + "\\"
)

var classes = func() (t [256]class) {
	set := func(c class, bytes string) {
		for i := range len(bytes) {
			t[bytes[i]] |= c
		}
	}
	set(classToken, digits+letters+"!#$%&'*+-.^_`|~")
	set(classPath, pchar+"/"+inPath)
	set(classQuery, pchar+"/?"+inQuery)
	// A comma may stand in a reg-name, but in Host it makes a list of two, which
	// servers read in different ways.
	set(classHost, strings.ReplaceAll(unreserved+subDelims+"%", ",", ""))
	set(classHex, digits+"abcdefABCDEF")
	set(classDigit, digits)
	set(classText, "\t")
	for c := 0x20; c < 0x100; c++ {
		if c != 0x7f {
			t[c] |= classText
		}
	}
	return t
}()

func isHex(c byte) bool   { return classes[c]&classHex != 0 }
func isDigit(c byte) bool { return c-'0' <= 9 }

// unhex returns a hexadecimal digit's value, or 255.
func unhex(c byte) byte {
	switch {
	case c-'0' <= 9:
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 255
}

// isToken says that b is a token: one tchar or more.
func isToken(b []byte) bool {
	for _, c := range b {
		if classes[c]&classToken == 0 {
			return false
		}
	}
	return len(b) > 0
}

// isText says that b holds no control character but HTAB. It looks at eight
// bytes at a time and only where one of them is suspect at each.
func isText(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		low := (x - 0x20*ones) & ^x & highs
		del := x ^ 0x7f*ones
		del = (del - ones) & ^del & highs
		if low|del != 0 {
			for _, c := range b[:8] {
				if classes[c]&classText == 0 {
					return false
				}
			}
		}
		b = b[8:]
	}
	for _, c := range b {
		if classes[c]&classText == 0 {
			return false
		}
	}
	return true
}

// EqualFold says that b is lower, ASCII case aside; lower must be in lower case.
func EqualFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c-'A' < 26 {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// equalFold says that a and b are the same, ASCII case aside.
func equalFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		d := b[i]
		if c-'A' < 26 {
			c |= 0x20
		}
		if d-'A' < 26 {
			d |= 0x20
		}
		if c != d {
			return false
		}
	}
	return true
}

// trim takes SP and HTAB off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// element takes the next element off a comma-separated list. Empty elements
// are passed over (RFC 9110, 5.6.1.2); ok is false at the end. It knows no
// quoted strings: it is for lists of tokens.
func element(list []byte) (elem, rest []byte, ok bool) {
	for len(list) > 0 {
		i := 0
		for i < len(list) && list[i] != ',' {
			i++
		}
		elem = trim(list[:i])
		if i < len(list) {
			i++
		}
		list = list[i:]
		if len(elem) > 0 {
			return elem, list, true
		}
	}
	return nil, nil, false
}
