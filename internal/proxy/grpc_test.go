package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/view"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// raw is a codec of messages that are bytes.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (raw) Name() string                       { return "raw" }

// grpcProgram is a real gRPC server with the four kinds of calls, and two that fail.
func grpcProgram(t testing.TB, name string) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodec(raw{}))
	stream := func(f func(grpc.ServerStream) error) grpc.StreamHandler {
		return func(_ any, s grpc.ServerStream) error { return f(s) }
	}
	send := func(s grpc.ServerStream, b []byte) error { return s.SendMsg(&b) }
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Echo",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Unary", Handler: stream(func(s grpc.ServerStream) error {
				var b []byte
				if err := s.RecvMsg(&b); err != nil {
					return err
				}
				return send(s, append([]byte(name+":"), b...))
			})},
			{StreamName: "Down", ServerStreams: true, Handler: stream(func(s grpc.ServerStream) error {
				var b []byte
				if err := s.RecvMsg(&b); err != nil {
					return err
				}
				for i := range 100 {
					if err := send(s, bytes.Repeat([]byte{byte(i)}, 10_000)); err != nil {
						return err
					}
				}
				return nil
			})},
			{StreamName: "Up", ClientStreams: true, Handler: stream(func(s grpc.ServerStream) error {
				n := 0
				for {
					var b []byte
					if err := s.RecvMsg(&b); err == io.EOF {
						return send(s, []byte(fmt.Sprint(n)))
					} else if err != nil {
						return err
					}
					n += len(b)
				}
			})},
			{StreamName: "Both", ClientStreams: true, ServerStreams: true, Handler: stream(func(s grpc.ServerStream) error {
				for {
					var b []byte
					if err := s.RecvMsg(&b); err == io.EOF {
						return nil
					} else if err != nil {
						return err
					}
					if err := send(s, b); err != nil {
						return err
					}
				}
			})},
			{StreamName: "Refuse", Handler: stream(func(grpc.ServerStream) error {
				return status.Error(codes.PermissionDenied, "no: a % and ü") // trailers only
			})},
			{StreamName: "Hang", Handler: stream(func(s grpc.ServerStream) error {
				<-s.Context().Done()
				return s.Context().Err()
			})},
		},
	}, nil)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func grpcClient(t testing.TB, addr string) *grpc.ClientConn {
	c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})), grpc.WithAuthority("echo.default:80"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestGRPC(t *testing.T) {
	for _, declared := range []view.Protocol{view.Detect, view.HTTP, view.HTTP2} {
		for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
			t.Run(fmt.Sprintf("declared=%d/peers=%d", declared, peers), func(t *testing.T) {
				p := muxPair(t, grpcProgram(t, "a"), declared, peers)
				grpcCalls(t, grpcClient(t, p.addr(t, "out")))
			})
		}
	}
	t.Run("edge", func(t *testing.T) {
		grpcCalls(t, grpcClient(t, start(t, edgeView(grpcProgram(t, "a")), 1).addr(t, "http")))
	})
}

