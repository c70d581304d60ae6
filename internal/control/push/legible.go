package push

import (
	"strings"
	"unicode"
)

// legible is what a proxy says, for people: it comes to conditions, logs and
// terminals, and so is one line without anything that those would obey.
func legible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsGraphic(r):
			return r
		}
		return unicode.ReplacementChar
	}, s) // each byte that isn't UTF-8 is U+FFFD too
}
