package h2

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// frame builds one from its parts.
func frame(t Type, flags Flags, stream uint32, payload string) Frame {
	return Frame{Header{uint32(len(payload)), t, flags, stream}, []byte(payload)}
}

func conn(c Code) error { return ConnectionError{Code: c} }

func stream(id uint32, c Code) error { return StreamError{Stream: id, Code: c} }

// same compares errors without their reasons.
func same(got, want error) bool {
	var gc, wc ConnectionError
	var gs, ws StreamError
	switch {
	case want == nil:
		return got == nil
	case errors.As(want, &wc):
		return errors.As(got, &gc) && gc.Code == wc.Code && gc.Reason != ""
	case errors.As(want, &ws):
		return errors.As(got, &gs) && gs.Code == ws.Code && gs.Stream == ws.Stream && gs.Reason != ""
	}
	return false
}

// parse runs the Parse function of the frame's type and renders the result.
func parse(f Frame) (string, error) {
	switch f.Type {
	case Data:
		d, end, err := ParseData(f)
		return fmt.Sprintf("%q end=%t", d, end), err
	case Headers:
		h, err := ParseHeaders(f)
		return fmt.Sprintf("%q stream=%t headers=%t self=%t", h.Fragment, h.EndStream, h.EndHeaders, h.SelfDependent), err
	case Continuation:
		b, end, err := ParseContinuation(f)
		return fmt.Sprintf("%q headers=%t", b, end), err
	case PushPromise:
		p, err := ParsePushPromise(f)
		return fmt.Sprintf("%d %q headers=%t", p.Promised, p.Fragment, p.EndHeaders), err
	case Priority:
		return "", ParsePriority(f)
	case RSTStream:
		c, err := ParseRSTStream(f)
		return c.String(), err
	case Settings:
		l, ack, err := ParseSettings(f)
		var s strings.Builder
		fmt.Fprintf(&s, "ack=%t", ack)
		for i := range l.Len() {
			fmt.Fprintf(&s, " %d=%d", l.At(i).ID, l.At(i).Value)
		}
		return s.String(), err
	case Ping:
		d, ack, err := ParsePing(f)
		return fmt.Sprintf("%q ack=%t", d[:], ack), err
	case GoAway:
		g, err := ParseGoAway(f)
		return fmt.Sprintf("%d %v %q", g.LastStream, g.Code, g.Debug), err
	case WindowUpdate:
		n, err := ParseWindowUpdate(f)
		return fmt.Sprint(n), err
	}
	return "", nil
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name string
		f    Frame
		want string
		err  error
	}{
		{"data", frame(Data, 0, 1, "abc"), `"abc" end=false`, nil},
		{"data empty end", frame(Data, FlagEndStream, 1, ""), `"" end=true`, nil},
		{"data padded", frame(Data, FlagPadded, 1, "\x02abc\x00\x00"), `"abc" end=false`, nil},
		{"data all padding", frame(Data, FlagPadded, 1, "\x02\x00\x00"), `"" end=false`, nil},
		{"data too much padding", frame(Data, FlagPadded, 1, "\x03\x00\x00"), "", conn(ProtocolError)},
		{"data no pad length", frame(Data, FlagPadded, 1, ""), "", conn(FrameSizeError)},
		{"data stream 0", frame(Data, 0, 0, "abc"), "", conn(ProtocolError)},

		{"headers", frame(Headers, FlagEndHeaders|FlagEndStream, 1, "xy"), `"xy" stream=true headers=true self=false`, nil},
		{"headers priority", frame(Headers, FlagPriority, 1, "\x00\x00\x00\x03\x10xy"), `"xy" stream=false headers=false self=false`, nil},
		{"headers self", frame(Headers, FlagPriority, 1, "\x80\x00\x00\x01\x10xy"), `"xy" stream=false headers=false self=true`, nil},
		{"headers padded priority", frame(Headers, FlagPriority|FlagPadded, 1, "\x01\x00\x00\x00\x03\x10xy\x00"), `"xy" stream=false headers=false self=false`, nil},
		{"headers short priority", frame(Headers, FlagPriority, 1, "\x00\x00\x00\x03"), "", conn(FrameSizeError)},
		{"headers too much padding", frame(Headers, FlagPadded, 1, "\x05xy"), "", conn(ProtocolError)},
		{"headers stream 0", frame(Headers, 0, 0, "xy"), "", conn(ProtocolError)},
		{"continuation", frame(Continuation, FlagEndHeaders, 1, "xy"), `"xy" headers=true`, nil},
		{"continuation stream 0", frame(Continuation, 0, 0, "xy"), "", conn(ProtocolError)},
		{"push", frame(PushPromise, FlagEndHeaders|FlagPadded, 1, "\x01\x80\x00\x00\x02xy\x00"), `2 "xy" headers=true`, nil},
		{"push short", frame(PushPromise, 0, 1, "\x00\x00\x00"), "", conn(FrameSizeError)},
		{"push of 0", frame(PushPromise, 0, 1, "\x80\x00\x00\x00"), "", conn(ProtocolError)},
		{"push stream 0", frame(PushPromise, 0, 0, "\x00\x00\x00\x02"), "", conn(ProtocolError)},

		{"priority", frame(Priority, 0, 1, "\x00\x00\x00\x03\x10"), "", nil},
		{"priority self", frame(Priority, 0, 3, "\x80\x00\x00\x03\x10"), "", stream(3, ProtocolError)},
		{"priority short", frame(Priority, 0, 3, "\x80\x00\x00\x03"), "", stream(3, FrameSizeError)},
		{"priority long", frame(Priority, 0, 3, "\x80\x00\x00\x01\x10\x00"), "", stream(3, FrameSizeError)},
		{"priority stream 0", frame(Priority, 0, 0, "\x00\x00\x00\x03\x10"), "", conn(ProtocolError)},
		{"reset", frame(RSTStream, 0xff, 1, "\x00\x00\x00\x08"), "CANCEL", nil},
		{"reset unknown code", frame(RSTStream, 0, 1, "\x00\x00\x01\x08"), "0x108", nil},
		{"reset short", frame(RSTStream, 0, 1, "\x00\x00\x08"), "", conn(FrameSizeError)},
		{"reset stream 0", frame(RSTStream, 0, 0, "\x00\x00\x00\x08"), "", conn(ProtocolError)},

		{"settings", frame(Settings, 0, 0, "\x00\x03\x00\x00\x00\x64\x12\x34\xff\xff\xff\xff"), "ack=false 3=100 4660=4294967295", nil},
		{"settings empty", frame(Settings, 0, 0, ""), "ack=false", nil},
		{"settings ack", frame(Settings, FlagAck, 0, ""), "ack=true", nil},
		{"settings ack with payload", frame(Settings, FlagAck, 0, "\x00\x03\x00\x00\x00\x64"), "", conn(FrameSizeError)},
		{"settings length", frame(Settings, 0, 0, "\x00\x03\x00\x00\x00"), "", conn(FrameSizeError)},
		{"settings stream 1", frame(Settings, 0, 1, ""), "", conn(ProtocolError)},

		{"ping", frame(Ping, 0, 0, "01234567"), `"01234567" ack=false`, nil},
		{"ping ack", frame(Ping, FlagAck, 0, "01234567"), `"01234567" ack=true`, nil},
		{"ping short", frame(Ping, 0, 0, "0123456"), "", conn(FrameSizeError)},
		{"ping long", frame(Ping, 0, 0, "012345678"), "", conn(FrameSizeError)},
		{"ping stream 1", frame(Ping, 0, 1, "01234567"), "", conn(ProtocolError)},
		{"goaway", frame(GoAway, 0, 0, "\x80\x00\x00\x05\x00\x00\x00\x0bcalm"), `5 ENHANCE_YOUR_CALM "calm"`, nil},
		{"goaway short", frame(GoAway, 0, 0, "\x80\x00\x00\x05\x00\x00\x00"), "", conn(FrameSizeError)},
		{"goaway stream 1", frame(GoAway, 0, 1, "\x80\x00\x00\x05\x00\x00\x00\x0b"), "", conn(ProtocolError)},
		{"window", frame(WindowUpdate, 0, 0, "\xff\xff\xff\xff"), "2147483647", nil},
		{"window 0 of stream", frame(WindowUpdate, 0, 7, "\x80\x00\x00\x00"), "", stream(7, ProtocolError)},
		{"window 0 of connection", frame(WindowUpdate, 0, 0, "\x00\x00\x00\x00"), "", conn(ProtocolError)},
		{"window short", frame(WindowUpdate, 0, 7, "\x00\x00\x00"), "", conn(FrameSizeError)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parse(c.f)
			if !same(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestSettingCheck(t *testing.T) {
	for _, c := range []struct {
		s          Setting
		fromServer bool
		err        error
	}{
		{Setting{HeaderTableSize, 1<<32 - 1}, false, nil},
		{Setting{EnablePush, 1}, false, nil},
		{Setting{EnablePush, 0}, true, nil},
		{Setting{EnablePush, 1}, true, conn(ProtocolError)},
		{Setting{EnablePush, 2}, false, conn(ProtocolError)},
		{Setting{MaxConcurrentStreams, 0}, false, nil},
		{Setting{InitialWindowSize, MaxWindow}, false, nil},
		{Setting{InitialWindowSize, MaxWindow + 1}, false, conn(FlowControlError)},
		{Setting{MaxFrameSize, 0}, true, conn(ProtocolError)}, // CVE-2026-33814: a client looped on 0
		{Setting{MaxFrameSize, MinMaxFrameSize - 1}, false, conn(ProtocolError)},
		{Setting{MaxFrameSize, MinMaxFrameSize}, false, nil},
		{Setting{MaxFrameSize, MaxMaxFrameSize}, false, nil},
		{Setting{MaxFrameSize, MaxMaxFrameSize + 1}, false, conn(ProtocolError)},
		{Setting{EnableConnectProtocol, 1}, true, nil},
		{Setting{EnableConnectProtocol, 2}, true, conn(ProtocolError)},
		{Setting{0xfff, 7}, true, nil},
	} {
		if err := c.s.Check(c.fromServer); !same(err, c.err) {
			t.Errorf("%+v from server %t: %v, want %v", c.s, c.fromServer, err, c.err)
		}
	}
}

func TestCut(t *testing.T) {
	whole := AppendPing(nil, false, [8]byte{1, 2, 3})
	for i := range whole {
		if _, n, err := Cut(whole[:i], MinMaxFrameSize); n != 0 || err != nil {
			t.Fatalf("%d bytes: n %d, err %v", i, n, err)
		}
	}
	f, n, err := Cut(append(whole, "rest"...), MinMaxFrameSize)
	if err != nil || n != len(whole) || f.Type != Ping || len(f.Payload) != 8 {
		t.Fatalf("got %+v, %d, %v", f, n, err)
	}
	long := AppendHeader(nil, Header{MinMaxFrameSize + 1, Data, 0, 1})
	if _, _, err := Cut(long, MinMaxFrameSize); !same(err, conn(FrameSizeError)) {
		t.Errorf("long frame: %v", err)
	}
	if h := ParseHeader([]byte("\x00\x00\x00\x08\x00\xff\xff\xff\xff")); h.Stream != MaxStream {
		t.Errorf("reserved bit kept: %d", h.Stream)
	}
}

// What Append writes, Cut and Parse read back.
func TestAppend(t *testing.T) {
	var b []byte
	b = AppendSettings(b, Setting{MaxFrameSize, 20000}, Setting{EnableConnectProtocol, 1})
	b = AppendSettingsAck(b)
	b = AppendHeaders(b, 1, true, []byte("block"), MinMaxFrameSize)
	b = AppendData(b, 1, true, []byte("body"))
	b = AppendRSTStream(b, 3, Cancel)
	b = AppendPing(b, true, [8]byte([]byte("01234567")))
	b = AppendWindowUpdate(b, 5, 77)
	b = AppendGoAway(b, 9, EnhanceYourCalm, "calm")
	var got []string
	for len(b) > 0 {
		f, n, err := Cut(b, MinMaxFrameSize)
		if n == 0 || err != nil {
			t.Fatal(n, err)
		}
		s, err := parse(f)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%v %d %s", f.Type, f.Stream, s))
		b = b[n:]
	}
	want := []string{
		"SETTINGS 0 ack=false 5=20000 8=1",
		"SETTINGS 0 ack=true",
		`HEADERS 1 "block" stream=true headers=true self=false`,
		`DATA 1 "body" end=true`,
		"RST_STREAM 3 CANCEL",
		`PING 0 "01234567" ack=true`,
		"WINDOW_UPDATE 5 77",
		`GOAWAY 0 9 ENHANCE_YOUR_CALM "calm"`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestHeadersCut(t *testing.T) {
	const maxFrame = 7
	for n := range 30 {
		block := []byte("abcdefghijklmnopqrstuvwxyz0123456789")[:n]
		out := AppendHeaders([]byte("before"), 5, n%2 == 0, block, maxFrame)
		if !bytes.HasPrefix(out, []byte("before")) {
			t.Fatalf("%q", out)
		}
		out = out[len("before"):]
		var joined []byte
		for i := 0; len(out) > 0; i++ {
			f, k, err := Cut(out, maxFrame)
			if k == 0 || err != nil {
				t.Fatal(n, k, err)
			}
			want := Continuation
			if i == 0 {
				want = Headers
				if f.Flags.Has(FlagEndStream) != (n%2 == 0) {
					t.Fatalf("%d: flags %x", n, f.Flags)
				}
			}
			out = out[k:]
			if f.Type != want || f.Stream != 5 || f.Flags.Has(FlagEndHeaders) != (len(out) == 0) {
				t.Fatalf("%d: frame %d is %+v", n, i, f.Header)
			}
			joined = append(joined, f.Payload...)
		}
		if !bytes.Equal(joined, block) {
			t.Fatalf("%d: %q", n, joined)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Preface))
	f.Add(AppendSettings(nil, Setting{MaxFrameSize, 0}))
	f.Add(AppendHeaders(nil, 1, true, []byte("\x82\x84\x86\x41\x01a"), MinMaxFrameSize))
	for typ := range 256 {
		f.Add(AppendHeader(nil, Header{0, Type(typ), 0xff, 1}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			fr, n, err := Cut(b, MinMaxFrameSize)
			if err != nil || n == 0 {
				return
			}
			if n != HeaderLen+len(fr.Payload) {
				t.Fatalf("n %d, payload %d", n, len(fr.Payload))
			}
			_, err = parse(fr)
			var c ConnectionError
			var s StreamError
			if err != nil && !errors.As(err, &c) && !errors.As(err, &s) {
				t.Fatalf("untyped error %v", err)
			}
			if errors.As(err, &s) && (s.Stream == 0 || s.Stream != fr.Stream) {
				t.Fatalf("%v for frame on %d", err, fr.Stream)
			}
			b = b[n:]
		}
	})
}

func TestNoAllocations(t *testing.T) {
	in := AppendHeaders(nil, 1, false, []byte("block"), MinMaxFrameSize)
	in = AppendData(in, 1, true, []byte("body"))
	in = AppendWindowUpdate(in, 1, 4)
	in = AppendPing(in, false, [8]byte{})
	in = AppendSettings(in, Setting{MaxFrameSize, MinMaxFrameSize})
	out := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		out = out[:0]
		for b := in; len(b) > 0; {
			f, n, _ := Cut(b, MinMaxFrameSize)
			b = b[n:]
			switch f.Type {
			case Headers:
				h, _ := ParseHeaders(f)
				out = AppendHeaders(out, 1, h.EndStream, h.Fragment, MinMaxFrameSize)
			case Data:
				d, end, _ := ParseData(f)
				out = AppendData(out, 1, end, d)
			case Ping:
				d, _, _ := ParsePing(f)
				out = AppendPing(out, true, d)
			case Settings:
				l, _, _ := ParseSettings(f)
				if l.At(0).Check(false) != nil {
					t.Fatal("setting")
				}
				out = AppendSettings(out, Setting{MaxFrameSize, MinMaxFrameSize})
			case WindowUpdate:
				n, _ := ParseWindowUpdate(f)
				out = AppendWindowUpdate(out, 1, n)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
