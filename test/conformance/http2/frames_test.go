package http2

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h2"
	"tulle.dev/tulle/internal/wire/hpack"
)

// This file is what a client may and may not send, frame by frame: each row is the
// bytes after the preface, and what must come of them. Where RFC 9113 leaves a
// choice, as between an error of the stream and one of the connection, the row
// lists the ways that are right.

// frame is one frame, as given: its length is the payload's.
func frame(t h2.Type, flags h2.Flags, stream uint32, payload ...string) string {
	p := strings.Join(payload, "")
	b := h2.AppendHeader(nil, h2.Header{Length: uint32(len(p)), Type: t, Flags: flags, Stream: stream})
	return string(append(b, p...))
}

// block is a field block of literals that are never in a table. A field is "name:
// value"; of a name that is empty ": value".
func block(fields ...string) string {
	var b []byte
	for _, f := range fields {
		colon := strings.Index(f, ": ") // that of a pseudo-header field has no SP
		if colon < 0 {
			panic("no field: " + f)
		}
		name, value := f[:colon], f[colon+2:]
		b = literal(append(b, 0), name)
		b = literal(b, value)
	}
	return string(b)
}

// literal appends a string without Huffman coding (RFC 7541, 5.2).
func literal(b []byte, s string) []byte {
	n := len(s)
	if n < 127 {
		return append(append(b, byte(n)), s...)
	}
	b = append(b, 127)
	for n -= 127; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(append(b, byte(n)), s...)
}

// Flags.
const (
	none   = h2.Flags(0)
	end    = h2.FlagEndStream
	whole  = h2.FlagEndHeaders
	padded = h2.FlagPadded
	weight = h2.FlagPriority
)

var (
	plain = []string{":method: GET", ":scheme: http", ":path: /", ":authority: a.example"}
	post  = []string{":method: POST", ":scheme: http", ":path: /", ":authority: a.example"}
)

// get and posted begin stream 1; the latter has still to send its body.
func get(more ...string) string { return on(1, more...) }
func on(id uint32, more ...string) string {
	return frame(h2.Headers, whole|end, id, block(append(plain[:4:4], more...)...))
}
func posted(more ...string) string {
	return frame(h2.Headers, whole, 1, block(append(post[:4:4], more...)...))
}

// asks is a request of exactly those fields.
func asks(fields ...string) string { return frame(h2.Headers, whole|end, 1, block(fields...)) }

func settings(id h2.SettingID, v uint32) string {
	return string(h2.AppendSettings(nil, h2.Setting{ID: id, Value: v}))
}

