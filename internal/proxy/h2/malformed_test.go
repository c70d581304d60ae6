package h2

import (
	"strings"
	"testing"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// Requests that break RFC 9113, section 8 (or could not be written as HTTP/1.1
// without becoming another request) reach nobody; the connection goes on.
func TestMalformedRequests(t *testing.T) {
	base := []string{":method: GET", ":scheme: http", ":path: /", ":authority: a"}
	with := func(f ...string) []string { return append(append([]string{}, base...), f...) }
	without := func(name string, f ...string) (out []string) {
		for _, b := range base {
			if !strings.HasPrefix(b, name) {
				out = append(out, b)
			}
		}
		return append(out, f...)
	}
	for _, c := range []struct {
		name   string
		fields []string
		ok     string // what the owner gets; empty: the stream is reset
	}{
		{"plain", base, "GET http://a/"},
		{"no method", without(":method"), ""},
		{"no scheme", without(":scheme"), ""},
		{"no path", without(":path"), ""},
		{"no authority", without(":authority"), ""},
		{"authority from host", without(":authority", "host: b"), "GET http://b/"},
		{"host equals authority", with("host: A"), "GET http://a/"},
		{"host differs", with("host: b"), ""},
		{"host with the scheme's port", with("host: a:80"), "GET http://a/"},
		{"host with an empty port", with("host: a:"), "GET http://a/"},
		{"host with another port", with("host: a:8080"), ""},
		{"host with another scheme's port", with("host: a:443"), ""},
		{"host twice", with("host: a", "host: a"), ""},
		{"empty authority", without(":authority", ":authority: "), ""},
		{"method twice", with(":method: GET"), ""},
		{"path twice", with(":path: /"), ""},
		{"scheme twice", with(":scheme: http"), ""},
		{"authority twice", with(":authority: a"), ""},
		{"unknown pseudo", with(":other: x"), ""},
		{"status in request", with(":status: 200"), ""},
		{"pseudo after field", append([]string{"x: y"}, base...), ""},
		{"empty method", without(":method", ":method: "), ""},
		{"method not a token", without(":method", ":method: GE T"), ""},
		{"method with CRLF", without(":method", ":method: GET / HTTP/1.1\r\nx"), ""},
		{"empty path", without(":path", ":path: "), ""},
		{"path without slash", without(":path", ":path: x"), ""}, // CVE-2026-33186
		{"path *", without(":path", ":path: *"), ""},
		{"OPTIONS *", []string{":method: OPTIONS", ":scheme: http", ":path: *", ":authority: a"}, "OPTIONS http://a*"},
		{"path with space", without(":path", ":path: / HTTP/1.1"), ""},
		{"path with CR", without(":path", ":path: /\r\nx: y"), ""},
		{"path with fragment", without(":path", ":path: /#x"), ""},
		{"path with byte above 127", without(":path", ":path: /\xff"), ""},
		{"scheme with slash", without(":scheme", ":scheme: http://evil/"), ""},
		{"authority with user", without(":authority", ":authority: u@a"), ""},
		{"authority with slash", without(":authority", ":authority: a/b"), ""},
		{"authority with space", without(":authority", ":authority: a b"), ""},
		{"IPv6 authority", without(":authority", ":authority: [::1]:80"), "GET http://[::1]:80/"},
		{"upper case name", with("X-Y: z"), ""},
		{"empty name", with(": z"), ""},
		{"name with space", with("x y: z"), ""},
		{"name with colon", with("x:y: z"), ""},
		{"name with CR", with("x\r: z"), ""},
		{"name above 127", with("x\xe9: z"), ""},
		{"value with CR", with("x: a\rb"), ""},
		{"value with LF", with("x: a\nb"), ""},
		{"value with NUL", with("x: a\x00b"), ""},
		{"value with DEL", with("x: a\x7fb"), ""},
		{"value with control", with("x: a\x01b"), ""},
		{"value with tab inside", with("x: a\tb"), "GET http://a/ x=a\tb"},
		{"value above 127", with("x: \xe9"), "GET http://a/ x=\xe9"},
		{"value after space", with("x:  a"), ""},
		{"value before space", with("x: a "), ""},
		{"value before tab", with("x: a\t"), ""},
		{"empty value", with("x: "), "GET http://a/ x="},
		{"connection", with("connection: close"), ""},
		{"keep-alive", with("keep-alive: 1"), ""},
		{"proxy-connection", with("proxy-connection: x"), ""},
		{"transfer-encoding", with("transfer-encoding: chunked"), ""},
		{"upgrade", with("upgrade: h2c"), ""},
		{"te trailers", with("te: trailers"), "GET http://a/ te"},
		{"te gzip", with("te: gzip"), ""},
		{"te both", with("te: trailers, gzip"), ""},
		{"content-length 0", with("content-length: 0"), "GET http://a/ length=0"},
		{"content-length without body", with("content-length: 1"), ""},
		{"content-length twice", with("content-length: 0", "content-length: 0"), ""},
		{"content-length list", with("content-length: 0, 0"), ""},
		{"content-length sign", with("content-length: +0"), ""},
		{"content-length empty", with("content-length: "), ""},
		{"content-length huge", with("content-length: 9999999999999999999"), ""},
		{"cookies", with("cookie: a=1", "x: y", "cookie: b=2", "cookie: c=3"), "GET http://a/ cookie=a=1; b=2; c=3 x=y"},
		{"connect", []string{":method: CONNECT", ":authority: a:1"}, "CONNECT ://a:1"},
		{"connect with path", []string{":method: CONNECT", ":authority: a:1", ":path: /"}, ""},
		{"connect with scheme", []string{":method: CONNECT", ":authority: a:1", ":scheme: http"}, ""},
		{"connect without authority", []string{":method: CONNECT"}, ""},
		{"connect with host only", []string{":method: CONNECT", "host: a:1"}, ""},
		{"connect with length", []string{":method: CONNECT", ":authority: a:1", "content-length: 0"}, ""},
		{"protocol without connect", with(":protocol: websocket"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			r.headers(1, true, c.fields...)
			r.get(3)
			want := []string{"request 1 " + c.ok + " end", "request 3 GET http://a/ end"}
			if c.ok == "" {
				want = []string{"request 3 GET http://a/ end", "> RST_STREAM 1 PROTOCOL_ERROR"}
			}
			expect(t, r.turn(), want...)
			if n := r.c.Streams(); n != len(r.streams) {
				t.Errorf("%d slots taken", n)
			}
		})
	}
}

func TestMalformedBodies(t *testing.T) {
	for _, c := range []struct {
		name string
		send func(r *rig)
		want []string
	}{
		{"too much", func(r *rig) { r.post(1, "content-length: 2"); r.data(1, true, "abc") },
			[]string{"request 1 POST http://a/ length=2", "reset 1 PROTOCOL_ERROR", "> RST_STREAM 1 PROTOCOL_ERROR"}},
		{"too little", func(r *rig) { r.post(1, "content-length: 2"); r.data(1, true, "a") },
			[]string{"request 1 POST http://a/ length=2", "reset 1 PROTOCOL_ERROR", "> RST_STREAM 1 PROTOCOL_ERROR"}},
		{"too little before trailers", func(r *rig) { r.post(1, "content-length: 2"); r.data(1, false, "a"); r.headers(1, true, "x: y") },
			[]string{"request 1 POST http://a/ length=2", "body 1 a", "reset 1 PROTOCOL_ERROR", "> RST_STREAM 1 PROTOCOL_ERROR"}},
		{"trailers", func(r *rig) { r.post(1); r.data(1, false, "a"); r.headers(1, true, "x: y") },
			[]string{"request 1 POST http://a/", "body 1 a", "trailers 1 x=y"}},
		{"trailers without end", func(r *rig) { r.post(1); r.headers(1, false, "x: y") },
			[]string{"request 1 POST http://a/", "reset 1 PROTOCOL_ERROR", "> RST_STREAM 1 PROTOCOL_ERROR"}},
		{"pseudo in trailers", func(r *rig) { r.post(1); r.headers(1, true, ":path: /") },
			[]string{"request 1 POST http://a/", "reset 1 PROTOCOL_ERROR", "> RST_STREAM 1 PROTOCOL_ERROR"}},
		{"framing in trailers", func(r *rig) { r.post(1); r.headers(1, true, "content-length: 0") },
			[]string{"request 1 POST http://a/", "reset 1 PROTOCOL_ERROR", "> RST_STREAM 1 PROTOCOL_ERROR"}},
		{"connection in trailers", func(r *rig) { r.post(1); r.headers(1, true, "connection: x") },
			[]string{"request 1 POST http://a/", "reset 1 PROTOCOL_ERROR", "> RST_STREAM 1 PROTOCOL_ERROR"}},
		{"data after end", func(r *rig) { r.get(1); r.data(1, false, "x") },
			[]string{"request 1 GET http://a/ end", "reset 1 STREAM_CLOSED", "> RST_STREAM 1 STREAM_CLOSED"}},
		{"headers after end", func(r *rig) { r.get(1); r.headers(1, true, "x: y") },
			[]string{"request 1 GET http://a/ end", "reset 1 STREAM_CLOSED", "> RST_STREAM 1 STREAM_CLOSED"}},
		{"priority on itself", func(r *rig) {
			r.frame(wire.Headers, wire.FlagEndHeaders|wire.FlagPriority, 1, "\x00\x00\x00\x01\x10"+string(r.block(":method: GET", ":scheme: http", ":path: /", ":authority: a")))
		}, []string{"> RST_STREAM 1 PROTOCOL_ERROR"}},
		{"priority frame on itself", func(r *rig) { r.frame(wire.Priority, 0, 5, "\x00\x00\x00\x05\x10") },
			[]string{"closed http2: connection error PROTOCOL_ERROR: stream depends on itself", "> GOAWAY 0 PROTOCOL_ERROR stream depends on itself"}},
		{"priority frame of an open stream on itself", func(r *rig) { r.post(1); r.frame(wire.Priority, 0, 1, "\x00\x00\x00\x01\x10") },
			[]string{"request 1 POST http://a/", "reset 1 PROTOCOL_ERROR", "> RST_STREAM 1 PROTOCOL_ERROR"}},
		{"priority frame of 4 bytes", func(r *rig) { r.post(1); r.frame(wire.Priority, 0, 1, "\x00\x00\x00\x00") },
			[]string{"request 1 POST http://a/", "reset 1 FRAME_SIZE_ERROR", "> RST_STREAM 1 FRAME_SIZE_ERROR"}},
		{"priority frame of 4 bytes on an idle stream", func(r *rig) { r.frame(wire.Priority, 0, 5, "\x00\x00\x00\x00") },
			[]string{"closed http2: connection error FRAME_SIZE_ERROR: PRIORITY not 5 bytes", "> GOAWAY 0 FRAME_SIZE_ERROR PRIORITY not 5 bytes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			c.send(r)
			expect(t, r.turn(), c.want...)
		})
	}
}

func TestMalformedResponses(t *testing.T) {
	for _, c := range []struct {
		name, method string
		send         func(r *rig)
		ok           bool
	}{
		{"plain", "GET", func(r *rig) { r.headers(1, true, ":status: 200") }, true},
		{"no status", "GET", func(r *rig) { r.headers(1, true, "x: y") }, false},
		{"status twice", "GET", func(r *rig) { r.headers(1, true, ":status: 200", ":status: 200") }, false},
		{"status of 2 digits", "GET", func(r *rig) { r.headers(1, true, ":status: 99") }, false},
		{"status 1000", "GET", func(r *rig) { r.headers(1, true, ":status: 1000") }, false},
		{"status with sign", "GET", func(r *rig) { r.headers(1, true, ":status: +20") }, false},
		{"status 101", "GET", func(r *rig) { r.headers(1, false, ":status: 101") }, false},
		{"interim with end", "GET", func(r *rig) { r.headers(1, true, ":status: 100") }, false},
		{"interim with length", "GET", func(r *rig) { r.headers(1, false, ":status: 100", "content-length: 0") }, false},
		{"method in response", "GET", func(r *rig) { r.headers(1, true, ":status: 200", ":method: GET") }, false},
		{"te", "GET", func(r *rig) { r.headers(1, true, ":status: 200", "te: trailers") }, false},
		{"data first", "GET", func(r *rig) { r.data(1, true, "x") }, false},
		{"data after interim", "GET", func(r *rig) { r.headers(1, false, ":status: 100"); r.data(1, true, "x") }, false},
		{"length without body", "GET", func(r *rig) { r.headers(1, true, ":status: 200", "content-length: 3") }, false},
		{"length of HEAD", "HEAD", func(r *rig) { r.headers(1, true, ":status: 200", "content-length: 3") }, true},
		{"body of HEAD", "HEAD", func(r *rig) { r.headers(1, false, ":status: 200", "content-length: 3"); r.data(1, true, "abc") }, false},
		{"length of 304", "GET", func(r *rig) { r.headers(1, true, ":status: 304", "content-length: 3") }, true},
		{"body of 304", "GET", func(r *rig) { r.headers(1, false, ":status: 304"); r.data(1, true, "abc") }, false},
		{"body of 204", "GET", func(r *rig) { r.headers(1, false, ":status: 204"); r.data(1, true, "abc") }, false},
		{"short body", "GET", func(r *rig) { r.headers(1, false, ":status: 200", "content-length: 3"); r.data(1, true, "ab") }, false},
		{"tunnel", "CONNECT", func(r *rig) { r.headers(1, false, ":status: 200", "content-length: 3"); r.data(1, true, "any length") }, true},
		{"refused tunnel", "CONNECT", func(r *rig) { r.headers(1, false, ":status: 403", "content-length: 3"); r.data(1, true, "any length") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, false)
			s := r.open(c.method, true)
			r.turn()
			c.send(r)
			got := strings.Join(r.turn(), "\n")
			if reset := strings.Contains(got, "reset 1 PROTOCOL_ERROR\n> RST_STREAM 1 PROTOCOL_ERROR"); reset == c.ok {
				t.Error(got)
			}
			if c.ok && !s.Ended() {
				t.Error("stream not over")
			}
			r.c.Done(s)
		})
	}
}

