package route

import "strings"

// Writable says whether a Modifier may set, add or remove a header field of that
// name. What it may not touch says where a message ends or what holds for one hop
// only (RFC 9110, 7.6.1; RFC 9113, 8.2.2), whom it is for (Rewrite does that), how
// often it has been passed on, or what proxies tell each other. A name that isn't
// a token (RFC 9110, 5.6.2) may not be written at all.
func Writable(name string) bool {
	if !isToken(name) || len(name) > maxName {
		return false
	}
	lower := strings.ToLower(name)
	switch lower {
	case "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
		"content-length", "expect", "host", "max-forwards", "via":
		return false
	}
	return !strings.HasPrefix(lower, "tulle-")
}

// maxName is the longest name of a field that may be written.
const maxName = 256

// ValidValue says whether a Modifier may write that value: no control character
// but tabs, and no space around it (RFC 9110, 5.5).
func ValidValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return strings.Trim(value, " \t") == value && len(value) <= maxValue
}

// maxValue is the longest value that may be written (Gateway API, HTTPHeader).
const maxValue = 4096
