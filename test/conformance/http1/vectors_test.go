package http1

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// vector is a row of a vector file; wire/h1/testdata/*.txt say how they read.
type vector struct {
	where, title, asked string
	in                  []byte
	reject              int    // the status, 0 when it is forwarded
	head                string // that is forwarded
	body                string
	trailers            []string
	next                []byte
	closes, tunnel      bool
	interim, cut        bool
}

func readVectors(t *testing.T, path string) []vector {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	line := 1
	for block := range strings.SplitSeq(string(text), "\n\n") {
		v := vector{where: fmt.Sprintf("%s:%d", path[strings.LastIndexByte(path, '/')+1:], line)}
		line += strings.Count(block, "\n") + 2
		for l := range strings.SplitSeq(strings.TrimRight(block, "\n"), "\n") {
			key, rest, _ := strings.Cut(l, " ")
			switch key {
			case "#":
				v.title = rest
			case "?":
				v.asked = rest
			case ">":
				v.in = unescape(t, rest)
			case "=":
				v.head = string(unescape(t, rest))
			case "body":
				v.body = string(unescape(t, rest))
			case "trailer":
				v.trailers = append(v.trailers, string(unescape(t, rest)))
			case "next":
				v.next = unescape(t, rest)
			case "reject":
				v.reject, _ = strconv.Atoi(rest[:3])
			case "close":
				v.closes = true
			case "tunnel":
				v.tunnel = true
			case "interim":
				v.interim = true
			case "cut":
				v.cut = true
			}
		}
		if v.in != nil {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s has no rows", path)
	}
	return all
}

func unescape(t *testing.T, s string) []byte {
	t.Helper()
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++
		switch s[i] {
		case 'r':
			out = append(out, '\r')
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case '\\':
			out = append(out, '\\')
		case 'x':
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				t.Fatalf("escape in %q", s)
			}
			out = append(out, byte(n))
			i += 2
		default:
			t.Fatalf("escape in %q", s)
		}
	}
	return out
}
