package sim_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/sim"
	"tulle.dev/tulle/internal/view"
)

// snail is a gateway, a program behind it and a client, one of which is slow.
type snail struct {
	*testing.T
	world        *sim.World
	app, clients *program
	client       *pipe
	got          bytes.Buffer  // what the client was sent
	ended        time.Duration // when its connection was; 0: it stands
	taken        int           // bytes that the program got
}

// newSnail starts them. serve is what the program does with a connection.
func newSnail(t *testing.T, protocol view.Protocol, set func(*view.Settings), serve func(*snail, *pipe)) *snail {
	if ca == nil {
		cryptotest.SetGlobalRandom(t, 0)
		ca = newAuthority()
	}
	cryptotest.SetGlobalRandom(t, 1)
	weather := sim.Weather{Latency: 50 * time.Microsecond, Segment: 1460, Window: 32 << 10, Buffer: 32 << 10, Backlog: 64}
	s := &snail{T: t, world: sim.New(1, weather, nil)}
	r := &run{seed: 1, world: s.world, plan: rand.New(rand.NewPCG(1, 1)), dead: -1, peer: view.PeerHTTP2}
	v := r.edgeView()
	v.Destinations[shopKey].Protocol = protocol
	v.Proxy.Settings = view.Settings{StreamIdle: 10 * time.Minute, IdleTimeout: 10 * time.Minute}
	if set != nil {
		set(&v.Proxy.Settings)
	}
	at := netip.AddrPortFrom(hostAddr(30), 8080)
	s.app = newProgram(s.world, "shop", at.Addr())
	s.app.serve(at, func(fd poll.FD) {
		p := s.app.open(fd)
		p.onEnd = func(error) { p.close(false) }
		p.onData = func(b []byte) { s.taken += len(b) }
		serve(s, p)
	})
	v.Endpoints[shopKey].List = append(v.Endpoints[shopKey].List, view.Endpoint{Address: at})
	r.startProxy("edge", hostAddr(1), v, 1)
	s.clients = newProgram(s.world, "clients", hostAddr(9))
	s.client = s.clients.open(must(s.clients.Connect(netip.AddrPortFrom(hostAddr(1), 80))))
	s.client.onData = func(b []byte) { s.got.Write(b) }
	s.client.onEnd = func(error) {
		s.ended = s.world.Now()
		s.client.close(false)
	}
	return s
}

// every does something again and again, until the client's connection ends.
func (s *snail) every(d time.Duration, do func()) {
	s.world.After(d, func() {
		if !s.client.gone {
			do()
			s.every(d, do)
		}
	})
}

func (s *snail) run(until time.Duration) {
	s.Helper()
	if !s.world.Run(until, 10_000_000, nil) {
		s.Fatal("it goes round in circles")
	}
}

// wants says how the client's connection must stand: whether its answer begins so,
// and when the connection ended; 0 is not at all.
func (s *snail) wants(begins string, from, to time.Duration) {
	s.Helper()
	if got := s.got.String(); !strings.HasPrefix(got, begins) || begins == "" && got != "" {
		s.Errorf("the client was sent %.200q, want %q", got, begins)
	}
	if s.ended < from || s.ended > to {
		s.Errorf("its connection ended at %s, want %s to %s", s.ended, from, to)
	}
}

func takes(*snail, *pipe) {}

const upload = "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n"

// A client of a gateway whose body comes by the drop is answered and sent away,
// within two windows; one that keeps to the least isn't, nor is one of a gateway
// that doesn't ask for any.
func TestSlowBody(t *testing.T) {
	for _, test := range []struct {
		name     string
		bytes    int // a second
		set      func(*view.Settings)
		begins   string
		from, to time.Duration
	}{
		{"ten bytes a second", 10, nil, "HTTP/1.1 408 ", 30 * time.Second, 61 * time.Second},
		{"just too slow", 480, nil, "HTTP/1.1 408 ", 30 * time.Second, 61 * time.Second},
		{"fast enough", 510, nil, "", 0, 0},
		{"another least", 510, func(s *view.Settings) { s.MinBodyRate = 1000 }, "HTTP/1.1 408 ", 30 * time.Second, 61 * time.Second},
		{"any", 1, func(s *view.Settings) { s.MinBodyRate = view.AnyBodyRate }, "", 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSnail(t, view.HTTP, test.set, takes)
			s.client.write([]byte(upload))
			s.every(time.Second, func() {
				s.client.write(fmt.Appendf(nil, "%x\r\n%s\r\n", test.bytes, strings.Repeat("x", test.bytes)))
			})
			s.run(5 * time.Minute)
			s.wants(test.begins, test.from, test.to)
		})
	}
}

