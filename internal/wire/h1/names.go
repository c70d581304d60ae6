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
)
