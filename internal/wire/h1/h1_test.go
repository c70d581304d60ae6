package h1

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// crlf turns the line ends of a literal into CR LF.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func TestRequestForwarded(t *testing.T) {
	in := []byte(crlf("POST http://shop.example:80?a=1 HTTP/1.1\nHost: other\nConnection: keep-alive, X-Hop\nx-hop: 1\nAccept: */*\nTransfer-Encoding: chunked\nTE: trailers\n\n5\nhello\n0\nX-Sum: 1\nHost: no\n\n"))
	var r Request
	n, err := r.Parse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := AppendRequest(nil, &r, &RequestOptions{Via: "tulle"})
	want := crlf("POST /?a=1 HTTP/1.1\nHost: shop.example:80\nAccept: */*\nTransfer-Encoding: chunked\nTE: trailers\nConnection: TE\nVia: 1.1 tulle\n\n")
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var b Body
	b.InitRequest(&r, nil)
	var body []byte
	for rest := in[n:]; ; {
		data, n, done, err := b.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		body = append(body, data...)
		rest = rest[n:]
		if done {
			break
		}
		if n == 0 {
			t.Fatal("stuck")
		}
	}
	if string(body) != "hello" || len(b.Trailers) != 1 || string(b.Trailers[0].Name) != "X-Sum" {
		t.Errorf("body %q, trailers %v", body, b.Trailers)
	}
}

const benchRequest = "GET /api/cart/items?limit=20 HTTP/1.1\nHost: cart.default:8080\nUser-Agent: curl/8.5.0\nAccept: */*\nAccept-Encoding: gzip, deflate, br\nX-Request-Id: 0123456789abcdef0123456789abcdef\nCookie: session=abcdefghijklmnopqrstuvwxyz0123456789; theme=dark\nConnection: keep-alive\n\n"

func BenchmarkRequest(b *testing.B) {
	in := []byte(crlf(benchRequest))
	var r Request
	out := make([]byte, 0, 4096)
	o := &RequestOptions{Via: "tulle"}
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if _, err := r.Parse(in, nil); err != nil {
			b.Fatal(err)
		}
		out = AppendRequest(out[:0], &r, o)
	}
}

func BenchmarkResponse(b *testing.B) {
	in := []byte(crlf("HTTP/1.1 200 OK\nServer: nginx\nDate: Wed, 25 Nov 2026 15:46:02 GMT\nContent-Type: application/json\nContent-Length: 100\nConnection: keep-alive\n\n"))
	var r Response
	out := make([]byte, 0, 4096)
	o := &ResponseOptions{Via: "tulle", ClientMinor: 1}
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if _, err := r.Parse(in, Asked{Method: GET}, nil); err != nil {
			b.Fatal(err)
		}
		out, _ = AppendResponse(out[:0], &r, o)
	}
}

func BenchmarkChunked(b *testing.B) {
	in := []byte(crlf("40\n" + strings.Repeat("x", 64) + "\n10;a=b\n0123456789abcdef\n0\n\n"))
	r := Request{Framing: Chunked}
	var body Body
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		body.InitRequest(&r, nil)
		for rest := in; len(rest) > 0; {
			_, n, _, err := body.Next(rest)
			if err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
	}
}

// The steady path allocates nothing: heads in and out, bodies, dates.
func TestDoesNotAllocate(t *testing.T) {
	request := []byte(crlf(benchRequest))
	response := []byte(crlf("HTTP/1.1 200 OK\nServer: x\nConnection: keep-alive\nTransfer-Encoding: chunked\n\n"))
	chunks := []byte(crlf("5;a=b\nhello\n0\nX: y\n\n"))
	var (
		q    Request
		r    Response
		body Body
	)
	out := make([]byte, 0, 4096)
	trip := func() {
		q.Reset()
		r.Reset()
		if n, err := q.Parse(request, nil); n == 0 || err != nil {
			t.Fatal(n, err)
		}
		out = AppendRequest(out[:0], &q, &RequestOptions{Via: "tulle"})
		if n, err := r.Parse(response, Asked{Method: q.Method}, nil); n == 0 || err != nil {
			t.Fatal(n, err)
		}
		out = AppendDate(out[:0], 1795000000)
		out, _ = AppendResponse(out, &r, &ResponseOptions{Via: "tulle", ClientMinor: 1, Date: out})
		body.InitResponse(&r, nil)
		for rest := chunks; !body.Done(); {
			_, n, _, err := body.Next(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
	}
	if n := testing.AllocsPerRun(100, trip); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAppendDate(t *testing.T) {
	for _, unix := range []int64{0, 1, 951782399, 951782400, 951868800, 1709164800, 1795000000, 4102444799, 4102444800, 7258118400, 253402300799} {
		want := time.Unix(unix, 0).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
		if got := string(AppendDate(nil, unix)); got != want {
			t.Errorf("%d: %s, want %s", unix, got, want)
		}
	}
}

func TestSplitAuthority(t *testing.T) {
	for _, c := range []struct {
		in, host string
		port     uint16
	}{
		{"a", "a", 0}, {"a:", "a", 0}, {"a:80", "a", 80}, {"a:65535", "a", 65535},
		{"[::1]", "::1", 0}, {"[::1]:8080", "::1", 8080}, {"1.2.3.4:5", "1.2.3.4", 5}, {"", "", 0},
	} {
		if host, port := SplitAuthority([]byte(c.in)); string(host) != c.host || port != c.port {
			t.Errorf("%q: %q %d", c.in, host, port)
		}
	}
}

// A head may be moved after it was parsed.
func TestRebase(t *testing.T) {
	in := []byte(crlf("GET http://b?x HTTP/1.1\nHost: a\nX: y\nUpgrade: foo\nConnection: upgrade\n\n"))
	var r Request
	if n, err := r.Parse(in, nil); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	want := string(AppendRequest(nil, &r, &RequestOptions{Upgrade: true}))
	moved := bytes.Clone(in)
	clear(in)
	r.Rebase(moved)
	if got := string(AppendRequest(nil, &r, &RequestOptions{Upgrade: true})); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Set replaces fields and the rest is in its place.
func TestSet(t *testing.T) {
	in := []byte(crlf("GET / HTTP/1.1\nHost: a\nx-peer: forged\nAccept: b\nX-Gone: c\n\n"))
	var r Request
	if _, err := r.Parse(in, nil); err != nil {
		t.Fatal(err)
	}
	set := []Field{{Name: []byte("X-Peer"), Value: []byte("web.default")}, {Name: []byte("X-Gone")}}
	got := string(AppendRequest(nil, &r, &RequestOptions{Via: "tulle", Authority: []byte("b:80"), Close: true, Set: set}))
	want := crlf("GET / HTTP/1.1\nHost: b:80\nAccept: b\nX-Peer: web.default\nConnection: close\nVia: 1.1 tulle\n\n")
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReasons(t *testing.T) {
	reasons := Reasons()
	if len(reasons) < 15 || len(reasons) > 40 {
		t.Errorf("%d reasons: %v", len(reasons), reasons)
	}
	for i := range faults {
		if fault(i) != fine && (faults[i].Status < 400 || faults[i].Text == "" || faults[i].Reason == "") {
			t.Errorf("fault %d is incomplete: %+v", i, faults[i])
		}
	}
}
