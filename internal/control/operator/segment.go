package operator

import "encoding/base64"

// decodeSegment decodes one part of a compact JWT (RFC 7515, 2).
func decodeSegment(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