// Frames that break the connection: GOAWAY with the right code.
func TestConnectionErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		client bool
		send   func(r *rig)
		code   string
	}{
		{"data on stream 0", false, func(r *rig) { r.data(0, false, "x") }, "PROTOCOL_ERROR"},
		{"data on idle", false, func(r *rig) { r.data(1, false, "x") }, "PROTOCOL_ERROR"},
		{"even stream", false, func(r *rig) { r.get(2) }, "PROTOCOL_ERROR"},
		{"lower stream", false, func(r *rig) { r.get(5); r.get(3) }, "PROTOCOL_ERROR"},
		{"reset idle", false, func(r *rig) { r.frame(wire.RSTStream, 0, 1, "\x00\x00\x00\x08") }, "PROTOCOL_ERROR"},
		{"window of idle", false, func(r *rig) { r.frame(wire.WindowUpdate, 0, 1, "\x00\x00\x00\x08") }, "PROTOCOL_ERROR"},
		{"window too large", false, func(r *rig) { r.in = wire.AppendWindowUpdate(r.in, 0, wire.MaxWindow) }, "FLOW_CONTROL_ERROR"},
		{"initial window makes one too large", false, func(r *rig) {
			r.get(1)
			r.in = wire.AppendWindowUpdate(r.in, 1, wire.MaxWindow-wire.InitialWindow)
			r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.InitialWindowSize, Value: wire.InitialWindow + 1})
		}, "FLOW_CONTROL_ERROR"},
		{"continuation alone", false, func(r *rig) { r.frame(wire.Continuation, 4, 1, "") }, "PROTOCOL_ERROR"},
		{"ping within block", false, func(r *rig) { r.frame(wire.Headers, 0, 1, "\x82"); r.frame(wire.Ping, 0, 0, "12345678") }, "PROTOCOL_ERROR"},
		{"unknown within block", false, func(r *rig) { r.frame(wire.Headers, 0, 1, "\x82"); r.frame(0x77, 0, 1, "") }, "PROTOCOL_ERROR"},
		{"data within block", false, func(r *rig) { r.frame(wire.Headers, 0, 1, "\x82"); r.data(1, false, "x") }, "PROTOCOL_ERROR"},
		{"continuation of another", false, func(r *rig) { r.frame(wire.Headers, 0, 1, "\x82"); r.frame(wire.Continuation, 4, 3, "") }, "PROTOCOL_ERROR"},
		{"bad block", false, func(r *rig) { r.frame(wire.Headers, 4, 1, "\xff\xff\xff") }, "COMPRESSION_ERROR"},
		{"bad block on closed stream", false, func(r *rig) {
			r.get(1)
			r.frame(wire.RSTStream, 0, 1, "\x00\x00\x00\x08")
			r.frame(wire.Headers, 4, 1, "\xff\xff\xff")
		}, "COMPRESSION_ERROR"},
		{"long frame", false, func(r *rig) { r.frame(wire.Data, 0, 1, strings.Repeat("x", wire.MinMaxFrameSize+1)) }, "FRAME_SIZE_ERROR"},
		{"padding", false, func(r *rig) { r.post(1); r.frame(wire.Data, wire.FlagPadded, 1, "\x05abc") }, "PROTOCOL_ERROR"},
		{"beyond the connection's window", false, func(r *rig) {
			for id := uint32(1); id < 7; id += 2 {
				r.post(id)
			}
			for id := uint32(1); id < 7; id += 2 {
				for range 3 {
					r.data(id, false, strings.Repeat("x", 16000))
				}
			}
		}, "FLOW_CONTROL_ERROR"},
		{"push enabled by server", true, func(r *rig) { r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.EnablePush, Value: 1}) }, "PROTOCOL_ERROR"},
		{"frame size 0", true, func(r *rig) { r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.MaxFrameSize, Value: 0}) }, "PROTOCOL_ERROR"},
		{"push", true, func(r *rig) { r.open("GET", true); r.frame(wire.PushPromise, 4, 1, "\x00\x00\x00\x02\x82") }, "PROTOCOL_ERROR"},
		{"push to server", false, func(r *rig) { r.get(1); r.frame(wire.PushPromise, 4, 1, "\x00\x00\x00\x02\x82") }, "PROTOCOL_ERROR"},
		{"stream opened by server", true, func(r *rig) { r.headers(2, true, ":status: 200") }, "PROTOCOL_ERROR"},
		{"response to nothing", true, func(r *rig) { r.headers(1, true, ":status: 200") }, "PROTOCOL_ERROR"},
		{"goaway takes back", true, func(r *rig) { r.in = wire.AppendGoAway(r.in, 1, 0, ""); r.in = wire.AppendGoAway(r.in, 3, 0, "") }, "PROTOCOL_ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, !c.client)
			r.keep = true
			c.send(r)
			got := strings.Join(r.turn(), "\n")
			if !strings.Contains(got, "> GOAWAY") || !strings.Contains(got, c.code) || !strings.Contains(got, "closed ") {
				t.Error(got)
			}
			r.get(101)
			expect(t, r.turn()) // deaf
		})
	}
}

func TestPreface(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"other protocol", "GET / HTTP/1.1\r\n\r\n", "PROTOCOL_ERROR"},
		{"late difference", wire.Preface[:len(wire.Preface)-1] + "x", "PROTOCOL_ERROR"},
		{"no settings", wire.Preface + string(wire.AppendPing(nil, false, [8]byte{})), "PROTOCOL_ERROR"},
		{"data first", wire.Preface + string(wire.AppendData(nil, 1, true, nil)), "PROTOCOL_ERROR"},
		{"only an acknowledgement", wire.Preface + string(wire.AppendSettingsAck(nil)), "PROTOCOL_ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bareRig(t, testConfig(true))
			r.in = []byte(c.in)
			if got := strings.Join(r.turn(), "\n"); !strings.Contains(got, "> GOAWAY 0 "+c.want) {
				t.Error(got)
			}
		})
	}
}
