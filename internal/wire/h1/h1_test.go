package h1

import (
	"strings"
	"testing"
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
	if string(body) != "hello" || len(b.Trailers) != 0 { // X-Hop might be among them
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