func grpcCalls(t *testing.T, c *grpc.ClientConn) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	for range 3 {
		in, out := []byte("hello"), []byte(nil)
		if err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out); err != nil || string(out) != "a:hello" {
			t.Fatalf("unary: %q, %v", out, err)
		}
	}
	open := func(method string, up, down bool) grpc.ClientStream {
		s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: up, ServerStreams: down}, "/test.Echo/"+method)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	send := func(s grpc.ClientStream, b []byte) {
		if err := s.SendMsg(&b); err != nil {
			t.Fatal(err)
		}
	}

	s := open("Down", false, true)
	send(s, []byte("go"))
	s.CloseSend()
	for i := range 100 {
		var b []byte
		if err := s.RecvMsg(&b); err != nil || len(b) != 10_000 || b[0] != byte(i) {
			t.Fatalf("message %d: %d bytes, %v", i, len(b), err)
		}
	}
	var b []byte
	if err := s.RecvMsg(&b); err != io.EOF {
		t.Fatalf("end of server's stream: %v", err)
	}

	s = open("Up", true, false)
	for range 100 {
		send(s, make([]byte, 10_000))
	}
	s.CloseSend()
	if err := s.RecvMsg(&b); err != nil || string(b) != "1000000" {
		t.Fatalf("client's stream: %q %v", b, err)
	}

	s = open("Both", true, true)
	for i := range 50 { // each waits for its answer: nothing may be held back
		send(s, []byte(fmt.Sprint(i)))
		if err := s.RecvMsg(&b); err != nil || string(b) != fmt.Sprint(i) {
			t.Fatalf("both ways: %q %v", b, err)
		}
	}
	s.CloseSend()
	if err := s.RecvMsg(&b); err != io.EOF {
		t.Fatalf("end of both ways: %v", err)
	}

	in := []byte("x")
	err := c.Invoke(ctx, "/test.Echo/Refuse", &in, &b)
	if st := status.Convert(err); st.Code() != codes.PermissionDenied || st.Message() != "no: a % and ü" {
		t.Errorf("trailers only: %v", err)
	}
	err = c.Invoke(ctx, "/test.Echo/Missing", &in, &b)
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown method: %v", err)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	err = c.Invoke(short, "/test.Echo/Hang", &in, &b)
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("deadline: %v", err)
	}
	big := bytes.Repeat([]byte("y"), 3<<20)
	if err := c.Invoke(ctx, "/test.Echo/Unary", &big, &b); err != nil || len(b) != len(big)+2 {
		t.Errorf("large message: %d bytes, %v", len(b), err)
	}
}

// A call's own deadline holds although its client doesn't keep to it.
func TestGRPCDeadline(t *testing.T) {
	v := edgeView(grpcProgram(t, "a"))
	v.Destinations[backendKey].Protocol = view.HTTP2
	e := newEnd(dialTo(t, start(t, v, 1).addr(t, "http")), false)
	s := e.engine.Open(b("POST"), b("http"), b("echo"), b("/test.Echo/Hang"), nil)
	for _, f := range [][2]string{{"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-timeout", "50m"}} {
		e.engine.Field(b(f[0]), b(f[1]), false)
	}
	e.engine.EndHead(s, false)
	e.engine.Write(s, []byte{0, 0, 0, 0, 0}, true)
	began := time.Now()
	if err := e.run(func(ev h2.Event) bool {
		if ev.Kind == h2.Reset && ev.Code == wire.Cancel {
			return false // the server was a little faster
		}
		if ev.Kind != h2.Response {
			return true
		}
		if code, _ := ev.Head.Get("grpc-status"); string(code) != "4" {
			t.Errorf("%+v", ev.Head)
		}
		return false
	}); err != nil || time.Since(began) < 40*time.Millisecond {
		t.Error(err, time.Since(began))
	}
}

// A client keeps one connection; its calls are spread over the endpoints.
func TestGRPCBalanced(t *testing.T) {
	v := edgeView(grpcProgram(t, "a"), grpcProgram(t, "b"))
	v.Destinations[backendKey].Protocol = view.HTTP2
	c := grpcClient(t, start(t, v, 1).addr(t, "http"))
	seen := map[string]int{}
	for range 60 {
		in, out := []byte("x"), []byte(nil)
		if err := c.Invoke(context.Background(), "/test.Echo/Unary", &in, &out); err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(string(out), ":")
		seen[name]++
	}
	if seen["a"] == 0 || seen["b"] == 0 {
		t.Errorf("calls went to %v", seen)
	}
}

// Without the program, a gRPC client gets a status it understands.
func TestGRPCUnavailable(t *testing.T) {
	v := edgeView(netip.MustParseAddrPort("127.0.0.1:1"))
	v.Destinations[backendKey].Protocol = view.HTTP2
	c := grpcClient(t, start(t, v, 1).addr(t, "http"))
	in, out := []byte("x"), []byte(nil)
	err := c.Invoke(context.Background(), "/test.Echo/Unary", &in, &out)
	if status.Code(err) != codes.Unavailable {
		t.Errorf("%v", errors.Unwrap(err))
		t.Errorf("%v", err)
	}
}
