package record

import "unicode/utf8"

// AppendString appends v as a JSON string (RFC 8259, 7) of printable ASCII only:
// neither a reader of lines nor a terminal finds anything in it but text. Each byte
// that isn't UTF-8 becomes U+FFFD.
func AppendString[T string | []byte](dst []byte, v T) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(v); {
		c := v[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
			i++
		case ' ' <= c && c <= '~':
			dst = append(dst, c)
			i++
		case c < utf8.RuneSelf:
			dst = appendUnit(dst, uint16(c))
			i++
		default:
			var b [utf8.UTFMax]byte
			r, n := utf8.DecodeRune(b[:copy(b[:], v[i:])])
			i += n
			if r >= 0x10000 { // a surrogate pair
				r -= 0x10000
				dst = appendUnit(dst, uint16(0xd800+r>>10))
				r = 0xdc00 + r&0x3ff
			}
			dst = appendUnit(dst, uint16(r))
		}
	}
	return append(dst, '"')
}

func appendUnit(dst []byte, u uint16) []byte {
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
}
