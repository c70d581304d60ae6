package h2

import (
	"fmt"
	"strings"
	"testing"
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
	"tulle.dev/tulle/internal/wire/hpack"
)

// testConfig has small windows, so that tests fill them.
func testConfig(server bool) *Config {
	return &Config{Server: server, MaxStreams: 10, StreamWindow: wire.InitialWindow, ConnWindow: 2 * wire.InitialWindow, ConnectProtocol: true,
		StallTime: StallTime, StallBytes: StallBytes}
}

// rig is one engine and, by hand, its peer: what the peer sends is written as
// frames, what the engine does is a list of lines.
type rig struct {
	t       testing.TB
	env     *Env
	c       *Conn
	enc     hpack.Encoder // the peer's
	dec     hpack.Decoder
	reader  hpack.Reader
	in      []byte
	log     []string
	streams map[uint32]*Stream
	keep    bool // don't consume bodies
}

// newRig makes an engine that has seen the peer's preface and SETTINGS.
func newRig(t testing.TB, server bool) *rig { return newRigConfig(t, testConfig(server)) }

func newRigConfig(t testing.TB, cfg *Config) *rig {
	r := bareRig(t, cfg)
	if cfg.Server {
		r.in = append(r.in, wire.Preface...)
	}
	r.in = wire.AppendSettings(r.in)
	r.in = wire.AppendSettingsAck(r.in)
	r.turn()
	r.log = nil
	return r
}

func bareRig(t testing.TB, cfg *Config) *rig {
	r := &rig{t: t, env: new(Env), c: new(Conn), streams: map[uint32]*Stream{}}
	r.env.Now = time.Hour
	r.c.Init(r.env, cfg)
	return r
}

func (r *rig) say(format string, args ...any) { r.log = append(r.log, fmt.Sprintf(format, args...)) }

// headers adds a HEADERS frame of fields given as "name: value".
func (r *rig) headers(id uint32, end bool, fields ...string) {
	r.in = wire.AppendHeaders(r.in, id, end, r.block(fields...), wire.MinMaxFrameSize)
}

func (r *rig) block(fields ...string) []byte {
	b := r.enc.Begin(nil)
	for _, f := range fields {
		i := strings.Index(f[1:], ": ") + 1
		b = r.enc.Append(b, []byte(f[:i]), []byte(f[i+2:]), false)
	}
	return b
}

// frame adds any frame.
func (r *rig) frame(t wire.Type, flags wire.Flags, id uint32, payload string) {
	r.in = append(wire.AppendHeader(r.in, wire.Header{Length: uint32(len(payload)), Type: t, Flags: flags, Stream: id}), payload...)
}

func (r *rig) data(id uint32, end bool, s string) { r.in = wire.AppendData(r.in, id, end, []byte(s)) }

// get adds a GET request.
func (r *rig) get(id uint32) {
	r.headers(id, true, ":method: GET", ":scheme: http", ":path: /", ":authority: a")
}

// post adds the head of a POST request.
func (r *rig) post(id uint32, more ...string) {
	r.headers(id, false, append([]string{":method: POST", ":scheme: http", ":path: /", ":authority: a"}, more...)...)
}

// turn feeds what was added, notes the events, and then what the engine sends.
func (r *rig) turn() []string {
	r.log = nil
	for {
		n, ev := r.c.Feed(r.in)
		r.event(ev)
		r.in = r.in[n:]
		if n == 0 && ev.Kind == None {
			break
		}
	}
	return r.rest()
}

// rest polls and flushes.
func (r *rig) rest() []string {
	for {
		ev := r.c.Poll()
		if ev.Kind == None {
			break
		}
		r.event(ev)
	}
	r.sent(r.c.Flush(MaxOutput))
	r.c.Flushed()
	r.c.Unsent(0)
	return r.log
}

func (r *rig) event(ev *Event) {
	end := ""
	if ev.End {
		end = " end"
	}
	switch ev.Kind {
	case None, Rejected:
	case Request:
		r.streams[ev.Stream.ID] = ev.Stream
		h := ev.Head
		r.say("request %d %s %s://%s%s%s%s%s", ev.Stream.ID, h.Method, h.Scheme, h.Authority, h.Path, prefixed(" ", string(h.Protocol)), fieldsOf(h), end)
		r.env.PutHead(h)
	case Response:
		r.say("response %d %d%s%s", ev.Stream.ID, ev.Head.Status, fieldsOf(ev.Head), end)
		r.env.PutHead(ev.Head)
	case Trailers:
		r.say("trailers %d%s", ev.Stream.ID, fieldsOf(ev.Head))
		r.env.PutHead(ev.Head)
	case Body:
		r.say("body %d %s%s", ev.Stream.ID, short(ev.Data), end)
		if !r.keep {
			r.c.Consumed(ev.Stream, len(ev.Data))
		}
	case Reset:
		r.say("reset %d %v", ev.Stream.ID, ev.Code)
	case Writable:
		r.say("writable %d", ev.Stream.ID)
	case Capacity:
		r.say("capacity")
	case Draining:
		r.say("draining")
	case Closed:
		r.say("closed %v", r.c.Err())
	}
}

