package object

import (
	"fmt"
	"strings"
)

// Issue is one thing wrong with a field of an object.
type Issue struct {
	// Field is a path such as "spec.ports[0].port".
	Field string
	// Problem says what is wrong and what would be right.
	Problem string
}

// Error is an Issue with its place in a document.
type Error struct {
	File string
	// Line is 1 for the first line; 0 when not known.
	Line int
	// Object is "KIND/NAME", where it could be read.
	Object  string
	Field   string
	Problem string
}

// Error returns "FILE:LINE: OBJECT: FIELD: PROBLEM", without what is missing.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	} else if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Object != "" {
		b.WriteString(e.Object + ": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Problem)
	return b.String()
}

// Errors are all that was found wrong, in the order of the document.
type Errors []*Error

// Error returns one line per error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// nearest returns the known name closest to an unknown one, or "" when none is close.
func nearest(name string, known []string) string {
	best, bestAt := "", len(name)/2+1
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < bestAt {
			best, bestAt = k, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, changes and swaps of
// neighbours between two short strings.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	var two, one, now [longest + 1]int
	for j := range len(b) + 1 {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(one[j]+1, now[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], two[j-2]+1)
			}
		}
		two, one = one, now
	}
	return one[len(b)]
}
