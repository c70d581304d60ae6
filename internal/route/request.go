package route

import "bytes"

// Request is what a rule is matched against. Its bytes are only read.
type Request struct {
	// Authority is the Host or :authority value, with or without a port.
	Authority []byte
	// Path is the request target's path without the query; empty for the
	// authority and asterisk forms.
	Path []byte
	// Query is what follows the path's question mark; nil when there is none.
	Query  []byte
	Method []byte
	// Fields looks header fields up; nil means there are none.
	Fields Fields

	scratch []byte // a request that is used again keeps it
}

// Fields looks up a header field; name is in lower case, the field's in any. Several
// fields of one name count as one whose values are joined by commas (RFC 9110, 5.3).
// A value is good until the request was matched. "host" is never asked for: it is
// the Authority.
type Fields interface {
	Field(name string) (value []byte, ok bool)
}

// maxHostname is the longest DNS name (RFC 1035, 2.3.4).
const maxHostname = 255

// hostname appends an authority's host in lower case, without the port and
// the final dot. It reports false for a name longer than maxHostname.
func hostname(dst, authority []byte) ([]byte, bool) {
	host := authority
	if len(host) > 0 && host[0] == '[' {
		if i := bytes.IndexByte(host, ']'); i > 0 {
			host = host[1:i]
		}
	} else if i := bytes.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) > maxHostname {
		return nil, false
	}
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst, true
}
