package access

// This file is how paths are compared. A program may read a path in more ways
// than one: decode it, merge slashes, drop dot segments and parameters, ignore
// case. So a path is brought into one form (normal), and where that took more
// than decoding ordinary characters it is called odd: an Allow is never met by an
// odd path, and a Deny compares the form without regard to case. Either way the
// doubt is on the safe side.

// normal appends the form of a path that rules are compared with: percent-decoded
// once, "\" as "/", without parameters (";...", and what follows a NUL in its
// segment), empty and dot segments. odd says that some reader may see another path:
// any of these, an encoded slash, backslash, dot or percent sign, a NUL, or an
// encoding that is broken.
func normal(dst, path []byte) (form []byte, odd bool) {
	if len(path) == 0 || path[0] != '/' {
		return append(dst, path...), true // "*", or not a path at all
	}
	base := len(dst)
	for i := 0; i < len(path); {
		// A segment and the slash before it.
		i++
		start := len(dst)
		dst = append(dst, '/')
		param := false
		for i < len(path) && path[i] != '/' {
			c := path[i]
			i++
			if c == '%' {
				if i+1 >= len(path) || unhex(path[i]) > 15 || unhex(path[i+1]) > 15 {
					odd = true
				} else {
					c = unhex(path[i])<<4 | unhex(path[i+1])
					i += 2
					odd = odd || c == '/' || c == '\\' || c == '.' || c == '%' || c == ';' || c == 0
				}
			}
			switch {
			case c == '/' || c == '\\': // decoded, or one for the other
				odd = true
				dst = closeSegment(dst, base, &start, &odd)
				dst = append(dst, '/')
				param = false
			case c == ';' || c == 0: // some end a text at a NUL
				odd, param = true, true
			case !param:
				dst = append(dst, c)
			}
		}
		last := i >= len(path)
		if last && len(dst) == start+1 {
			break // a final slash stays
		}
		dst = closeSegment(dst, base, &start, &odd)
	}
	if len(dst) == base {
		dst = append(dst, '/')
	}
	return dst, odd
}

// closeSegment drops the segment that begins at start when it is empty or a dot,
// and the one before it too for two dots. Afterwards start is the end.
func closeSegment(dst []byte, base int, start *int, odd *bool) []byte {
	switch string(dst[*start:]) {
	case "/", "/.":
		dst, *odd = dst[:*start], true
	case "/..":
		dst, *odd = dst[:*start], true
		for len(dst) > base {
			c := dst[len(dst)-1]
			dst = dst[:len(dst)-1]
			if c == '/' {
				break
			}
		}
	}
	*start = len(dst)
	return dst
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// lower changes a form to lower case, in ASCII.
func lower(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
}
