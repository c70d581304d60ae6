package route

import "bytes"

// param returns the value of the first parameter of a name, as it came. Parameters
// are parted by "&" and their names from their values by "="; the name is compared
// decoded (RFC 3986, 6.2.2.2). A plus is a plus: that it stands for a space is a
// convention of forms, not of URIs.
func param(query []byte, name string) (value []byte, ok bool) {
	for len(query) > 0 {
		pair := query
		if i := bytes.IndexByte(query, '&'); i >= 0 {
			pair, query = query[:i], query[i+1:]
		} else {
			query = nil
		}
		key, value := pair, pair[len(pair):]
		if i := bytes.IndexByte(pair, '='); i >= 0 {
			key, value = pair[:i], pair[i+1:]
		}
		if equalDecoded(key, name) {
			return value, true
		}
	}
	return nil, false
}

// equalDecoded compares what is left of raw when its escapes are decoded. An escape
// that isn't one stands for itself.
func equalDecoded(raw []byte, want string) bool {
	if len(raw) < len(want) {
		return false
	}
	n := 0
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			if b, ok := unescape(raw[i:]); ok {
				c = b
				i += 2
			}
		}
		if n == len(want) || want[n] != c {
			return false
		}
		n++
	}
	return n == len(want)
}

// unescape decodes the escape at the beginning of b.
func unescape(b []byte) (byte, bool) {
	if len(b) < 3 {
		return 0, false
	}
	hi, ok := hex(b[1])
	lo, ok2 := hex(b[2])
	return hi<<4 | lo, ok && ok2
}

func hex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// decoded decodes the escapes of raw, in the request's own memory when there are any.
func (r *Request) decoded(raw []byte) []byte {
	if bytes.IndexByte(raw, '%') < 0 {
		return raw
	}
	r.scratch = r.scratch[:0]
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			if b, ok := unescape(raw[i:]); ok {
				c = b
				i += 2
			}
		}
		r.scratch = append(r.scratch, c)
	}
	return r.scratch
}
