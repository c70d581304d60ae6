package h1

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vector is one row of testdata/*.txt, whose first lines describe the form.
type vector struct {
	where string // file:line
	title string
	asked string
	in    []byte
	want  string // the outcome's lines, as in the file
}

// readVectors reads a file of testdata.
func readVectors(t testing.TB, name string) []vector {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for block := range strings.SplitSeq(string(text), "\n\n") {
		line := 1 + strings.Count(string(text[:strings.Index(string(text), block)]), "\n")
		var v vector
		for l := range strings.SplitSeq(strings.TrimRight(block, "\n"), "\n") {
			switch {
			case strings.HasPrefix(l, "# "):
				v.title = l[2:]
			case strings.HasPrefix(l, "? "):
				v.asked = l[2:]
			case strings.HasPrefix(l, "> "):
				v.in = unescape(t, l[2:])
				v.where = fmt.Sprintf("%s:%d", name, line)
			default:
				v.want += l + "\n"
			}
		}
		if v.in != nil {
			all = append(all, v)
		}
	}
	return all
}

func unescape(t testing.TB, s string) []byte {
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
				t.Fatalf("bad escape in %q", s)
			}
			out = append(out, byte(n))
			i += 2
		default:
			t.Fatalf("bad escape in %q", s)
		}
	}
	return out
}

func escape(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		switch {
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\t':
			out.WriteString(`\t`)
		case c == '\\':
			out.WriteString(`\\`)
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&out, `\x%02x`, c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// feed hands in to parse in pieces that end at the given offsets, each time in a
// fresh buffer with nothing behind it, until parse says that it is done.
func feed(in []byte, cuts []int, parse func(buf []byte) (done bool)) {
	for _, end := range append(cuts, len(in)) {
		if parse(bytes.Clone(in[:end:end])) {
			return
		}
	}
}

// decodeBody runs b over in, piece by piece, and says what came of it.
func decodeBody(b *Body, in []byte, cuts []int) (outcome string) {
	var data []byte
	used := 0
	var fault *Error
	feed(in, cuts, func(buf []byte) bool {
		for {
			d, n, done, err := b.Next(buf[used:])
			if err != nil {
				fault = err
				return true
			}
			data = append(data, d...)
			used += n
			if done {
				return true
			}
			if n == 0 {
				return false
			}
		}
	})
	if fault != nil {
		return fmt.Sprintf("reject %d %s\n", fault.Status, fault.Reason)
	}
	if len(data) > 0 {
		outcome += "body " + escape(data) + "\n"
	}
	if !b.Done() {
		if err := b.EOF(); err != nil {
			return outcome + "cut\n"
		}
		return outcome
	}
	for _, f := range b.Trailers {
		outcome += "trailer " + string(f.Name) + ": " + escape(f.Value) + "\n"
	}
	if used < len(in) {
		outcome += "next " + escape(in[used:]) + "\n"
	}
	return outcome
}

// requestOutcome is what becomes of a request that arrives in pieces.
func requestOutcome(in []byte, cuts []int) string {
	var (
		r    Request
		n    int
		err  *Error
		head []byte
	)
	feed(in, cuts, func(buf []byte) bool {
		n, err = r.Parse(buf, nil)
		if n > 0 {
			head = buf
		}
		return n > 0 || err != nil
	})
	if err != nil {
		return fmt.Sprintf("reject %d %s\n", err.Status, err.Reason)
	}
	if n == 0 {
		return "more\n"
	}
	out := "= " + escape(AppendRequest(nil, &r, &RequestOptions{Upgrade: true})) + "\n"
	if !r.KeepAlive {
		out += "close\n"
	}
	if r.Expect100 {
		out += "expect\n"
	}
	_ = head
	if r.Framing == Tunnel {
		out += "tunnel\n"
		if n < len(in) {
			out += "next " + escape(in[n:]) + "\n"
		}
		return out
	}
	var b Body
	b.InitRequest(&r, nil)
	body := decodeBody(&b, in[n:], shift(cuts, n))
	if strings.HasPrefix(body, "reject") {
		return body
	}
	return out + body
}

// responseOutcome is what becomes of a response that arrives in pieces.
func responseOutcome(in []byte, cuts []int, asking string) string {
	asked := Asked{Method: GET}
	o := ResponseOptions{ClientMinor: 1}
	for word := range strings.SplitSeq(asking, "; ") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "method":
			asked.Method = methodOf([]byte(value))
		case "minor":
			o.ClientMinor = 0
		case "upgrade":
			asked.Upgrade = []byte(value)
		case "trailers":
			o.Trailers = true
		case "close":
			o.Close = true
		case "date":
			o.Date = []byte(value)
		}
	}
	var (
		r   Response
		n   int
		err *Error
	)
	feed(in, cuts, func(buf []byte) bool {
		n, err = r.Parse(buf, asked, nil)
		return n > 0 || err != nil
	})
	if err != nil {
		return fmt.Sprintf("reject %d %s\n", err.Status, err.Reason)
	}
	if n == 0 {
		return "more\n"
	}
	head, _ := AppendResponse(nil, &r, &o)
	out := "= " + escape(head) + "\n"
	switch {
	case r.Interim():
		return out + "interim\n"
	case r.Framing == Tunnel:
		out += "tunnel\n"
	}
	if !r.KeepAlive {
		out += "close\n"
	}
	if r.Framing == Tunnel {
		if n < len(in) {
			out += "next " + escape(in[n:]) + "\n"
		}
		return out
	}
	var b Body
	b.InitResponse(&r, nil)
	body := decodeBody(&b, in[n:], shift(cuts, n))
	if strings.HasPrefix(body, "reject") {
		return body
	}
	return out + body
}

// shift makes offsets of the whole offsets of what follows n.
func shift(cuts []int, n int) []int {
	var out []int
	for _, c := range cuts {
		if c > n {
			out = append(out, c-n)
		}
	}
	return out
}

// sortLines makes the order of an outcome's words a matter of taste.
func sortLines(s string) []string {
	var first, rest []string
	for l := range strings.SplitSeq(strings.TrimRight(s, "\n"), "\n") {
		switch l {
		case "close", "expect", "tunnel", "interim":
			first = append(first, l)
		default:
			rest = append(rest, l)
		}
	}
	for _, word := range []string{"close", "expect", "tunnel", "interim"} {
		for _, l := range first {
			if l == word {
				rest = append(rest, l)
			}
		}
	}
	return rest
}

func everyByte(in []byte) []int {
	cuts := make([]int, len(in))
	for i := range cuts {
		cuts[i] = i
	}
	return cuts
}

func TestRequestVectors(t *testing.T) {
	for _, file := range []string{"request.txt", "chunked.txt"} {
		for _, v := range readVectors(t, file) {
			if diff := cmp.Diff(sortLines(v.want), sortLines(requestOutcome(v.in, nil))); diff != "" {
				t.Errorf("%s: %s\n%.200q\n%s", v.where, v.title, v.in, diff)
			}
		}
	}
}

func TestResponseVectors(t *testing.T) {
	for _, v := range readVectors(t, "response.txt") {
		if diff := cmp.Diff(sortLines(v.want), sortLines(responseOutcome(v.in, nil, v.asked))); diff != "" {
			t.Errorf("%s: %s\n%.200q\n%s", v.where, v.title, v.in, diff)
		}
	}
}

// coarse leaves the reason of a refusal out: what is seen first in pieces may be
// another of several faults.
func coarse(outcome string) string {
	if strings.HasPrefix(outcome, "reject ") {
		return outcome[:len("reject 400")]
	}
	return outcome
}

// Every vector comes to the same when it arrives byte by byte, or in two halves.
func TestVectorsInPieces(t *testing.T) {
	outcome := func(v vector, response bool, cuts []int) string {
		if response {
			return responseOutcome(v.in, cuts, v.asked)
		}
		return requestOutcome(v.in, cuts)
	}
	for _, file := range []string{"request.txt", "chunked.txt", "response.txt"} {
		response := file == "response.txt"
		for _, v := range readVectors(t, file) {
			if len(v.in) > 2048 {
				continue
			}
			want := outcome(v, response, nil)
			for _, cuts := range [][]int{everyByte(v.in), {len(v.in) / 2}, {len(v.in) - 1}} {
				if got := outcome(v, response, cuts); coarse(got) != coarse(want) {
					t.Errorf("%s: %s: in pieces %d\ngot  %swant %s", v.where, v.title, len(cuts), got, want)
				}
			}
		}
	}
}
