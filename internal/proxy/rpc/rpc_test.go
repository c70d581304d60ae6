package rpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/proxy/rpc"
	"tulle.dev/tulle/internal/wire/h2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// raw is a grpc-go codec of opaque bytes.
type raw struct{}

func (raw) Name() string { return "proto" }
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}
func (raw) Unmarshal(b mem.BufferSlice, v any) error {
	*v.(*[]byte) = b.Materialize()
	return nil
}

// serve runs a grpc-go server with one handler for all methods.
func serve(t *testing.T, handler func(method string, s grpc.ServerStream) error, opts ...grpc.ServerOption) *rpc.Conn {
	t.Helper()
	https := httptest.NewUnstartedServer(nil) // only for its certificate
	https.StartTLS()
	certificates := https.TLS.Certificates
	https.Close()
	opts = append(opts,
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: certificates, NextProtos: []string{"h2"}})),
		grpc.ForceServerCodecV2(raw{}),
		grpc.MaxRecvMsgSize(32<<20), grpc.MaxSendMsgSize(32<<20),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(s)
			return handler(method, s)
		}))
	server := grpc.NewServer(opts...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := rpc.NewConn(conn, rpc.Options{Authority: "control", Agent: "tulle-proxy/test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// echo answers every message with itself.
func echo(_ string, s grpc.ServerStream) error {
	for {
		var b []byte
		if err := s.RecvMsg(&b); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(&b); err != nil {
			return err
		}
	}
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestCall(t *testing.T) {
	c := serve(t, echo)
	for _, size := range []int{0, 1, 5, 16 << 10, 70 << 10, 3 << 20} {
		want := bytes.Repeat([]byte("a"), size)
		got, err := c.Call(deadline(t), "/tulle.Test/Echo", want)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
}

func TestCallStatus(t *testing.T) {
	c := serve(t, func(method string, s grpc.ServerStream) error {
		switch method {
		case "/t/denied":
			return status.Error(codes.PermissionDenied, "not you: 100 % sure — ü\n")
		case "/t/late":
			<-s.Context().Done()
			return s.Context().Err()
		case "/t/two":
			b := []byte("x")
			return errors.Join(s.SendMsg(&b), s.SendMsg(&b))
		}
		return nil
	})
	_, err := c.Call(deadline(t), "/t/denied", []byte("hello"))
	if e, ok := errors.AsType[*rpc.StatusError](err); !ok || e.Code != rpc.PermissionDenied || e.Message != "not you: 100 % sure — ü\n" {
		t.Errorf("denied: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Call(ctx, "/t/late", nil); !isTimeout(err) {
		t.Errorf("late: %v, want a deadline", err)
	}
	for _, method := range []string{"/t/two", "/t/none"} {
		_, err := c.Call(deadline(t), method, nil)
		if e, ok := errors.AsType[*rpc.StatusError](err); !ok || e.Code != rpc.Internal {
			t.Errorf("%s: %v, want internal", method, err)
		}
	}
	// The connection still works.
	if _, err := c.Call(deadline(t), "/t/denied", nil); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("afterwards: %v", err)
	}
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[*rpc.StatusError](err)
	return ok && (e.Code == rpc.DeadlineExceeded || e.Code == rpc.Canceled)
}

func TestStream(t *testing.T) {
	c := serve(t, echo, grpc.InitialWindowSize(64<<10), grpc.InitialConnWindowSize(64<<10))
	s, err := c.Stream(deadline(t), "/tulle.Test/Chat")
	if err != nil {
		t.Fatal(err)
	}
	// More than every window, sent while nothing is received.
	const messages = 200
	sent := make(chan error, 1)
	go func() {
		for i := range messages {
			if err := s.Send(deadline(t), bytes.Repeat([]byte{byte(i)}, 10_000)); err != nil {
				sent <- err
				return
			}
		}
		sent <- s.CloseSend()
	}()
	for i := range messages {
		b, err := s.Receive()
		if err != nil || len(b) != 10_000 || b[0] != byte(i) || b[9_999] != byte(i) {
			t.Fatalf("message %d: %d bytes, %v", i, len(b), err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); err != io.EOF {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
	if err := s.Send(deadline(t), []byte("x")); err != io.EOF {
		t.Errorf("send after the end: %v, want io.EOF", err)
	}
}

func TestCancel(t *testing.T) {
	ended := make(chan error, 1)
	c := serve(t, func(_ string, s grpc.ServerStream) error {
		<-s.Context().Done()
		ended <- s.Context().Err()
		return s.Context().Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.Stream(ctx, "/t/wait")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Receive(); !errors.Is(err, context.Canceled) {
		t.Errorf("receive: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the server's context did not end")
	}
}

func TestServerStops(t *testing.T) {
	c := serve(t, echo, grpc.ConnectionTimeout(time.Second))
	s, err := c.Stream(deadline(t), "/t/chat")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(deadline(t), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := s.Receive(); !errors.Is(err, rpc.ErrClosed) {
		t.Errorf("receive: %v, want ErrClosed", err)
	}
	if _, err := c.Call(deadline(t), "/t/x", nil); !errors.Is(err, rpc.ErrClosed) {
		t.Errorf("call: %v, want ErrClosed", err)
	}
}

// playServer waits until the client has begun a call, writes answer and closes, after
// the client has if it is to stay.
func playServer(conn net.Conn, answer []byte, stay bool) {
	defer conn.Close()
	var buf []byte
	chunk := make([]byte, 1024)
	for {
		n, err := conn.Read(chunk)
		if err != nil {
			return
		}
		buf = append(buf, chunk[:n]...)
		rest, ok := bytes.CutPrefix(buf, []byte(h2.Preface))
		for ok {
			f, n, err := h2.Cut(rest, h2.MinMaxFrameSize)
			if err != nil || n == 0 {
				break
			}
			if f.Type == h2.Headers {
				drained := make(chan struct{})
				go func() {
					defer close(drained)
					io.Copy(io.Discard, conn)
				}()
				conn.Write(answer)
				if stay {
					<-drained
				}
				return
			}
			rest = rest[n:]
		}
	}
}

// script answers a client with fixed bytes and reports how the client's first
// call ended.
func script(t *testing.T, answer []byte, stay bool) error {
	client, server := net.Pipe()
	go playServer(server, answer, stay)
	c, err := rpc.NewConn(client, rpc.Options{Authority: "x", Agent: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Stream(deadline(t), "/t/x")
	if err != nil {
		return err
	}
	_, err = s.Receive()
	return err
}

func TestHostileServer(t *testing.T) {
	const closed = "closed"
	hello := h2.AppendSettings(nil)
	frame := func(h h2.Header, payload string) []byte {
		h.Length = uint32(len(payload))
		return append(h2.AppendHeader(nil, h), payload...)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	var pings []byte
	for range 200 {
		pings = h2.AppendPing(pings, false, [8]byte{})
	}
	continued := frame(h2.Header{Type: h2.Headers, Stream: 1}, "\x88")
	for range 20 {
		continued = append(continued, frame(h2.Header{Type: h2.Continuation, Stream: 1}, "")...)
	}
	for name, test := range map[string]struct {
		answer []byte
		want   string
	}{
		"no settings":      {h2.AppendPing(nil, false, [8]byte{}), "first frame"},
		"http1":            {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "longer than"},
		"ping flood":       {join(hello, pings), "too many PING"},
		"continuations":    {join(hello, continued), "header block"},
		"bad setting":      {h2.AppendSettings(nil, h2.Setting{ID: h2.MaxFrameSize, Value: 0}), "MAX_FRAME_SIZE"},
		"push":             {join(hello, frame(h2.Header{Type: h2.PushPromise, Stream: 1}, "\x00\x00\x00\x02")), "push is off"},
		"bad hpack":        {join(hello, frame(h2.Header{Type: h2.Headers, Stream: 1, Flags: h2.FlagEndHeaders}, "\xff\xff\xff\xff\xff\xff")), "hpack"},
		"big window":       {join(hello, h2.AppendWindowUpdate(nil, 0, h2.MaxWindow)), "window"},
		"http 503":         {join(hello, frame(h2.Header{Type: h2.Headers, Stream: 1, Flags: h2.FlagEndHeaders}, "\x08\x03503")), "503"},
		"data first":       {join(hello, h2.AppendData(nil, 1, false, []byte("x"))), "DATA before"},
		"idle stream":      {join(hello, h2.AppendData(nil, 99, false, []byte("x"))), "idle stream"},
		"closed in a call": {hello, closed},
	} {
		t.Run(name, func(t *testing.T) {
			err := script(t, test.answer, test.want != closed)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error about %q", err, test.want)
			}
		})
	}
}

func FuzzServer(f *testing.F) {
	f.Add([]byte{})
	f.Add(h2.AppendPing(nil, false, [8]byte{}))
	f.Add(h2.AppendHeaders(nil, 1, false, []byte("\x88"), 16384))
	f.Add(h2.AppendData(h2.AppendHeaders(nil, 1, false, []byte("\x88\x5f\x10application/grpc"), 16384), 1, true, []byte("\x00\x00\x00\x00\x01x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := net.Pipe()
		go playServer(server, append(h2.AppendSettings(nil), b...), false)
		c, err := rpc.NewConn(client, rpc.Options{Authority: "x", Agent: "x"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := c.Stream(t.Context(), "/t/x")
		for err == nil {
			_, err = s.Receive()
		}
		if err.Error() == "" {
			t.Error("an error without a text", fmt.Sprintf("%T", err))
		}
	})
}
