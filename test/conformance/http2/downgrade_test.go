package http2

import (
	"net"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h2"
	"tulle.dev/tulle/internal/wire/hpack"
)

// A request over HTTP/2, and what the server behind gets of it over HTTP/1.1:
// nothing (the stream is reset, or answered with an error), or a head with
// those lines and none of the others. The names are those of the attacks where
// they have one: H2.CL and H2.TE desynchronise the two connections by framing
// fields, header injection by bytes that end a line in the other version.
var downgrades = []struct {
	name   string
	fields []string // besides method, scheme, path, authority; ":x: y" replaces one of them
	data   []string // DATA frames; the last one ends the stream
	want   []string // lines; none: refused
	never  []string
}{
	{"plain", []string{"x-a: b"}, nil, []string{"GET / HTTP/1.1", "Host: a.example", "x-a: b"}, []string{"Content-Length", "Transfer-Encoding"}},
	{"H2.CL: less than there is", []string{":method: POST", "content-length: 0"}, []string{"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"}, nil, []string{"smuggled"}},
	{"H2.CL: more than there is", []string{":method: POST", "content-length: 100"}, []string{"abc"}, nil, nil},
	{"H2.CL: twice", []string{":method: POST", "content-length: 3", "content-length: 4"}, []string{"abc"}, nil, nil},
	{"H2.CL: a list", []string{":method: POST", "content-length: 3, 3"}, []string{"abc"}, nil, nil},
	{"H2.CL: a sign", []string{":method: POST", "content-length: +3"}, []string{"abc"}, nil, nil},
	{"H2.TE", []string{":method: POST", "transfer-encoding: chunked"}, []string{"0\r\n\r\nGET /smuggled HTTP/1.1\r\n"}, nil, []string{"smuggled"}},
	{"H2.TE by name", []string{":method: POST", "x\r\ntransfer-encoding: chunked"}, []string{"0\r\n\r\n"}, nil, nil},
	{"H2.TE by value", []string{":method: POST", "x: y\r\ntransfer-encoding: chunked"}, []string{"0\r\n\r\n"}, nil, nil},
	{"LF in a value", []string{"x: y\nz: smuggled"}, nil, nil, []string{"smuggled"}},
	{"CR in a value", []string{"x: y\rz: smuggled"}, nil, nil, []string{"smuggled"}},
	{"NUL in a value", []string{"x: y\x00z"}, nil, nil, nil},
	{"colon in a name", []string{"x:y: z"}, nil, nil, nil},
	{"space in a name", []string{"x y: z"}, nil, nil, nil},
	{"empty name", []string{": z"}, nil, nil, nil},
	{"space around a value", []string{"x: y "}, nil, nil, nil}, // Envoy, H2O, Varnish forwarded it
	{"request line by method", []string{":method: GET / HTTP/1.1\r\nx: smuggled\r\n\r\nGET"}, nil, nil, []string{"smuggled"}},
	{"request line by path", []string{":path: / HTTP/1.1\r\nx: smuggled\r\n\r\nGET /"}, nil, nil, []string{"smuggled"}},
	{"request line by space in the path", []string{":path: /x HTTP/1.1"}, nil, nil, nil},
	{"request line by scheme", []string{":scheme: http://x/?"}, nil, nil, nil},
	{"path without a slash", []string{":path: admin"}, nil, nil, nil},
	{"absolute path", []string{":path: http://other.example/"}, nil, nil, nil},
	{"two paths", []string{":path: /", "::path: /admin"}, nil, nil, nil},
	{"authority with a path", []string{":authority: a.example/x"}, nil, nil, nil},
	{"authority with a user", []string{":authority: u@a.example"}, nil, nil, nil},
	{"host differs from authority", []string{"host: other.example"}, nil, nil, nil},
	{"host equals authority", []string{"host: a.example"}, nil, []string{"Host: a.example"}, nil},
	{"two hosts", []string{"host: a.example", "host: a.example"}, nil, nil, nil},
	{"connection", []string{"connection: x-a", "x-a: b"}, nil, nil, nil},
	{"upgrade to h2c", []string{"upgrade: h2c", "http2-settings: x"}, nil, nil, nil},
	{"settings of HTTP/2", []string{"http2-settings: x"}, nil, []string{"GET / HTTP/1.1"}, []string{"http2-settings"}},
	{"te other than trailers", []string{"te: gzip"}, nil, nil, nil},
	{"te trailers", []string{"te: trailers"}, nil, []string{"TE: trailers", "Connection: TE"}, nil},
	{"crumbs of a cookie", []string{"cookie: a=1", "cookie: b=2"}, nil, []string{"cookie: a=1; b=2"}, nil},
	{"private field of the mesh", []string{"tulle-version: 2", "tulle-upgrade: x"}, nil, []string{"GET / HTTP/1.1"}, []string{"tulle-version", "tulle-upgrade", "Upgrade"}},
	{"body of unknown length", []string{":method: POST"}, []string{"abc", "def"}, []string{"POST / HTTP/1.1", "Transfer-Encoding: chunked"}, []string{"Content-Length"}},
	{"body of known length", []string{":method: POST", "content-length: 6"}, []string{"abc", "def"}, []string{"Content-Length: 6"}, []string{"Transfer-Encoding"}},
	{"no body", []string{":method: POST", "content-length: 0"}, nil, []string{"Content-Length: 0"}, nil},
	{"TRACE with a body", []string{":method: TRACE", "content-length: 3"}, []string{"abc"}, nil, nil},
}

