package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/view"
)

var tulleID = regexp.MustCompile(`(?i)\r\ntulle-id: ([0-9a-f]{16})\r\n`)

// idOf is the id that an answer was given, or nothing.
func idOf(answer string) string {
	if m := tulleID.FindStringSubmatch(answer); m != nil {
		return m[1]
	}
	return ""
}

// TestStoryOfPair: the client of a pair gets the outer proxy's id, which leads to
// the inner one's; both say what happened.
func TestStoryOfPair(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		app := serve(t, answering("HTTP/1.1 503 Service Unavailable\r\nTulle-Id: not an id\r\nContent-Length: 0\r\n\r\n"))
		client, server := pair(t, app, view.HTTP, loops)
		answer := talk(t, client.addr(t, "out"), "POST /items?secret=1 HTTP/1.1\r\nHost: cart\r\nX-Request-ID: abc-\x01\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 400") {
			t.Fatalf("a control character: %q", answer)
		}
		answer = talk(t, client.addr(t, "out"), "POST /items?secret=1 HTTP/1.1\r\nHost: cart\r\nX-Request-ID: abc-1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		id := idOf(answer)
		if id == "" || strings.Contains(answer, "not an id") {
			t.Fatalf("no id in %q", answer)
		}
		outer := client.Stories(story.Query{ID: id})
		byRequest := client.Stories(story.Query{ID: "abc-1"})
		if len(outer) != 1 || len(byRequest) != 1 || byRequest[0].ID != id {
			t.Fatalf("%+v, %+v", outer, byRequest)
		}
		o := outer[0]
		if o.Kind != "failed" || o.Status != 503 || o.Method != "POST" || o.Path != "/items" || o.Service != cart || o.Direction != "outbound" || o.Peer == "" || o.Peer == id {
			t.Errorf("%+v", o)
		}
		if o.Caller != "" || len(o.Tries) == 0 || o.Tries[0].Workload != "cart-1.default" || o.Tries[0].Status != 503 || o.Tries[0].Outcome != "answered" || o.Tries[0].Sent < o.Tries[0].Began || o.Total < o.First || o.First == 0 || o.Tries[0].Secured < o.Tries[0].Began || o.Tries[0].Secured == 0 || o.Tries[0].Sent < o.Tries[0].Secured {
			t.Errorf("%+v", o)
		}
		inner := server.Stories(story.Query{ID: o.Peer})
		if len(inner) != 1 {
			t.Fatalf("%+v", inner)
		}
		i := inner[0]
		if i.Direction != "inbound" || i.Caller != webID || i.Status != 503 || i.RequestID != "abc-1" || i.Peer != "" {
			t.Errorf("%+v", i)
		}
		if got := server.Stories(story.Query{}); len(got) != 1 {
			t.Errorf("%d stories: %+v", len(got), got)
		}
	})
}

// TestStories: what is told of requests that go badly in other ways, and that
// nothing is of those that go well.
func TestStories(t *testing.T) {
	gone := serve(t, func(net.Conn) {})
	deaf := closedPort(t)
	well := serve(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	slow := serve(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			time.Sleep(60 * time.Millisecond)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	const get = "GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
	for name, test := range map[string]struct {
		backends []netip.AddrPort
		change   func(*view.View)
		want     story.Told // Kind, Status, Reason, Tried; zero: no story
		outcome  string
	}{
		"well":         {backends: []netip.AddrPort{well}},
		"slow":         {backends: []netip.AddrPort{slow}, want: story.Told{Kind: "slow", Status: 200, Tried: 1}, outcome: "answered"},
		"refused":      {backends: []netip.AddrPort{deaf}, want: story.Told{Kind: "failed", Status: 502, Reason: "connection_refused"}, outcome: "connection_refused"},
		"lost":         {backends: []netip.AddrPort{gone}, want: story.Told{Kind: "failed", Status: 502, Reason: "connection_terminated"}, outcome: "connection_terminated"},
		"no endpoints": {want: story.Told{Kind: "failed", Status: 503, Reason: "destination_unavailable"}},
		"no route": {backends: []netip.AddrPort{well}, change: func(v *view.View) { v.Proxy.Listeners[0].Routes.Hosts[0].Hostnames = []string{"other"} },
			want: story.Told{Kind: "refused", Status: 404, Reason: "destination_not_found"}},
		"no backend": {backends: []netip.AddrPort{well}, change: func(v *view.View) { v.Proxy.Listeners[0].Routes.Hosts[0].Rules[0].Backends[0].Destination = "" },
			want: story.Told{Kind: "failed", Status: 500, Reason: "destination_not_found"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := edgeView(test.backends...)
			if test.change != nil {
				test.change(v)
			}
			isSlow := time.Minute // nothing else is, however busy the machine
			if name == "slow" {
				isSlow = 50 * time.Millisecond
			}
			p := startWith(t, v, proxy.Config{Loops: 2, Slow: isSlow})
			answer := talk(t, p.addr(t, "http"), get)
			list := p.Stories(story.Query{})
			if test.want.Kind == "" {
				if len(list) != 0 || idOf(answer) != "" {
					t.Fatalf("%q, %+v", answer, list)
				}
				return
			}
			if len(list) != 1 || list[0].ID != idOf(answer) {
				t.Fatalf("%q, %+v", answer, list)
			}
			s := list[0]
			if s.Kind != test.want.Kind || s.Status != test.want.Status || s.Reason != test.want.Reason || s.Direction != "edge" || s.Host != "shop" {
				t.Errorf("%+v", s)
			}
			if test.outcome != "" && (len(s.Tries) == 0 || s.Tries[len(s.Tries)-1].Outcome != test.outcome || s.Rule != "all" || s.Backend != backendKey || len(s.Endpoints) != 1 || s.Endpoints[0].State != "tried") {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestStoryOfCall: a gRPC call that fails after its head went well has the id in its
// trailers, once, and both proxies know it.
func TestStoryOfCall(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodec(raw{}))
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Echo", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Break", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			b := []byte("so far so good")
			if err := s.SendMsg(&b); err != nil {
				return err
			}
			return status.Error(codes.Internal, "broken")
		}}}}, nil)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	client, server := pair(t, l.Addr().(*net.TCPAddr).AddrPort(), view.HTTP2, 2)
	c := grpcClient(t, client.addr(t, "out"))
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	for method, inTrailer := range map[string]bool{"Break": true, "Missing": false} {
		stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/test.Echo/"+method)
		if err != nil {
			t.Fatal(err)
		}
		stream.CloseSend()
		for err == nil {
			var b []byte
			err = stream.RecvMsg(&b)
		}
		ids := stream.Trailer().Get("tulle-id")
		if head, _ := stream.Header(); !inTrailer {
			ids = append(ids, head.Get("tulle-id")...)
		}
		if len(ids) != 1 {
			t.Fatalf("%s: %v: ids %q", method, err, ids)
		}
		outer := client.Stories(story.Query{ID: ids[0]})
		if len(outer) != 1 || outer[0].Kind != "failed" || outer[0].Path != "/test.Echo/"+method || len(server.Stories(story.Query{ID: outer[0].Peer})) != 1 {
			t.Errorf("%s: %+v", method, outer)
		}
	}
}
