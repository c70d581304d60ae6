package h1

// NameID is a field name this package knows; 0 is any other.
type NameID uint8

// The known names: those that an intermediary decides by, or that may not be
// trailers.
const (
	OtherName NameID = iota
	Accept
	Age
	Authorization
	CacheControl
	Connection
	ContentEncoding
	ContentLength
	ContentRange
	ContentType
	Cookie
	Date
	EarlyData
	Expect
	Expires
	Forwarded
	Host
	HTTP2Settings
	IfMatch
	IfModifiedSince
	IfNoneMatch
	IfRange
	IfUnmodifiedSince
	KeepAlive
	Location
	MaxForwards
	Origin
	Pragma
	ProxyAuthenticate
	ProxyAuthenticationInfo
	ProxyAuthorization
	ProxyConnection
	Range
	RetryAfter
	Server
	SetCookie
	TE
	Trailer
	TransferEncoding
	Upgrade
	UserAgent
	Vary
	Via
	WWWAuthenticate
	XForwardedFor
	XForwardedHost
	XForwardedProto
	XRealIP
)

// nameID recognises a field name by its length and first letter, then compares.
func nameID(name []byte) NameID {
	if len(name) == 0 {
		return OtherName
	}
	first := name[0] | 0x20
	switch len(name) {
	case 2:
		switch first {
		case 't':
			if EqualFold(name, "te") {
				return TE
			}
		}
	case 3:
		switch first {
		case 'a':
			if EqualFold(name, "age") {
				return Age
			}
		case 'v':
			if EqualFold(name, "via") {
				return Via
			}
		}
	case 4:
		switch first {
		case 'd':
			if EqualFold(name, "date") {
				return Date
			}
		case 'h':
			if EqualFold(name, "host") {
				return Host
			}
		case 'v':
			if EqualFold(name, "vary") {
				return Vary
			}
		}
	case 5:
		switch first {
		case 'r':
			if EqualFold(name, "range") {
				return Range
			}
		}
	case 6:
		switch first {
		case 'a':
			if EqualFold(name, "accept") {
				return Accept
			}
		case 'c':
			if EqualFold(name, "cookie") {
				return Cookie
			}
		case 'e':
			if EqualFold(name, "expect") {
				return Expect
			}
		case 'o':
			if EqualFold(name, "origin") {
				return Origin
			}
		case 'p':
			if EqualFold(name, "pragma") {
				return Pragma
			}
		case 's':
			if EqualFold(name, "server") {
				return Server
			}
		}
	case 7:
		switch first {
		case 'e':
			if EqualFold(name, "expires") {
				return Expires
			}
		case 't':
			if EqualFold(name, "trailer") {
				return Trailer
			}
		case 'u':
			if EqualFold(name, "upgrade") {
				return Upgrade
			}
		}
	case 8:
		switch first {
		case 'i':
			if EqualFold(name, "if-match") {
				return IfMatch
			}
			if EqualFold(name, "if-range") {
				return IfRange
			}
		case 'l':
			if EqualFold(name, "location") {
				return Location
			}
		}
	case 9:
		switch first {
		case 'f':
			if EqualFold(name, "forwarded") {
				return Forwarded
			}
		case 'x':
			if EqualFold(name, "x-real-ip") {
				return XRealIP
			}
		}
	case 10:
		switch first {
		case 'c':
			if EqualFold(name, "connection") {
				return Connection
			}
		case 'e':
			if EqualFold(name, "early-data") {
				return EarlyData
			}
		case 'k':
			if EqualFold(name, "keep-alive") {
				return KeepAlive
			}
		case 's':
			if EqualFold(name, "set-cookie") {
				return SetCookie
			}
		case 'u':
			if EqualFold(name, "user-agent") {
				return UserAgent
			}
		}
	case 11:
		switch first {
		case 'r':
			if EqualFold(name, "retry-after") {
				return RetryAfter
			}
		}
	case 12:
		switch first {
		case 'c':
			if EqualFold(name, "content-type") {
				return ContentType
			}
		case 'm':
			if EqualFold(name, "max-forwards") {
				return MaxForwards
			}
		}
	case 13:
		switch first {
		case 'a':
			if EqualFold(name, "authorization") {
				return Authorization
			}
		case 'c':
			if EqualFold(name, "cache-control") {
				return CacheControl
			}
			if EqualFold(name, "content-range") {
				return ContentRange
			}
		case 'i':
			if EqualFold(name, "if-none-match") {
				return IfNoneMatch
			}
		}
	case 14:
		switch first {
		case 'c':
			if EqualFold(name, "content-length") {
				return ContentLength
			}
		case 'h':
			if EqualFold(name, "http2-settings") {
				return HTTP2Settings
			}
		}
	case 15:
		switch first {
		case 'x':
			if EqualFold(name, "x-forwarded-for") {
				return XForwardedFor
			}
		}
	case 16:
		switch first {
		case 'c':
			if EqualFold(name, "content-encoding") {
				return ContentEncoding
			}
		case 'p':
			if EqualFold(name, "proxy-connection") {
				return ProxyConnection
			}
		case 'x':
			if EqualFold(name, "x-forwarded-host") {
				return XForwardedHost
			}
		case 'w':
			if EqualFold(name, "www-authenticate") {
				return WWWAuthenticate
			}
		}
	case 17:
		switch first {
		case 'i':
			if EqualFold(name, "if-modified-since") {
				return IfModifiedSince
			}
		case 't':
			if EqualFold(name, "transfer-encoding") {
				return TransferEncoding
			}
		case 'x':
			if EqualFold(name, "x-forwarded-proto") {
				return XForwardedProto
			}
		}
	case 18:
		switch first {
		case 'p':
			if EqualFold(name, "proxy-authenticate") {
				return ProxyAuthenticate
			}
		}
	case 19:
		switch first {
		case 'i':
			if EqualFold(name, "if-unmodified-since") {
				return IfUnmodifiedSince
			}
		case 'p':
			if EqualFold(name, "proxy-authorization") {
				return ProxyAuthorization
			}
		}
	case 25:
		switch first {
		case 'p':
			if EqualFold(name, "proxy-authentication-info") {
				return ProxyAuthenticationInfo
			}
		}
	}
	return OtherName
}