func number(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

// pieces is get in n frames.
func pieces(n int) string {
	b := block(plain...)
	out := frame(h2.Headers, end, 1, b[:len(b)/n])
	for i := 1; i < n; i++ {
		flags := none
		if i == n-1 {
			flags = whole
		}
		out += frame(h2.Continuation, flags, 1, b[i*len(b)/n:(i+1)*len(b)/n])
	}
	return out
}

// begun is a frame of n bytes of which only the header comes.
func begun(n uint32, t h2.Type, stream uint32) string {
	return string(h2.AppendHeader(nil, h2.Header{Length: n, Type: t, Stream: stream}))
}

// The outcomes that rows name.
const (
	answered  = "1: 200"
	alive     = "PING" // what was sent had no effect: the next PING is answered
	malformed = "1: RST_STREAM PROTOCOL_ERROR | 1: 400"
	broken    = "GOAWAY PROTOCOL_ERROR"
	size      = "GOAWAY FRAME_SIZE_ERROR"
	flow      = "GOAWAY FLOW_CONTROL_ERROR"
	codec     = "GOAWAY COMPRESSION_ERROR"
)

// row is what is sent, then, when the proxy has answered that, and what follows.
type row struct {
	name string
	sent string
	want string // one of those, separated by " | "
	then string
	next string
}

var frames = []row{
	{"RFC 9113, 5.1: DATA on an idle stream", frame(h2.Data, end, 1, "x"), broken, "", ""},
	{"RFC 9113, 5.1: RST_STREAM on an idle stream", frame(h2.RSTStream, none, 1, number(8)), broken, "", ""},
	{"RFC 9113, 5.1: WINDOW_UPDATE on an idle stream", frame(h2.WindowUpdate, none, 1, number(1)), broken, "", ""},
	{"RFC 9113, 5.1: WINDOW_UPDATE of 0 on an idle stream", frame(h2.WindowUpdate, none, 1, number(0)), broken, "", ""},
	{"RFC 9113, 5.1: CONTINUATION on an idle stream", frame(h2.Continuation, whole, 1, block(plain...)), broken, "", ""},
	{"RFC 9113, 5.1: DATA on a half-closed stream", get() + frame(h2.Data, end, 1, "x"), "1: RST_STREAM STREAM_CLOSED | GOAWAY STREAM_CLOSED", "", ""},
	{"RFC 9113, 5.1: HEADERS on a half-closed stream", get() + get(), "1: RST_STREAM STREAM_CLOSED | GOAWAY STREAM_CLOSED", "", ""},
	{"RFC 9113, 5.1: WINDOW_UPDATE on a half-closed stream", get() + frame(h2.WindowUpdate, none, 1, number(1)), answered, "", ""},
	{"RFC 9113, 5.1: PRIORITY on a half-closed stream", get() + frame(h2.Priority, none, 1, number(0), "\x10"), answered, "", ""},
	{"RFC 9113, 5.1: DATA on a closed stream", get(), answered, frame(h2.Data, end, 1, "x"), "1: RST_STREAM STREAM_CLOSED | GOAWAY STREAM_CLOSED"},
	{"RFC 9113, 5.1: HEADERS on a closed stream", get(), answered, get(), "1: RST_STREAM STREAM_CLOSED | GOAWAY STREAM_CLOSED"},
	{"RFC 9113, 5.1: RST_STREAM on a closed stream", get(), answered, frame(h2.RSTStream, none, 1, number(8)) + on(3), "3: 200"},
	{"RFC 9113, 5.1: WINDOW_UPDATE on a closed stream", get(), answered, frame(h2.WindowUpdate, none, 1, number(8)) + on(3), "3: 200"},
	{"RFC 9113, 5.1: PRIORITY on a closed stream", get(), answered, frame(h2.Priority, none, 1, number(0), "\x10") + on(3), "3: 200"},
	{"RFC 9113, 5.1: DATA after RST_STREAM", posted() + frame(h2.RSTStream, none, 1, number(8)) + frame(h2.Data, end, 1, "x"), "1: RST_STREAM STREAM_CLOSED | GOAWAY STREAM_CLOSED", "", ""},
	{"RFC 9113, 5.1: HEADERS after RST_STREAM", posted() + frame(h2.RSTStream, none, 1, number(8)) + get(), "1: RST_STREAM STREAM_CLOSED | GOAWAY STREAM_CLOSED", "", ""},
	{"RFC 9113, 5.1.1: a stream of the server's", on(2), broken, "", ""},
	{"RFC 9113, 5.1.1: an identifier below the last", on(5) + on(3), broken + " | GOAWAY STREAM_CLOSED", "", ""},
	{"RFC 9113, 5.1.1: identifiers may be left out", on(7), "7: 200", "", ""},
	{"RFC 9113, 5.5: unknown frames are ignored", frame(0x99, 0xff, 0, "abc") + frame(0x77, 0xff, 1, "x") + get(), answered, "", ""},
	{"RFC 9113, 4.1: unknown flags are ignored", frame(h2.Headers, whole|end|0xd2, 1, block(plain...)), answered, "", ""},
	{"RFC 9113, 4.1: the reserved bit is ignored", frame(h2.Headers, whole|end, 1|1<<31, block(plain...)), answered, "", ""},
	{"RFC 9113, 4.2: DATA that is too long", posted() + frame(h2.Data, end, 1, strings.Repeat("x", h2.MinMaxFrameSize+1)), "1: RST_STREAM FRAME_SIZE_ERROR | " + size, "", ""},
	{"RFC 9113, 4.2: HEADERS that are too long", frame(h2.Headers, whole|end, 1, strings.Repeat("x", h2.MinMaxFrameSize+1)), size, "", ""},
	{"RFC 9113, 4.2: SETTINGS that are too long", frame(h2.Settings, none, 0, strings.Repeat("x", h2.MinMaxFrameSize+2)), size, "", ""},
	{"RFC 9113, 4.2: DATA as long as may be", posted() + frame(h2.Data, end, 1, strings.Repeat("x", h2.MinMaxFrameSize)), answered, "", ""},

	{"RFC 9113, 6.1: DATA on stream 0", frame(h2.Data, none, 0, "x"), broken, "", ""},
	{"RFC 9113, 6.1: padding", posted() + frame(h2.Data, padded|end, 1, "\x02ab\x00\x00"), answered, "", ""},
	{"RFC 9113, 6.1: nothing but padding", posted() + frame(h2.Data, padded|end, 1, "\x02\x00\x00"), answered, "", ""},
	{"RFC 9113, 6.1: as much padding as payload", posted() + frame(h2.Data, padded|end, 1, "\x04ab\x00"), broken, "", ""},
	{"RFC 9113, 6.1: no room for the pad length", posted() + frame(h2.Data, padded|end, 1), size + " | " + broken, "", ""},
	{"RFC 9113, 6.1: empty DATA", posted() + strings.Repeat(frame(h2.Data, none, 1), 8) + frame(h2.Data, end, 1), answered, "", ""},
	{"RFC 9113, 6.2: HEADERS on stream 0", on(0), broken, "", ""},
	{"RFC 9113, 6.2: padding", frame(h2.Headers, whole|end|padded, 1, "\x03", block(plain...), "\x00\x00\x00"), answered, "", ""},
	{"RFC 9113, 6.2: more padding than payload", frame(h2.Headers, whole|end|padded, 1, "\xff", block(plain...)), broken, "", ""},
	{"RFC 9113, 6.2: priority", frame(h2.Headers, whole|end|weight, 1, number(3), "\x10", block(plain...)), answered, "", ""},
	{"RFC 9113, 6.2: no room for the priority", frame(h2.Headers, whole|end|weight, 1, "\x00\x00"), size + " | " + broken, "", ""},
	{"RFC 7540, 5.3.1: HEADERS that depend on themselves", frame(h2.Headers, whole|end|weight, 1, number(1), "\x10", block(plain...)), malformed, "", ""},
	{"RFC 9113, 6.3: PRIORITY on stream 0", frame(h2.Priority, none, 0, number(1), "\x10"), broken, "", ""},
	{"RFC 9113, 6.3: PRIORITY of 4 bytes", posted() + frame(h2.Priority, none, 1, number(0)), "1: RST_STREAM FRAME_SIZE_ERROR", "", ""},
	{"RFC 9113, 6.3 and 6.4: PRIORITY of 4 bytes on an idle stream", frame(h2.Priority, none, 1, number(0)), size, "", ""},
	{"RFC 9113, 6.3: PRIORITY on idle streams", frame(h2.Priority, none, 5, number(3), "\x10") + get(), answered, "", ""},
	{"RFC 9113, 6.4: RST_STREAM on stream 0", frame(h2.RSTStream, none, 0, number(8)), broken, "", ""},
	{"RFC 9113, 6.4: RST_STREAM of 3 bytes", posted() + frame(h2.RSTStream, none, 1, "abc"), size, "", ""},
	{"RFC 9113, 7: RST_STREAM with an unknown code", posted() + frame(h2.RSTStream, none, 1, number(0x999)) + on(3), "3: 200", "", ""},
	{"RFC 9113, 6.5: SETTINGS on a stream", frame(h2.Settings, none, 1), broken, "", ""},
	{"RFC 9113, 6.5: an acknowledgement with a payload", frame(h2.Settings, h2.FlagAck, 0, "\x00\x01\x00\x00\x00\x00"), size, "", ""},
	{"RFC 9113, 6.5: SETTINGS of 5 bytes", frame(h2.Settings, none, 0, "\x00\x01\x00\x00\x00"), size, "", ""},
	{"RFC 9113, 6.5.2: ENABLE_PUSH 2", settings(h2.EnablePush, 2), broken, "", ""},
	{"RFC 9113, 6.5.2: ENABLE_PUSH 1 from a client", settings(h2.EnablePush, 1) + get(), answered, "", ""},
	{"RFC 9113, 6.5.2: INITIAL_WINDOW_SIZE 2^31", settings(h2.InitialWindowSize, 1<<31), flow, "", ""},
	{"RFC 9113, 6.5.2: MAX_FRAME_SIZE 2^14-1", settings(h2.MaxFrameSize, 1<<14-1), broken, "", ""},
	{"RFC 9113, 6.5.2: MAX_FRAME_SIZE 2^24", settings(h2.MaxFrameSize, 1<<24), broken, "", ""},
	{"RFC 9113, 6.5.2: HEADER_TABLE_SIZE 0", settings(h2.HeaderTableSize, 0) + get(), answered, on(3), "3: 200"},
	{"RFC 9113, 6.5.2: unknown settings are ignored", settings(0x99, 7) + get(), answered, "", ""},
	{"RFC 8441, 3: ENABLE_CONNECT_PROTOCOL 2", settings(h2.EnableConnectProtocol, 2), broken, "", ""},
	{"RFC 9113, 6.6: PUSH_PROMISE from a client", frame(h2.PushPromise, whole, 1, number(2), block(plain...)), broken, "", ""},
	{"RFC 9113, 6.7: PING on a stream", frame(h2.Ping, none, 1, "12345678"), broken, "", ""},
	{"RFC 9113, 6.7: PING of 7 bytes", frame(h2.Ping, none, 0, "1234567"), size, "", ""},
	{"RFC 9113, 6.7: an answer to no PING", frame(h2.Ping, h2.FlagAck, 0, "87654321"), alive, "", ""},
	{"RFC 9113, 6.8: GOAWAY on a stream", frame(h2.GoAway, none, 1, number(0), number(0)), broken, "", ""},
	{"RFC 9113, 6.8: GOAWAY of 7 bytes", frame(h2.GoAway, none, 0, "1234567"), size, "", ""},
	{"RFC 9113, 6.8: what is under way is answered after GOAWAY", get() + frame(h2.GoAway, none, 0, number(0), number(0), "bye"), answered, "", ""},
	{"RFC 9113, 7: GOAWAY with an unknown code", get() + frame(h2.GoAway, none, 0, number(0), number(0x999)), answered, "", ""},
	{"RFC 9113, 6.9: WINDOW_UPDATE of 3 bytes", frame(h2.WindowUpdate, none, 0, "abc"), size, "", ""},
	{"RFC 9113, 6.9: WINDOW_UPDATE of 0 on the connection", frame(h2.WindowUpdate, none, 0, number(0)), broken, "", ""},
	{"RFC 9113, 6.9: WINDOW_UPDATE of 0 on a stream", posted() + frame(h2.WindowUpdate, none, 1, number(0)), malformed, "", ""},
	{"RFC 9113, 6.9: the reserved bit is ignored", posted() + frame(h2.WindowUpdate, none, 1, number(1|1<<31)) + frame(h2.Data, end, 1), answered, "", ""},
	{"RFC 9113, 6.9.1: the connection's window above 2^31-1", frame(h2.WindowUpdate, none, 0, number(1<<31-1)), flow, "", ""},
	{"RFC 9113, 6.9.1: a stream's window above 2^31-1", posted() + frame(h2.WindowUpdate, none, 1, number(1<<31-1)), "1: RST_STREAM FLOW_CONTROL_ERROR", "", ""},
	{"RFC 9113, 6.9.2: SETTINGS make a window too large", posted() + frame(h2.WindowUpdate, none, 1, number(1<<30)) + settings(h2.InitialWindowSize, 1<<31-1), flow, "", ""},
	{"RFC 9113, 6.10: CONTINUATION after the end", get() + frame(h2.Continuation, whole, 1), broken, "", ""},
	{"RFC 9113, 6.10: CONTINUATION on stream 0", frame(h2.Headers, end, 1, block(plain...)) + frame(h2.Continuation, whole, 0), broken, "", ""},
	{"RFC 9113, 6.10: CONTINUATION on another stream", frame(h2.Headers, end, 1, block(plain...)) + frame(h2.Continuation, whole, 3), broken, "", ""},
	{"RFC 9113, 6.10: DATA within a block", frame(h2.Headers, none, 1, block(plain...)) + frame(h2.Data, end, 1), broken, "", ""},
	{"RFC 9113, 6.10: PRIORITY within a block", frame(h2.Headers, end, 1, block(plain...)) + frame(h2.Priority, none, 1, number(0), "\x10"), broken, "", ""},
	{"RFC 9113, 6.10: SETTINGS within a block", frame(h2.Headers, end, 1, block(plain...)) + frame(h2.Settings, none, 0), broken, "", ""},
	{"RFC 9113, 6.10: an unknown frame within a block", frame(h2.Headers, end, 1, block(plain...)) + frame(0x99, none, 1), broken, "", ""},
	{"RFC 9113, 6.10: HEADERS within a block", frame(h2.Headers, end, 1, block(plain...)) + on(3), broken, "", ""},
	{"RFC 9113, 6.10: two frames", pieces(2), answered, "", ""},
	{"RFC 9113, 6.10: fifty frames", pieces(50), answered, "", ""},
	{"RFC 9113, 6.10: empty frames", frame(h2.Headers, end, 1) + frame(h2.Continuation, none, 1) + frame(h2.Continuation, none, 1, block(plain...)) + frame(h2.Continuation, whole, 1), answered, "", ""},

	{"RFC 9113, 5.1: what follows empty DATA on a closed stream", get(), answered, frame(h2.Data, none, 1) + on(3), "3: 200"},
	{"RFC 9113, 5.1: what follows empty DATA on a half-closed stream", get() + frame(h2.Data, none, 1) + on(3), "3: 200", "", ""},
	{"RFC 9113, 5.1: a stream is reset once", posted("connection: x"), "1: RST_STREAM PROTOCOL_ERROR", frame(h2.WindowUpdate, none, 1, number(0)) + on(3), "1: no second | 3: 200"},
	{"RFC 9113, 4.2: PING of a wrong size, seen in its header", begun(4096, h2.Ping, 0), size, "", ""},
	{"RFC 9113, 4.2: GOAWAY of a wrong size, seen in its header", begun(7, h2.GoAway, 0), size, "", ""},
	{"RFC 9113, 4.2: RST_STREAM of a wrong size, seen in its header", posted() + begun(4096, h2.RSTStream, 1), size, "", ""},
	{"RFC 9113, 4.2: SETTINGS of a wrong size, seen in its header", begun(4096, h2.Settings, 0), size, "", ""},
	{"RFC 9113, 4.2: WINDOW_UPDATE of a wrong size, seen in its header", begun(4096, h2.WindowUpdate, 0), size, "", ""},
	{"RFC 9113, 5.4.1: PING on a stream, seen in its header", begun(4096, h2.Ping, 1), broken, "", ""},
	{"RFC 9113, 5.4.1: HEADERS on stream 0, seen in the header", begun(4096, h2.Headers, 0), broken, "", ""},
	{"RFC 9113, 5.4.1: PUSH_PROMISE, seen in its header", begun(4096, h2.PushPromise, 1), broken, "", ""},
	{"RFC 9113, 5.4.1: CONTINUATION of nothing, seen in its header", begun(4096, h2.Continuation, 1), broken, "", ""},
	{"RFC 9113, 5.4.1: a frame within a block, seen in its header", frame(h2.Headers, end, 1, block(plain...)) + begun(4096, h2.Data, 1), broken, "", ""},

	{"RFC 7541, 6.1: index 0", frame(h2.Headers, whole|end, 1, "\x80"), codec, "", ""},
	{"RFC 7541, 2.3.3: an index beyond the tables", frame(h2.Headers, whole|end, 1, "\xfe"), codec, "", ""},
	{"RFC 7541, 5.1: an integer without an end", frame(h2.Headers, whole|end, 1, "\xff\xff\xff\xff\xff\xff\xff\xff"), codec, "", ""},
	{"RFC 7541, 5.2: a string that is cut", frame(h2.Headers, whole|end, 1, "\x40\x05ab"), codec, "", ""},
	{"RFC 7541, 5.2: Huffman padding of zeros", frame(h2.Headers, whole|end, 1, block(plain...), "\x00\x01x\x81\x18"), codec, "", ""},
	{"RFC 7541, 5.2: Huffman padding of 8 bits and more", frame(h2.Headers, whole|end, 1, block(plain...), "\x00\x01x\x82\x1f\xff"), codec, "", ""},
	{"RFC 7541, 5.2: EOS", frame(h2.Headers, whole|end, 1, block(plain...), "\x00\x01x\x84\xff\xff\xff\xff"), codec, "", ""},
	{"RFC 7541, 4.2: a table size update after a field", frame(h2.Headers, whole|end, 1, block(plain...), "\x20"), codec, "", ""},
	{"RFC 7541, 6.3: a table size above SETTINGS_HEADER_TABLE_SIZE", frame(h2.Headers, whole|end, 1, "\x3f\xe2\x1f", block(plain...)), codec, "", ""},
	{"RFC 7541, 4.2: two table size updates", frame(h2.Headers, whole|end, 1, "\x20\x3f\xe1\x1f", block(plain...)), answered, "", ""},
	{"RFC 9113, 4.3: a bad block on a stream that was reset", posted() + frame(h2.RSTStream, none, 1, number(8)) + frame(h2.Headers, whole|end, 1, "\x80"), codec, "", ""},
	{"RFC 9218, 7.1: PRIORITY_UPDATE is ignored", frame(0x10, none, 0, number(1), "u=1") + get("priority: u=1, i"), answered, "", ""},
}

func TestFrames(t *testing.T) {
	server, _ := recorder(t)
	addr := start(t, server, view.HTTP)
	for _, rows := range [][]row{frames, messages} {
		for _, r := range rows {
			if err := r.check(t, addr); err != nil {
				t.Errorf("%s: %v", r.name, err)
			}
		}
	}
}

// check sends the row on a connection of its own.
func (r row) check(t *testing.T, addr string) error {
	t.Helper()
	c := &peer{}
	var err error
	if c.conn, err = net.DialTimeout("tcp", addr, wait); err != nil {
		return err
	}
	defer c.conn.Close()
	c.conn.SetDeadline(time.Now().Add(wait))
	c.send(h2.Preface, frame(h2.Settings, none, 0), r.sent)
	if err := c.until(r.want); err != nil || r.then == "" {
		return err
	}
	c.send(r.then)
	return c.until(r.next)
}

// peer is a client that reads frames.
type peer struct {
	conn    net.Conn
	in      []byte
	decoder hpack.Decoder
	reader  hpack.Reader
	seen    []string
	fields  []string // of the last head
}

// send writes; that the other end may have closed meanwhile shows when reading.
func (c *peer) send(s ...string) { c.conn.Write([]byte(strings.Join(s, ""))) }

// until reads until one of the wanted things has happened, or what makes them
// impossible.
func (c *peer) until(want string) error {
	all := strings.Split(want, " | ")
	if want == alive {
		c.send(frame(h2.Ping, none, 0, "01234567"))
	}
	buf := make([]byte, 32<<10)
	for {
		for {
			f, n, _ := h2.Cut(c.in, h2.MaxMaxFrameSize)
			if n == 0 {
				break
			}
			c.in = c.in[n:]
			got := c.take(f)
			if got == "" {
				continue
			}
			c.seen = append(c.seen, got)
			for _, w := range all {
				if got == w {
					return nil
				}
			}
			if strings.HasPrefix(got, "GOAWAY") || strings.HasPrefix(got, all[0][:2]) && got[1] == ':' {
				return fmt.Errorf("%q, want %q", c.seen, want)
			}
		}
		n, err := c.conn.Read(buf)
		c.in = append(c.in, buf[:n]...)
		if err != nil && n == 0 {
			return fmt.Errorf("%q, then %v; want %q", c.seen, err, want)
		}
	}
}

// take says what a frame means; what is of no interest is empty.
func (c *peer) take(f h2.Frame) string {
	switch f.Type {
	case h2.Settings:
		if !f.Flags.Has(h2.FlagAck) {
			c.send(frame(h2.Settings, h2.FlagAck, 0))
		}
	case h2.Headers:
		status := "trailers"
		c.fields = c.fields[:0]
		c.reader.Reset(&c.decoder, f.Payload)
		for {
			var field hpack.Field
			ok, err := c.reader.Next(&field)
			if err != nil {
				return err.Error()
			}
			if !ok {
				break
			}
			c.fields = append(c.fields, string(field.Name)+": "+string(field.Value))
			if string(field.Name) == ":status" {
				status = string(field.Value)
			}
		}
		return fmt.Sprintf("%d: %s", f.Stream, status)
	case h2.RSTStream:
		code, _ := h2.ParseRSTStream(f)
		return fmt.Sprintf("%d: RST_STREAM %s", f.Stream, code)
	case h2.GoAway:
		g, _ := h2.ParseGoAway(f)
		return "GOAWAY " + g.Code.String()
	case h2.Ping:
		return alive
	}
	return ""
}
