package proxy_test

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/view"
)

// A connection that isn't HTTP has no answer that could say what went wrong: its
// story is kept all the same.
func TestStoriesOfTCP(t *testing.T) {
	closed := netip.MustParseAddrPort("127.0.0.1:1")
	early := serve(t, func(c net.Conn) {
		io.ReadFull(c, make([]byte, 5))
		c.(*net.TCPConn).SetLinger(0) // a reset
	})
	two := *policy.DefaultUpstream
	two.Limits.Connections = 1
	for name, test := range map[string]struct {
		view   *view.View
		kind   string
		reason string
		tries  string
	}{
		"no endpoint":       {tcpView(*policy.DefaultUpstream), "failed", "destination_unavailable", ""},
		"refused":           {tcpView(*policy.DefaultUpstream, closed), "failed", "connection_refused", "127.0.0.1:1 connection_refused"},
		"reset early":       {tcpView(*policy.DefaultUpstream, early), "failed", "connection_terminated", early.String() + " connected"},
		"as many as may be": {tcpView(two, serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })), "refused", "connection_limit_reached", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, test.view, 1)
			addr := p.addr(t, "http")
			if test.reason == "connection_limit_reached" {
				held := dialTo(t, addr)
				io.WriteString(held, "hello")
				inTime(t, func() bool { return p.Within()["connections within limits"] == 1 })
			}
			from := ""
			if c, err := net.Dial("tcp", addr); err == nil { // else it is reset already
				defer c.Close()
				from = c.LocalAddr().String()
				io.WriteString(c, "hello")
				c.SetDeadline(time.Now().Add(time.Minute))
				io.Copy(io.Discard, c)
			}
			var list []story.Told
			inTime(t, func() bool {
				list = p.Stories(story.Query{Last: 10, Service: "backend.default"})
				return len(list) > 0
			})
			s := list[0]
			if len(list) != 1 || s.Kind != test.kind || s.Reason != test.reason || s.Method != "TCP" || from != "" && s.Path != from || s.Path == "" ||
				s.Direction != "edge" || s.Service != backendKey || s.Known != len(test.view.Endpoints[backendKey].List) {
				t.Errorf("the stories are %+v", list)
			}
			var tries []string
			for _, try := range s.Tries {
				tries = append(tries, try.Endpoint+" "+try.Outcome)
				if try.Ended < try.Began {
					t.Errorf("it ended before it began: %+v", try)
				}
			}
			if got := strings.Join(tries, ", "); test.reason != "connection_limit_reached" && got != test.tries {
				t.Errorf("tried %q, want %q", got, test.tries)
			}
			if one := p.Stories(story.Query{ID: s.ID}); len(one) != 1 || one[0].ID != s.ID {
				t.Errorf("its id finds %+v", one)
			}
		})
	}
}

// Who may not come in learns nothing; whoever looks after the service does.
func TestStoriesOfDeniedTCP(t *testing.T) {
	v := serverView(serve(t, echo))
	v.Proxy.Listeners[0].Protocol = view.TCP
	v.Proxy.Listeners[0].Inbound = &policy.Inbound{Guard: &policy.Guard{Access: &access.Spec{Default: access.Deny}}}
	server := start(t, v, 1)
	web := start(t, callerView(webID, server.addr(t, "in"), view.TCP, 0), 1)
	if c, err := net.Dial("tcp", web.addr(t, "out")); err == nil { // else it is reset already
		defer c.Close()
		io.WriteString(c, "hello")
		c.SetDeadline(time.Now().Add(time.Minute))
		io.Copy(io.Discard, c)
	}
	var list []story.Told
	inTime(t, func() bool {
		list = server.Stories(story.Query{})
		return len(list) > 0
	})
	if s := list[0]; s.Kind != "refused" || s.Reason != "access_denied" || s.Caller != webID || s.Service != "cart.default:8080" || s.Direction != "inbound" {
		t.Errorf("%+v", s)
	}
}