// One that was fast and then is slow is found too, and a whole body isn't watched
// while the program takes its time to answer.
func TestSlowBodyLater(t *testing.T) {
	s := newSnail(t, view.HTTP, nil, takes)
	s.client.write([]byte("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000000\r\n\r\n"))
	s.every(time.Second, func() {
		if s.world.Now() < 2*time.Minute {
			s.client.write(make([]byte, 2000))
			return
		}
		s.client.write([]byte("x"))
	})
	s.run(5 * time.Minute)
	s.wants("HTTP/1.1 408 ", 150*time.Second, 181*time.Second)

	s = newSnail(t, view.HTTP, nil, takes)
	s.client.write([]byte("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nok"))
	s.run(5 * time.Minute)
	s.wants("", 0, 0)
}

// Back-pressure is not the client's doing: a program that reads by the drop, one
// that is slow to say that the body may come.
func TestSlowProgram(t *testing.T) {
	s := newSnail(t, view.HTTP, nil, func(_ *snail, p *pipe) { p.pace = 1 }) // 200 bytes a second
	s.client.write([]byte("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000000\r\n\r\n"))
	s.client.write(make([]byte, 1_000_000))
	s.run(5 * time.Minute)
	s.wants("", 0, 0)
	if s.taken < 10_000 {
		t.Errorf("the program has got %d bytes", s.taken)
	}

	s = newSnail(t, view.HTTP, nil, func(s *snail, p *pipe) {
		s.world.After(2*time.Minute, func() { p.write([]byte("HTTP/1.1 100 Continue\r\n\r\n")) })
		p.onData = func(b []byte) {
			if bytes.HasSuffix(b, []byte("body")) {
				p.write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
			}
		}
	})
	s.client.write([]byte("POST / HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"))
	s.client.onData = func(b []byte) {
		if s.got.Write(b); strings.Contains(string(b), " 100 ") {
			s.client.write([]byte("body"))
		}
	}
	s.run(3 * time.Minute)
	s.wants("HTTP/1.1 100 ", 0, 0)
	if !strings.Contains(s.got.String(), "HTTP/1.1 200 ") {
		t.Errorf("the client was sent %q", s.got.String())
	}
}

