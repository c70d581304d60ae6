package proxy_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
)

// A program that speaks HTTP/2 answers before it has read the request, and resets
// the stream then, without an error (RFC 9113, 8.1). A client that reads slowly
// gets all of that answer.
func TestWholeEarlyAnswer(t *testing.T) {
	some := make([]byte, 64<<10)
	for _, size := range []int{100, 60 << 10, 6 << 20} {
		answer := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		app := program(t, func(w http.ResponseWriter, r *http.Request) { w.Write(answer) })
		v := edgeView(app)
		v.Destinations[backendKey].Protocol = view.HTTP2
		c := dialTo(t, start(t, v, 1).addr(t, "http"))
		c.(*net.TCPConn).SetReadBuffer(128 << 10)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		var body []byte
		for err == nil {
			n := 0
			n, err = resp.Body.Read(some)
			body = append(body, some[:n]...)
			time.Sleep(time.Millisecond)
		}
		if err == io.EOF {
			err = nil
		}
		if err != nil || !bytes.Equal(body, answer) {
			t.Errorf("%d bytes of %d, %v", len(body), len(answer), err)
		}
	}
}
