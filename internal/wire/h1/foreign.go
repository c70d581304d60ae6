package h1

// This file is for heads that came over another version of HTTP and are put
// into this package's form by whoever parsed them.

// MethodOf returns the method with that name, or MethodOther.
func MethodOf(name []byte) Method { return methodOf(name) }

// NameOf returns the identifier of a field name, in any case.
func NameOf(name []byte) NameID { return nameID(name) }

// ValidAuthority says whether a is a host, perhaps with a port, that may stand
// in Host.
func ValidAuthority(a []byte) bool {
	_, ok := checkAuthority(a)
	return ok
}

// ValidPath says whether p may stand as a request's target in origin-form.
func ValidPath(p []byte) bool { return checkPath(p) == fine }

// MayTrail says whether a field of that name may stand in a trailer section.
func MayTrail(id NameID) bool { return mayTrail(id) }

// Sends says whether a field with that id is forwarded.
func (r *Response) Sends(id NameID) bool { return sends(r.Fields, id) }

// SetLength notes the Content-Length that a response tells, with a body or without
// one: to HEAD, or with status 304.
func (r *Response) SetLength(n int64) { r.hasLength, r.Length = true, n }

// HasLength says whether a response tells a Content-Length.
func (r *Response) HasLength() bool { return r.hasLength }

// ViaVersion is how Via names the version a message came with (RFC 9110, 7.6.3).
func ViaVersion(two bool, minor uint8) string {
	if two {
		return "2"
	}
	const versions = "1.01.11.21.31.41.51.61.71.81.9"
	at := len("1.0") * min(int(minor), 9)
	return versions[at : at+len("1.0")]
}
