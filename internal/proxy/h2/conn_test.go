package h2

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	wire "tulle.dev/tulle/internal/wire/h2"
)

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestServerExchange(t *testing.T) {
	r := bareRig(t, testConfig(true))
	expect(t, r.rest(), "> SETTINGS ack=false 3=10 4=65535 6=65536 8=1", "> WINDOW_UPDATE 0 65535")
	r.in = append(r.in, wire.Preface...)
	r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.MaxFrameSize, Value: 20000})
	expect(t, r.turn(), "> SETTINGS ack=true")

	r.post(1, "x-one: two", "content-length: 5", "te: trailers", "cookie: a=1", "cookie: b=2")
	r.data(1, false, "he")
	r.data(1, true, "llo")
	expect(t, r.turn(), "request 1 POST http://a/ x-one=two cookie=a=1; b=2 length=5 te", "body 1 he", "body 1 llo end")
	r.respond(1, 200, "world", "X-Two: Three")
	expect(t, r.turn(), "> HEADERS 1 :status=200 x-two=Three", "> DATA 1 world end")
	if r.c.Streams() != 1 || !r.streams[1].Ended() {
		t.Fatal("the stream isn't over, or gone before Done")
	}
	r.c.Done(r.streams[1])
	if r.c.Streams() != 0 {
		t.Fatal("the stream isn't gone")
	}
}

func TestClientExchange(t *testing.T) {
	r := newRig(t, false)
	s := r.open("POST", false)
	r.c.Write(s, []byte("ping"), true)
	expect(t, r.turn(), "> HEADERS 1 :method=POST :scheme=http :authority=a :path=/", "> DATA 1 ping end")
	r.headers(1, false, ":status: 103", "link: x")
	r.headers(1, false, ":status: 200", "content-length: 4")
	r.data(1, false, "pong")
	r.headers(1, true, "grpc-status: 0")
	expect(t, r.turn(), "response 1 103 link=x", "response 1 200 length=4", "body 1 pong", "trailers 1 grpc-status=0")
	r.c.Done(s)
	if r.c.Streams() != 0 {
		t.Fatal("slot not free")
	}
}

// Bytes may come in any pieces.
func TestFeedByByte(t *testing.T) {
	whole := newRig(t, true)
	whole.post(1, "content-length: 5")
	whole.frame(wire.Data, wire.FlagPadded|wire.FlagEndStream, 1, "\x03hello\x00\x00\x00")
	whole.get(3)
	in := whole.in
	var body []string
	r := newRig(t, true)
	var got []string
	for _, b := range in {
		r.in = append(r.in, b)
		for _, l := range r.turn() {
			if p, ok := strings.CutPrefix(l, "body 1 "); ok {
				body = append(body, p)
				continue
			}
			got = append(got, l)
		}
	}
	expect(t, got, "request 1 POST http://a/ length=5", "request 3 GET http://a/ end")
	if s := strings.Join(body, ""); s != "hello end" {
		t.Errorf("body %q", body)
	}
}

// The window of a stream, then of the connection, holds a body back; credit is
// returned as the body is consumed.
func TestSendWindows(t *testing.T) {
	r := newRig(t, true)
	r.get(1)
	r.get(3)
	r.turn()
	big := strings.Repeat("x", 60000)
	for _, id := range []uint32{1, 3} {
		r.c.BeginResponse(r.streams[id], 200)
		r.c.EndHead(r.streams[id], false)
		r.c.Write(r.streams[id], []byte(big), true)
	}
	if n := r.c.Room(r.streams[3]); n >= SendBuffer || r.streams[3].Queued() == 0 {
		t.Fatalf("room %d", n)
	}
	r.c.Watch(r.streams[3])
	r.turn()
	expect(t, r.turn(), "> DATA 3 (55)")
	if r.c.sendWindow != 0 {
		t.Fatalf("connection's window is %d", r.c.sendWindow)
	}
	expect(t, r.turn(), "writable 3")
	r.in = wire.AppendWindowUpdate(r.in, 0, 100000)
	got := r.turn()
	if last := got[len(got)-1]; !strings.HasSuffix(last, "end") {
		t.Fatal(got)
	}
	if !r.streams[3].localEnd || r.streams[3].queued != 0 {
		t.Fatal("not all sent")
	}
}

