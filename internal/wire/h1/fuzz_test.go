package h1

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// strictHead is all a head we write may look like.
var strictHead = regexp.MustCompile("^(?:[!#$%&'*+\\-.^_`|~0-9A-Za-z]+ [\\x21\\x24-\\x3b\\x3d\\x3f-\\x7e]+ HTTP/1\\.1|HTTP/1\\.1 [1-5][0-9][0-9] [\t\\x20-\\x7e\\x80-\\xff]*)\r\n" +
	"(?:[!#$%&'*+\\-.^_`|~0-9A-Za-z]+: [\t\\x20-\\x7e\\x80-\\xff]*\r\n)*\r\n$")

// randomCuts cuts n bytes at up to four places.
func randomCuts(n int, seed uint64) []int {
	rnd := rand.New(rand.NewPCG(seed, 0))
	var cuts []int
	for at := 0; at < n && len(cuts) < 4; {
		at += rnd.IntN(n-at+1) + 1
		if at < n {
			cuts = append(cuts, at)
		}
	}
	return cuts
}

// verdict leaves the reason of a refusal out: what comes first in pieces may be
// another of several faults.
func verdict(outcome string) string {
	if strings.HasPrefix(outcome, "reject ") {
		return "reject"
	}
	return outcome
}

func seedFuzz(f *testing.F, files ...string) {
	for _, file := range files {
		for _, v := range readVectors(f, file) {
			if len(v.in) < 4096 {
				f.Add(v.in, uint64(len(v.in)))
			}
		}
	}
}

// FuzzRequest: the parser agrees with the naive one on any input; it comes to
// the same in pieces; what is written is of the strict grammar, parses, and
// comes out the same again.
func FuzzRequest(f *testing.F) {
	seedFuzz(f, "request.txt", "chunked.txt")
	f.Fuzz(checkRequest)
}

func checkRequest(t *testing.T, in []byte, seed uint64) {
	whole := requestOutcome(in, nil)
	for _, cuts := range [][]int{randomCuts(len(in), seed), everyByte(in)} {
		if len(in) > 4096 {
			break
		}
		if diff := cmp.Diff(verdict(whole), verdict(requestOutcome(in, cuts))); diff != "" {
			t.Fatalf("cut at %d\n%s", cuts, diff)
		}
	}
	var r Request
	n, err := r.Parse(in, nil)
	want := naiveRequest(in)
	switch {
	case err != nil:
		if want != "reject" {
			t.Fatalf("refused (%s), naive says %s", err.Reason, want)
		}
		return
	case n == 0:
		if bytes.Contains(in, []byte("\r\n\r\n")) && want != "reject" {
			t.Fatalf("waits, naive says %s", want)
		}
		return
	}
	if got := r.facts(len(in) - n); got != want {
		t.Fatalf("got %s\nnaive %s", got, want)
	}
	out := AppendRequest(nil, &r, &RequestOptions{Upgrade: true})
	if !strictHead.MatchString(latin(out)) {
		t.Fatalf("written loosely: %q", out)
	}
	if len(r.Authority) == 0 || r.MaxForwards >= 0 {
		return // no Host to give; counted down
	}
	var again Request
	if n, err := again.Parse(out, nil); err != nil || n != len(out) {
		t.Fatalf("what was written doesn't parse: %v %d\n%q", err, n, out)
	}
	if framingFact(again.Framing, again.Length) != framingFact(r.Framing, r.Length) {
		t.Fatalf("framed otherwise: %q", out)
	}
	if got := AppendRequest(nil, &again, &RequestOptions{Upgrade: true}); !bytes.Equal(got, out) {
		t.Fatalf("comes out otherwise\n%q\n%q", out, got)
	}
}

// FuzzResponse is FuzzRequest for responses.
func FuzzResponse(f *testing.F) {
	seedFuzz(f, "response.txt")
	f.Fuzz(checkResponse)
}

func checkResponse(t *testing.T, in []byte, seed uint64) {
	method := []Method{GET, HEAD, CONNECT, POST}[seed%4]
	asking := "method=" + []string{"GET", "HEAD", "CONNECT", "POST"}[seed%4]
	whole := responseOutcome(in, nil, asking)
	for _, cuts := range [][]int{randomCuts(len(in), seed), everyByte(in)} {
		if len(in) > 4096 {
			break
		}
		if diff := cmp.Diff(verdict(whole), verdict(responseOutcome(in, cuts, asking))); diff != "" {
			t.Fatalf("cut at %d\n%s", cuts, diff)
		}
	}
	var r Response
	asked := Asked{Method: method}
	n, err := r.Parse(in, asked, nil)
	want := naiveResponse(in, method)
	switch {
	case err != nil:
		if want != "reject" {
			t.Fatalf("refused (%s), naive says %s", err.Reason, want)
		}
		return
	case n == 0:
		if bytes.Contains(in, []byte("\r\n\r\n")) && want != "reject" {
			t.Fatalf("waits, naive says %s", want)
		}
		return
	}
	if got := r.facts(len(in) - n); got != want {
		t.Fatalf("got %s\nnaive %s", got, want)
	}
	out, framing := AppendResponse(nil, &r, &ResponseOptions{ClientMinor: 1})
	if !strictHead.MatchString(latin(out)) {
		t.Fatalf("written loosely: %q", out)
	}
	var again Response
	if n, err := again.Parse(out, asked, nil); err != nil || n != len(out) {
		t.Fatalf("what was written doesn't parse: %v %d\n%q", err, n, out)
	}
	if again.Framing != framing {
		t.Fatalf("framed otherwise: %q", out)
	}
	if got, _ := AppendResponse(nil, &again, &ResponseOptions{ClientMinor: 1}); !bytes.Equal(got, out) {
		t.Fatalf("comes out otherwise\n%q\n%q", out, got)
	}
}