func TestDowngrade(t *testing.T) {
	server, heads := recorder(t)
	addr := start(t, server, view.HTTP)
	for _, d := range downgrades {
		t.Run(d.name, func(t *testing.T) {
			for len(heads) > 0 {
				<-heads
			}
			answered := ask(t, addr, d.fields, d.data)
			// What comes on the same connection afterwards must be a request of its
			// own: a desynchronised server would see it as something else.
			check := ask(t, addr, []string{":path: /afterwards"}, nil)
			if check != "200" {
				t.Errorf("the next request was answered %s", check)
			}
			var got []string
			for first := true; first || len(heads) > 0; first = false {
				select {
				case h := <-heads:
					if !strings.HasPrefix(h, "GET /afterwards HTTP/1.1\r\n") {
						got = append(got, h)
					}
				case <-time.After(wait):
					t.Fatal("the server got nothing, not even the next request")
				}
			}
			all := strings.Join(got, "|")
			if len(d.want) == 0 {
				// A head may have gone ahead before its body turned out wrong; it
				// must not look whole.
				if answered == "200" {
					t.Errorf("answered 200; the server got %q", all)
				}
			} else if answered != "200" {
				t.Errorf("answered %s", answered)
			}
			for _, line := range d.want {
				if !strings.Contains(all, line+"\r\n") {
					t.Errorf("no line %q in %q", line, all)
				}
			}
			for _, s := range d.never {
				if strings.Contains(strings.ToLower(all), strings.ToLower(s)) {
					t.Errorf("%q in %q", s, all)
				}
			}
			if len(got) > 1 {
				t.Errorf("the server took it for %d requests: %q", len(got), got)
			}
		})
	}
}

// ask sends one request on a connection of its own and returns the status, or
// how the stream ended without one.
func ask(t *testing.T, addr string, fields, data []string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, wait)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	pseudo := map[string]string{":method": "GET", ":scheme": "http", ":path": "/", ":authority": "a.example"}
	var rest [][2]string
	for _, f := range fields {
		i := strings.Index(f[1:], ": ") + 1
		name, value := f[:i], f[i+2:]
		switch {
		case strings.HasPrefix(name, "::"):
			rest = append([][2]string{{name[1:], value}}, rest...)
		case pseudo[name] != "":
			pseudo[name] = value
		case name == ":" || i == 0:
			rest = append(rest, [2]string{"", value})
		default:
			rest = append(rest, [2]string{name, value})
		}
	}
	var e hpack.Encoder
	block := e.Begin(nil)
	for _, name := range []string{":method", ":scheme", ":path", ":authority"} {
		block = e.Append(block, []byte(name), []byte(pseudo[name]), false)
	}
	for _, f := range rest {
		block = e.Append(block, []byte(f[0]), []byte(f[1]), false)
	}
	out := h2.AppendSettings([]byte(h2.Preface))
	out = h2.AppendSettingsAck(out)
	out = h2.AppendHeaders(out, 1, len(data) == 0, block, h2.MinMaxFrameSize)
	for i, d := range data {
		out = h2.AppendData(out, 1, i == len(data)-1, []byte(d))
	}
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	var in []byte
	var d hpack.Decoder
	var r hpack.Reader
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		in = append(in, buf[:n]...)
		for {
			f, k, _ := h2.Cut(in, h2.MinMaxFrameSize)
			if k == 0 {
				break
			}
			in = in[k:]
			switch f.Type {
			case h2.Headers:
				r.Reset(&d, f.Payload)
				var field hpack.Field
				if ok, err := r.Next(&field); !ok || err != nil {
					t.Fatal("no status")
				}
				return string(field.Value)
			case h2.RSTStream:
				code, _ := h2.ParseRSTStream(f)
				return "reset " + code.String()
			case h2.GoAway:
				g, _ := h2.ParseGoAway(f)
				return "goaway " + g.Code.String()
			}
		}
		if err != nil {
			return err.Error()
		}
	}
}