func TestNegativeWindow(t *testing.T) {
	r := newRig(t, true)
	r.get(1)
	r.turn()
	s := r.streams[1]
	r.c.BeginResponse(s, 200)
	r.c.EndHead(s, false)
	r.c.Write(s, []byte("abc"), false)
	r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.InitialWindowSize, Value: 1})
	r.turn()
	if s.sendWindow != 1-3 {
		t.Fatalf("window %d", s.sendWindow)
	}
	r.c.Write(s, []byte("def"), true)
	expect(t, r.turn())
	r.in = wire.AppendWindowUpdate(r.in, 1, 3)
	expect(t, r.turn(), "> DATA 1 d")
	r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.InitialWindowSize, Value: 10})
	expect(t, r.turn(), "> SETTINGS ack=true", "> DATA 1 ef end")
}

func TestReceiveWindow(t *testing.T) {
	r := newRig(t, true)
	r.keep = true
	r.post(1)
	for range 4 {
		r.data(1, false, strings.Repeat("x", 16000))
	}
	r.turn()
	s := r.streams[1]
	if s.Held() != 64000 {
		t.Fatal(s.Held())
	}
	r.c.Consumed(s, 30000)
	expect(t, r.turn())
	r.c.Consumed(s, 10000)
	expect(t, r.turn(), "> WINDOW_UPDATE 1 40000")
	r.data(1, false, strings.Repeat("x", 16000))
	r.data(1, false, strings.Repeat("x", 16000))
	r.data(1, false, strings.Repeat("x", 9535))
	r.turn()
	r.data(1, false, "x")
	expect(t, r.turn(), "reset 1 FLOW_CONTROL_ERROR", "> RST_STREAM 1 FLOW_CONTROL_ERROR", "> WINDOW_UPDATE 0 105536")
	if r.c.recvWindow != 2*wire.InitialWindow {
		t.Fatalf("the connection's window lost bytes of the stream: %d", r.c.recvWindow)
	}
}

// Streams take turns: a long body doesn't hold up short ones.
func TestFair(t *testing.T) {
	r := newRig(t, true)
	r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.InitialWindowSize, Value: 1 << 20})
	r.in = wire.AppendWindowUpdate(r.in, 0, 1<<24)
	for id := uint32(1); id < 8; id += 2 {
		r.get(id)
	}
	r.turn()
	greedy := strings.Repeat("g", 300000)
	r.respond(1, 200, greedy)
	for id := uint32(3); id < 8; id += 2 {
		r.respond(id, 200, "short")
	}
	// What didn't fit into the first turn's output waits; the short ones go
	// out within one round.
	r.turn()
	shorts := 0
	for _, l := range r.turn()[:4] {
		if strings.HasSuffix(l, " short end") {
			shorts++
		}
	}
	if shorts != 3 {
		t.Fatal(r.log)
	}
}

func TestTrailersWaitForBody(t *testing.T) {
	r := newRig(t, true)
	r.get(1)
	r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.InitialWindowSize, Value: 2})
	r.turn()
	s := r.streams[1]
	r.c.BeginResponse(s, 200)
	r.c.EndHead(s, false)
	r.c.Write(s, []byte("abc"), false)
	r.c.BeginTrailers(s)
	r.c.Field([]byte("Grpc-Status"), []byte("0"), false)
	r.c.Field([]byte("x"), []byte("y"), false)
	r.c.EndHead(s, true)
	r.c.Done(s)
	expect(t, r.turn(), "> HEADERS 1 :status=200", "> DATA 1 ab")
	r.in = wire.AppendWindowUpdate(r.in, 1, 5)
	expect(t, r.turn(), "> DATA 1 c", "> HEADERS 1 grpc-status=0 x=y end")
	if r.c.Streams() != 0 {
		t.Fatal("not freed")
	}
}

// A response that is complete before the request is: RST_STREAM(NO_ERROR) once
// the owner lets go, and what still comes is ignored.
func TestEarlyResponse(t *testing.T) {
	r := newRig(t, true)
	r.post(1)
	r.turn()
	r.respond(1, 403, "")
	r.c.Done(r.streams[1])
	expect(t, r.turn(), "> HEADERS 1 :status=403 end", "> RST_STREAM 1 NO_ERROR")
	r.data(1, false, "late")
	r.headers(1, true, "late: too")
	r.get(3)
	expect(t, r.turn(), "request 3 GET http://a/ end")
}

