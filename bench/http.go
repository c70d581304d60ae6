//go:build linux

package main

import (
	"bytes"
	"strconv"
)

// parseHead finds the end of an answer's head and its Content-Length. Answers
// here are the origin's own, so no other framing is known. ok is false while
// the head isn't complete.
func parseHead(b []byte) (head, length int, ok bool) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 || len(b) < 12 {
		return 0, 0, false
	}
	for line := range bytes.SplitSeq(b[:end], []byte("\r\n")) {
		name, value, found := bytes.Cut(line, []byte(":"))
		if found && bytes.EqualFold(name, []byte("content-length")) {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	return end + 4, length, true
}
