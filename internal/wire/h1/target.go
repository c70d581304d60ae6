package h1

import "bytes"

// span is a part of the head as offsets; the zero span is empty.
type span struct{ start, end int }

func (s span) of(buf []byte) []byte { return buf[s.start:s.end:s.end] }

// readTarget decides the form of a request target and checks it.
func (r *Request) readTarget(buf []byte) fault {
	t := r.at.target.of(buf)
	switch {
	case r.Method == CONNECT:
		r.Form = AuthorityForm
		if port, ok := checkAuthority(t); !ok || port <= 0 {
			return faultTarget
		}
		r.at.authority = r.at.target
		return fine
	case t[0] == '/':
		r.Form = OriginForm
		r.at.path = r.at.target
		return checkPath(t)
	case len(t) == 1 && t[0] == '*':
		if r.Method != OPTIONS {
			return faultTargetForm
		}
		r.Form = AsteriskForm
		r.at.path = r.at.target
		return fine
	}
	return r.readAbsolute(t)
}

// readAbsolute reads an absolute-form target: an http or https URI without
// userinfo and fragment (RFC 9110, 4.2).
func (r *Request) readAbsolute(t []byte) fault {
	skip := 0
	switch {
	case len(t) > 7 && EqualFold(t[:7], "http://"):
		r.Scheme, skip = "http", 7
	case len(t) > 8 && EqualFold(t[:8], "https://"):
		r.Scheme, skip = "https", 8
	default:
		return faultTargetForm
	}
	r.Form = AbsoluteForm
	rest := t[skip:]
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if _, ok := checkAuthority(rest[:end]); !ok {
		return faultTarget
	}
	start := r.at.target.start + skip
	r.at.authority = span{start, start + end}
	r.at.path = span{start + end, r.at.target.end}
	r.noPath = end == len(rest) || rest[end] != '/'
	return checkPath(rest[end:])
}

// checkPath checks a path with an optional query. An escape must be whole in a
// path; a query may hold a bare "%", which browsers send as it was typed.
func checkPath(p []byte) fault {
	i := 0
	for ; i < len(p); i++ {
		c := p[i]
		if classes[c]&classPath != 0 {
			if c == '%' && (i+2 >= len(p) || !isHex(p[i+1]) || !isHex(p[i+2])) {
				return faultTarget
			}
			continue
		}
		if c == '?' {
			break
		}
		return faultTarget
	}
	for ; i < len(p); i++ {
		if classes[p[i]]&classQuery == 0 {
			return faultTarget
		}
	}
	return fine
}

// checkAuthority checks host[:port] with a host that isn't empty. port is -1
// when none is given ("host" or "host:").
func checkAuthority(a []byte) (port int, ok bool) {
	var rest []byte
	if len(a) > 0 && a[0] == '[' {
		end := bytes.IndexByte(a, ']')
		if end < 0 || !checkLiteral(a[1:end]) {
			return -1, false
		}
		rest = a[end+1:]
	} else {
		end := 0
		for end < len(a) && classes[a[end]]&classHost != 0 {
			if a[end] == '%' && (end+2 >= len(a) || !isHex(a[end+1]) || !isHex(a[end+2])) {
				return -1, false
			}
			end++
		}
		if end == 0 {
			return -1, false
		}
		rest = a[end:]
	}
	if len(rest) == 0 {
		return -1, true
	}
	if rest[0] != ':' || len(rest) > 6 {
		return -1, false
	}
	if len(rest) == 1 {
		return -1, true
	}
	for _, c := range rest[1:] {
		if !isDigit(c) {
			return -1, false
		}
		port = port*10 + int(c-'0')
	}
	return port, port <= 65535
}

// checkLiteral checks what stands between the brackets of an IP literal: an
// IPv6 address or an IPvFuture (RFC 3986, 3.2.2).
func checkLiteral(b []byte) bool {
	if len(b) > 0 && b[0]|0x20 == 'v' {
		dot := bytes.IndexByte(b, '.')
		if dot < 2 || dot == len(b)-1 {
			return false
		}
		for _, c := range b[1:dot] {
			if !isHex(c) {
				return false
			}
		}
		for _, c := range b[dot+1:] {
			if c != ':' && (classes[c]&classHost == 0 || c == '%') {
				return false
			}
		}
		return true
	}
	groups, gap := 0, false
	for i := 0; i < len(b); {
		if b[i] == ':' {
			// Only a "::" may begin here: at the start, or after a group's colon.
			if i > 0 && b[i-1] != ':' || i == 0 && (len(b) < 2 || b[1] != ':') || gap {
				return false
			}
			gap = true
			if i == 0 {
				i++
			}
			i++
			continue
		}
		n := 0
		for i+n < len(b) && isHex(b[i+n]) {
			n++
		}
		if i+n < len(b) && b[i+n] == '.' {
			if !checkIPv4(b[i:]) {
				return false
			}
			groups += 2
			break
		}
		if n == 0 || n > 4 {
			return false
		}
		groups++
		i += n
		if i < len(b) {
			if b[i] != ':' || i+1 == len(b) {
				return false
			}
			i++
		}
	}
	return groups == 8 && !gap || groups < 8 && gap
}

// checkIPv4 checks a dotted address.
func checkIPv4(b []byte) bool {
	for part := range 4 {
		n, v := 0, 0
		for n < len(b) && isDigit(b[n]) && n < 4 {
			v = v*10 + int(b[n]-'0')
			n++
		}
		if n == 0 || n > 3 || v > 255 || n > 1 && b[0] == '0' {
			return false
		}
		b = b[n:]
		if part < 3 {
			if len(b) == 0 || b[0] != '.' {
				return false
			}
			b = b[1:]
		}
	}
	return len(b) == 0
}

// SplitAuthority splits host[:port] of a parsed head; port is 0 when there is
// none. The brackets of an IP literal stay off.
func SplitAuthority(authority []byte) (host []byte, port uint16) {
	host = authority
	if len(host) > 0 && host[0] == '[' {
		end := bytes.IndexByte(host, ']')
		if end < 0 {
			return host, 0
		}
		host, authority = host[1:end], host[end+1:]
	} else if colon := bytes.IndexByte(host, ':'); colon >= 0 {
		host, authority = host[:colon], host[colon:]
	} else {
		return host, 0
	}
	for i, c := range authority {
		if i > 0 {
			port = port*10 + uint16(c-'0')
		}
	}
	return host, port
}