// A program that has begun to answer knows with whom it talks.
func TestSlowConversation(t *testing.T) {
	s := newSnail(t, view.HTTP, nil, func(s *snail, p *pipe) {
		p.onData = func([]byte) {
			if s.taken++; s.taken == 1 {
				p.write([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"))
			}
		}
	})
	s.client.write([]byte(upload))
	s.every(10*time.Second, func() { s.client.write([]byte("1\r\nx\r\n")) })
	s.run(5 * time.Minute)
	s.wants("HTTP/1.1 200 ", 0, 0)
}

// A client that takes its answer by the drop is cut off; one that takes more, or
// all that there is, isn't.
func TestSlowReader(t *testing.T) {
	for _, test := range []struct {
		name     string
		length   int
		pace     int // bytes read every 5 ms
		pause    time.Duration
		from, to time.Duration
	}{
		{"by the drop", 10 << 20, 1, 0, 5 * time.Minute, 11 * time.Minute},
		{"fast enough", 10 << 20, 5, 0, 0, 0},
		{"nothing more to take", 100, 0, 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSnail(t, view.HTTP, nil, func(_ *snail, p *pipe) {
				p.onData = func([]byte) {
					p.write(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", test.length+1))
					p.write(make([]byte, test.length)) // all but the last byte
				}
			})
			s.client.pace = test.pace
			s.client.write([]byte("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
			s.run(9 * time.Minute)
			s.client.pace = 0 // to see the end soon
			s.run(9*time.Minute + 30*time.Second)
			s.wants("HTTP/1.1 200 ", test.from, test.to)
		})
	}
}

// framed is a client that speaks HTTP/2.
type framed struct {
	*snail
	out    bytes.Buffer
	framer *http2.Framer
	resets map[uint32]http2.ErrCode
	status map[uint32]string
	window int            // of the connection, what may still be sent
	own    map[uint32]int // of each stream
}

func newFramed(s *snail) *framed {
	f := &framed{snail: s, resets: map[uint32]http2.ErrCode{}, status: map[uint32]string{}, window: 65535, own: map[uint32]int{}}
	f.framer = http2.NewFramer(&f.out, &f.got)
	f.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.out.WriteString(http2.ClientPreface)
	f.framer.WriteSettings()
	f.flush()
	s.client.onData = func(b []byte) {
		s.got.Write(b)
		f.read()
	}
	return f
}

func (f *framed) flush() {
	f.client.write(bytes.Clone(f.out.Bytes()))
	f.out.Reset()
}

// read takes the frames that are whole.
func (f *framed) read() {
	for b := f.got.Bytes(); len(b) >= 9 && len(b) >= 9+int(b[0])<<16+int(b[1])<<8+int(b[2]); b = f.got.Bytes() {
		frame, err := f.framer.ReadFrame()
		if err != nil {
			f.Fatal(err)
		}
		switch fr := frame.(type) {
		case *http2.MetaHeadersFrame:
			f.status[fr.StreamID] = fr.PseudoValue("status")
		case *http2.RSTStreamFrame:
			f.resets[fr.StreamID] = fr.ErrCode
		case *http2.WindowUpdateFrame:
			if fr.StreamID == 0 {
				f.window += int(fr.Increment)
			} else {
				f.own[fr.StreamID] += int(fr.Increment)
			}
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				f.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !fr.IsAck() {
				f.framer.WritePing(true, fr.Data)
			}
		}
	}
	f.flush()
}

func (f *framed) head(id uint32, fields ...string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSize(0)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	f.own[id] = 65535
	f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true})
	f.flush()
}

// TestSlowBodyHTTP2: the slow stream alone is answered and reset; a gRPC call and
// an extended CONNECT may be as slow as they like.
func TestSlowBodyHTTP2(t *testing.T) {
	s := newSnail(t, view.HTTP2, nil, func(_ *snail, p *pipe) {
		var b bytes.Buffer
		framer := http2.NewFramer(&b, nil)
		framer.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		framer.WriteSettingsAck()
		framer.WriteWindowUpdate(0, 1<<20)
		p.onData = func([]byte) {
			p.write(b.Bytes())
			b.Reset()
		}
	})
	f := newFramed(s)
	s.world.Run(100*time.Millisecond, 100_000, nil)
	f.head(1, ":method", "POST", ":scheme", "http", ":authority", "shop.example", ":path", "/")
	f.head(3, ":method", "POST", ":scheme", "http", ":authority", "shop.example", ":path", "/a.B/C", "content-type", "application/grpc", "te", "trailers")
	f.head(5, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "shop.example", ":path", "/")
	f.head(7, ":method", "POST", ":scheme", "http", ":authority", "shop.example", ":path", "/fast")
	s.every(time.Second, func() {
		for id := uint32(1); id <= 7; id += 2 {
			if _, reset := f.resets[id]; !reset {
				f.framer.WriteData(id, false, make([]byte, 1+int(id)/7*600))
			}
		}
		f.flush()
	})
	s.run(2 * time.Minute)
	if f.status[1] != "408" || f.resets[1] != http2.ErrCodeNo {
		t.Errorf("the slow stream's status is %q, and it was reset with %v", f.status[1], f.resets[1])
	}
	if _, ok := f.resets[1]; !ok || len(f.resets) != 1 || s.ended != 0 {
		t.Errorf("reset: %v, the connection ended at %s; want stream 1 alone", f.resets, s.ended)
	}
}

// TestSlowBodyCramped: streams that the program doesn't read take all of the
// connection's window, and another that could go on can't.
func TestSlowBodyCramped(t *testing.T) {
	const streams = 50
	s := newSnail(t, view.HTTP, nil, func(s *snail, p *pipe) {
		s.taken++
		p.pausing = s.taken <= streams
	})
	f := newFramed(s)
	s.world.Run(100*time.Millisecond, 100_000, nil)
	for i := range uint32(streams) {
		f.head(2*i+1, ":method", "POST", ":scheme", "http", ":authority", "shop.example", ":path", "/")
	}
	for s.world.Now() < 5*time.Second {
		for i := range uint32(streams) {
			if n := min(f.own[2*i+1], f.window, 16<<10); n > 0 {
				f.framer.WriteData(2*i+1, false, make([]byte, n))
				f.own[2*i+1], f.window = f.own[2*i+1]-n, f.window-n
			}
		}
		f.flush()
		s.world.Run(s.world.Now()+50*time.Millisecond, 1_000_000, nil)
	}
	f.head(2*streams+1, ":method", "POST", ":scheme", "http", ":authority", "shop.example", ":path", "/")
	if f.window > 16<<10 {
		t.Fatalf("%d bytes of the connection's window are left: this shows nothing", f.window)
	}
	s.run(2 * time.Minute)
	if len(f.resets) > 0 || len(f.status) > 0 || s.ended != 0 {
		t.Errorf("reset: %v, answered: %v, ended at %s; it isn't the client's doing", f.resets, f.status, s.ended)
	}
}