// FuzzChunked: the decoder agrees with the naive one, whole and in pieces, and
// what is written of its output decodes to the same.
func FuzzChunked(f *testing.F) {
	for _, v := range readVectors(f, "chunked.txt") {
		if _, body, ok := bytes.Cut(v.in, []byte("\r\n\r\n")); ok && len(body) < 4096 {
			f.Add(body, uint64(len(body)))
		}
	}
	f.Fuzz(checkChunked)
}

func checkChunked(t *testing.T, in []byte, seed uint64) {
	outcome := func(cuts []int) string {
		var b Body
		b.InitRequest(&Request{Framing: Chunked}, nil)
		return decodeBody(&b, in, cuts)
	}
	whole := outcome(nil)
	for _, cuts := range [][]int{randomCuts(len(in), seed), everyByte(in)} {
		if len(in) > 4096 {
			break
		}
		if diff := cmp.Diff(verdict(whole), verdict(outcome(cuts))); diff != "" {
			t.Fatalf("cut at %d\n%s", cuts, diff)
		}
	}
	if len(in) > MaxChunkExcess {
		return // the naive decoder knows no excess
	}
	data, trailers, rest, ok := naiveChunked(in)
	if bad := strings.HasPrefix(whole, "reject") || strings.HasSuffix(whole, "cut\n"); bad == ok {
		t.Fatalf("got %q, naive says ok=%v", whole, ok)
	}
	if !ok {
		return
	}
	if body := "body " + escape(data) + "\n"; len(data) > 0 && !strings.HasPrefix(whole, body) {
		t.Fatalf("got %q, naive %q", whole, body)
	}
	want := 0
	for _, line := range trailers {
		name, _, _ := strings.Cut(line, ":")
		if mayTrail(nameID([]byte(name))) {
			want++
		}
	}
	if got := strings.Count("\n"+whole, "\ntrailer "); got != want {
		t.Fatalf("%d trailers, naive %d: %q", got, want, whole)
	}
	if rest > 0 != strings.Contains("\n"+whole, "\nnext ") {
		t.Fatalf("got %q, naive leaves %d bytes", whole, rest)
	}
	var out []byte
	if len(data) > 0 {
		out = append(append(AppendChunkHeader(nil, len(data)), data...), ChunkEnd...)
	}
	out = AppendLastChunk(out, nil)
	again, _, left, ok := naiveChunked(out)
	if !ok || left != 0 || !bytes.Equal(again, data) {
		t.Fatalf("what was written decodes otherwise: %q", out)
	}
}

// Mutated vectors: the fuzzers' properties, on inputs near those that matter,
// in every run of the tests.
func TestMutations(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	mutate := func(in []byte) []byte {
		b := bytes.Clone(in)
		for range 1 + rnd.IntN(3) {
			at := rnd.IntN(len(b) + 1)
			switch rnd.IntN(5) {
			case 0:
				b = append(b[:at:at], b[min(at+1+rnd.IntN(3), len(b)):]...)
			case 1, 2:
				insert := []string{" ", "\t", "\r", "\n", "\r\n", "\x00", ":", ",", ";", "0", "1", "f", "chunked", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "\"", "\\", "[", "]", "%", "@", "/", "\xe9", "*", "http://", "Host: b\r\n"}[rnd.IntN(27)]
				b = append(b[:at:at], append([]byte(insert), b[at:]...)...)
			case 3:
				if at < len(b) {
					b[at] = byte(rnd.IntN(256))
				}
			case 4:
				from := rnd.IntN(at + 1)
				b = append(b[:at:at], append(bytes.Clone(b[from:min(at, from+20)]), b[at:]...)...)
			}
		}
		return b
	}
	rounds := 40
	if testing.Short() {
		rounds = 1
	}
	for file, check := range map[string]func(*testing.T, []byte, uint64){"request.txt": checkRequest, "chunked.txt": checkRequest, "response.txt": checkResponse} {
		for _, v := range readVectors(t, file) {
			if len(v.in) > 512 {
				continue
			}
			for range rounds {
				in := mutate(v.in)
				check(t, in, rnd.Uint64())
				if t.Failed() {
					t.Fatalf("%q", in)
				}
				if _, body, ok := bytes.Cut(in, []byte("\r\n\r\n")); ok && file == "chunked.txt" {
					checkChunked(t, body, rnd.Uint64())
				}
			}
		}
	}
}
