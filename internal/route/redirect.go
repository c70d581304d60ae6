package route

import (
	"bytes"
	"strconv"
	"strings"
)

// AppendLocation appends the absolute URI that the client of a request is sent to
// (Gateway API, HTTPRequestRedirectFilter). scheme is how the request came, "http"
// or "https"; port is the listener's; prefix is what Compiled.Prefix says of the
// match that was met.
//
// The port is the redirect's own, else that of its scheme when it has one, else
// the listener's; the scheme's usual port is not written. The request's query is
// kept, unless the path that takes the place of the whole brings its own.
func (r *Redirect) AppendLocation(dst []byte, q *Request, scheme string, port uint16, prefix string) []byte {
	if r.Scheme != "" {
		scheme = r.Scheme
		if usual := usualPort(scheme); usual != 0 {
			port = usual
		}
	}
	if r.Port != 0 {
		port = r.Port
	}
	dst = append(append(dst, scheme...), "://"...)
	if r.Host != "" {
		dst = append(dst, r.Host...)
	} else {
		dst = append(dst, withoutPort(q.Authority)...)
	}
	if port != 0 && port != usualPort(scheme) {
		dst = strconv.AppendUint(append(dst, ':'), uint64(port), 10)
	}
	dst = appendChanged(dst, q.Path, r.Change, r.Path, prefix)
	if q.Query == nil || r.Change == FullPath && strings.IndexByte(r.Path, '?') >= 0 {
		return dst
	}
	return append(append(dst, '?'), q.Query...)
}

// usualPort is a scheme's well-known port, or 0.
func usualPort(scheme string) uint16 {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return 0
}

// withoutPort cuts the port off an authority and keeps the brackets of an address.
func withoutPort(authority []byte) []byte {
	i := bytes.LastIndexByte(authority, ':')
	if i < 0 || bytes.IndexByte(authority[i:], ']') >= 0 {
		return authority
	}
	return authority[:i]
}

// AppendPath appends what becomes of a request target (Gateway API,
// HTTPURLRewriteFilter): path is in origin form and may have a query, which is
// kept, unless the path that takes the place of the whole brings its own. The
// authority and asterisk forms stay what they are. prefix is what Compiled.Prefix
// says of the match that was met. dst and path must not overlap.
func (w *Rewrite) AppendPath(dst, path []byte, prefix string) []byte {
	if w.Change == KeepPath || len(path) == 0 || path[0] != '/' {
		return append(dst, path...)
	}
	query := path[len(path):]
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path, query = path[:i], path[i:]
	}
	dst = appendChanged(dst, path, w.Change, w.Path, prefix)
	if w.Change == FullPath && strings.IndexByte(w.Path, '?') >= 0 {
		return dst
	}
	return append(dst, query...)
}

// appendChanged appends path, without a query, as a PathChange says (Gateway API,
// HTTPPathModifier). What it appends begins with a slash.
func appendChanged(dst, path []byte, change PathChange, to, prefix string) []byte {
	begin := len(dst)
	switch change {
	case FullPath:
		dst = append(dst, to...)
	case PrefixPath:
		// Final slashes of both prefixes count for nothing.
		prefix = strings.TrimSuffix(prefix, "/")
		dst = append(dst, strings.TrimSuffix(to, "/")...)
		if hasPathPrefix(path, prefix) {
			path = path[len(prefix):]
		}
		dst = append(dst, path...)
	default:
		dst = append(dst, path...)
	}
	if len(dst) == begin || dst[begin] != '/' {
		dst = append(dst, 0)
		copy(dst[begin+1:], dst[begin:])
		dst[begin] = '/'
	}
	return dst
}