func TestGracefulDrain(t *testing.T) {
	r := newRig(t, true)
	r.get(1)
	r.turn()
	r.c.Drain()
	expect(t, r.turn(), "> GOAWAY 2147483647 NO_ERROR ", "> PING drain ack=false")
	r.get(3) // was under way
	expect(t, r.turn(), "request 3 GET http://a/ end")
	r.frame(wire.Ping, wire.FlagAck, 0, "drain\x00\x00\x00")
	expect(t, r.turn(), "> GOAWAY 3 NO_ERROR ")
	r.post(5)
	r.data(5, true, "ignored")
	expect(t, r.turn())
	r.respond(1, 200, "")
	r.respond(3, 200, "")
	r.c.Done(r.streams[1])
	expect(t, r.turn(), "> HEADERS 1 :status=200 end", "> HEADERS 3 :status=200 end")
	r.c.Done(r.streams[3])
	expect(t, r.turn(), "closed <nil>")
}

// Without an answer to its PING, the server goes on after a while.
func TestDrainTimeout(t *testing.T) {
	r := newRig(t, true)
	r.c.Drain()
	r.turn()
	if d := r.c.Deadline(); d != r.env.Now+drainWait {
		t.Fatal(d)
	}
	r.env.Now += drainWait
	r.c.Tick()
	expect(t, r.turn(), "closed <nil>", "> GOAWAY 0 NO_ERROR ")
}

func TestPeerGoesAway(t *testing.T) {
	r := newRig(t, false)
	one, three := r.open("GET", true), r.open("GET", true)
	r.turn()
	r.in = wire.AppendGoAway(r.in, 1, wire.NoError, "")
	expect(t, r.turn(), "reset 3 REFUSED_STREAM", "draining")
	if r.c.CanOpen() || r.c.Usable() {
		t.Fatal("usable after GOAWAY")
	}
	r.c.Done(three)
	r.headers(1, true, ":status: 200")
	expect(t, r.turn(), "response 1 200 end")
	r.c.Done(one)
	expect(t, r.turn(), "closed <nil>")
}

func TestCapacity(t *testing.T) {
	r := newRig(t, false)
	r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.MaxConcurrentStreams, Value: 1})
	r.turn()
	s := r.open("GET", true)
	if r.c.CanOpen() {
		t.Fatal("beyond the server's limit")
	}
	if r.c.Open([]byte("GET"), nil, nil, nil, nil) != nil {
		t.Fatal("opened beyond the limit")
	}
	r.headers(1, true, ":status: 204")
	expect(t, r.turn(), "response 1 204 end", "capacity", "> HEADERS 1 :method=GET :scheme=http :authority=a :path=/ end")
	r.c.Done(s)
	r.open("GET", true)
	r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.MaxConcurrentStreams, Value: 5})
	expect(t, r.turn(), "capacity", "> HEADERS 3 :method=GET :scheme=http :authority=a :path=/ end", "> SETTINGS ack=true")
}

func TestExtendedConnect(t *testing.T) {
	r := newRig(t, true)
	r.headers(1, false, ":method: CONNECT", ":protocol: websocket", ":scheme: https", ":path: /chat", ":authority: a")
	r.headers(3, false, ":method: CONNECT", ":authority: a:443")
	r.data(3, false, "tunnelled")
	expect(t, r.turn(), "request 1 CONNECT https://a/chat websocket", "request 3 CONNECT ://a:443", "body 3 tunnelled")
	off := testConfig(true)
	off.ConnectProtocol = false
	r = newRigConfig(t, off)
	r.headers(1, false, ":method: CONNECT", ":protocol: websocket", ":scheme: https", ":path: /chat", ":authority: a")
	expect(t, r.turn(), "> RST_STREAM 1 PROTOCOL_ERROR")

	c := newRig(t, false)
	c.in = wire.AppendSettings(c.in, wire.Setting{ID: wire.EnableConnectProtocol, Value: 1})
	c.turn()
	if !c.c.PeerConnect() {
		t.Fatal("setting not seen")
	}
	c.in = wire.AppendSettings(c.in, wire.Setting{ID: wire.EnableConnectProtocol, Value: 0})
	expect(t, c.turn(), "closed http2: connection error PROTOCOL_ERROR: SETTINGS_ENABLE_CONNECT_PROTOCOL taken back",
		"> GOAWAY 0 PROTOCOL_ERROR SETTINGS_ENABLE_CONNECT_PROTOCOL taken back")
}