func prefixed(p, s string) string {
	if s == "" {
		return ""
	}
	return p + s
}

func fieldsOf(h *Head) string {
	var b strings.Builder
	for _, f := range h.Fields {
		fmt.Fprintf(&b, " %s=%s", f.Name, short(f.Value))
	}
	if h.Length >= 0 {
		fmt.Fprintf(&b, " length=%d", h.Length)
	}
	if h.TETrailers {
		b.WriteString(" te")
	}
	return b.String()
}

// short writes long data as its length.
func short(p []byte) string {
	if len(p) > 40 {
		return fmt.Sprintf("(%d)", len(p))
	}
	return string(p)
}

// sent notes the frames in what the engine sends; they must be whole.
func (r *rig) sent(b []byte) {
	for len(b) > 0 {
		if !r.c.cfg.Server && strings.HasPrefix(string(b), wire.Preface) {
			b = b[len(wire.Preface):]
			continue
		}
		f, n, err := wire.Cut(b, wire.MinMaxFrameSize)
		if n == 0 || err != nil {
			r.t.Fatalf("engine sent half a frame, or a wrong one: %v, %q", err, b)
		}
		b = b[n:]
		end := ""
		if f.Flags.Has(wire.FlagEndStream) && (f.Type == wire.Headers || f.Type == wire.Data) {
			end = " end"
		}
		switch f.Type {
		case wire.Headers, wire.Continuation:
			r.reader.Reset(&r.dec, f.Payload)
			var fields []string
			var hf hpack.Field
			for {
				ok, err := r.reader.Next(&hf)
				if err != nil {
					r.t.Fatal(err)
				}
				if !ok {
					break
				}
				fields = append(fields, fmt.Sprintf("%s=%s", hf.Name, hf.Value))
			}
			r.say("> %v %d %s%s", f.Type, f.Stream, strings.Join(fields, " "), end)
		case wire.Data:
			r.say("> DATA %d %s%s", f.Stream, short(f.Payload), end)
		case wire.RSTStream:
			c, _ := wire.ParseRSTStream(f)
			r.say("> RST_STREAM %d %v", f.Stream, c)
		case wire.GoAway:
			g, _ := wire.ParseGoAway(f)
			r.say("> GOAWAY %d %v %s", g.LastStream, g.Code, g.Debug)
		case wire.WindowUpdate:
			n, _ := wire.ParseWindowUpdate(f)
			r.say("> WINDOW_UPDATE %d %d", f.Stream, n)
		case wire.Ping:
			p, ack, _ := wire.ParsePing(f)
			r.say("> PING %s ack=%t", strings.TrimRight(string(p[:]), "\x00"), ack)
		case wire.Settings:
			l, ack, _ := wire.ParseSettings(f)
			s := ""
			for i := range l.Len() {
				s += fmt.Sprintf(" %d=%d", l.At(i).ID, l.At(i).Value)
			}
			r.say("> SETTINGS ack=%t%s", ack, s)
		default:
			r.say("> %v %d", f.Type, f.Stream)
		}
	}
}

// respond answers with a status and perhaps a body.
func (r *rig) respond(id uint32, status int, body string, fields ...string) {
	s := r.streams[id]
	r.c.BeginResponse(s, status)
	for _, f := range fields {
		i := strings.Index(f, ": ")
		r.c.Field([]byte(f[:i]), []byte(f[i+2:]), false)
	}
	r.c.EndHead(s, body == "")
	if body != "" {
		r.c.Write(s, []byte(body), true)
	}
}

// open opens a stream as a client.
func (r *rig) open(method string, end bool) *Stream {
	s := r.c.Open([]byte(method), []byte("http"), []byte("a"), []byte("/"), nil)
	if s == nil {
		r.t.Fatal("no stream can be opened")
	}
	r.c.EndHead(s, end)
	r.streams[s.ID] = s
	return s
}