func TestFail(t *testing.T) {
	r := newRig(t, false)
	r.open("GET", true)
	r.open("POST", false)
	r.turn()
	r.c.Fail(errTest("socket gone"))
	expect(t, r.turn(), "reset 1 CANCEL", "reset 3 CANCEL", "closed socket gone")
	for _, s := range r.streams {
		r.c.Done(s)
	}
	if r.c.Streams() != 0 {
		t.Fatal("streams left over")
	}
}

type errTest string

func (e errTest) Error() string { return string(e) }

func TestPing(t *testing.T) {
	r := newRig(t, true)
	r.frame(wire.Ping, 0, 0, "12345678")
	r.frame(wire.Ping, wire.FlagAck, 0, "12345678")
	r.frame(0xbe, 0xff, 9, "unknown")
	expect(t, r.turn(), "> PING 12345678 ack=true")
}

// A connection whose stream identifiers are used up takes no more, and ends in
// good order.
func TestIdentifiersUsedUp(t *testing.T) {
	r := newRig(t, false)
	r.c.nextID = wire.MaxStream - 2
	s := r.open("GET", true)
	if r.c.Usable() || r.c.CanOpen() {
		t.Fatal("usable beyond its last identifier")
	}
	r.c.Drain()
	r.turn()
	r.headers(s.ID, true, ":status: 204")
	r.turn()
	r.c.Done(s)
	expect(t, r.turn(), "closed <nil>")
}

// A client that lets go of many streams at once ignores what is still under way
// on them, and the connection goes on.
func TestManyLetGo(t *testing.T) {
	cfg := testConfig(false)
	cfg.MaxStreams = 1000
	r := newRigConfig(t, cfg)
	r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.MaxConcurrentStreams, Value: 1000})
	r.turn()
	for range 1000 {
		r.open("GET", true)
	}
	for id := uint32(1); id < 2000; id += 2 {
		r.headers(id, false, ":status: 200")
	}
	r.turn()
	for _, s := range r.streams {
		r.c.Done(s)
	}
	r.turn()
	for id := uint32(1); id < 2000; id += 2 {
		r.data(id, false, "x")
		r.headers(id, true, "a: b")
	}
	expect(t, r.turn())
	if r.c.Err() != nil || r.c.recvWindow+r.c.owed != int64(r.c.cfg.ConnWindow) {
		t.Fatal(r.c.Err(), r.c.recvWindow, r.c.owed)
	}
}

// A window that shrinks below 0 while a stream waits for room in the output.
func TestWindowShrinksUnderQueue(t *testing.T) {
	r := newRig(t, true)
	r.get(1)
	r.turn()
	s := r.streams[1]
	r.c.BeginResponse(s, 200)
	r.c.EndHead(s, false)
	r.c.Write(s, make([]byte, 65535), false)
	r.c.Write(s, make([]byte, 10), false)
	r.in = wire.AppendWindowUpdate(r.in, 1, 100)
	r.in = wire.AppendWindowUpdate(r.in, 0, 1000)
	r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.InitialWindowSize, Value: 0})
	for {
		n, _ := r.c.Feed(r.in)
		if r.in = r.in[n:]; n == 0 {
			break
		}
	}
	check(t, r.c)
	waits := s.queued
	if r.rest(); s.queued != waits || waits == 0 {
		t.Fatalf("%d bytes waited, %d do after a turn without a window", waits, s.queued)
	}
	r.in = wire.AppendWindowUpdate(r.in, 1, 1<<20)
	if r.turn(); s.queued != 0 {
		t.Fatalf("%d bytes wait for nothing", s.queued)
	}
}

// On a connection that clients share, what one of them doesn't take costs the
// others no credit; what it may hold is its stream's window.
func TestSharedCredit(t *testing.T) {
	cfg := testConfig(true)
	cfg.Shared = true
	r := newRigConfig(t, cfg)
	r.keep = true
	for id := uint32(1); id < 12; id += 2 {
		r.post(id)
		for range 4 {
			r.data(id, false, strings.Repeat("x", 16000))
		}
		r.turn()
		check(t, r.c)
	}
	if r.c.Err() != nil || r.c.recvWindow < int64(cfg.ConnWindow)/2 {
		t.Fatal(r.c.Err(), r.c.recvWindow)
	}
	r.data(1, false, strings.Repeat("x", 2000))
	if got := strings.Join(r.turn(), "\n"); !strings.Contains(got, "reset 1 FLOW_CONTROL_ERROR") {
		t.Fatal(got)
	}
	r.c.Consumed(r.streams[3], 40000)
	expect(t, r.turn(), "> WINDOW_UPDATE 3 40000")
	check(t, r.c)
}
