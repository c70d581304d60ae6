package proxy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/view"
)

// life is how long the short certificates of these tests are good for; less than
// what ends a stream in which nothing moves.
const life = 4 * time.Minute

// expiringView is cart's sidecar, with what becomes of connections whose peer's
// certificate has ended.
func expiringView(app netip.AddrPort, ends bool) *view.View {
	v := serverView(app)
	v.Proxy.Settings.EndExpired = ends
	return v
}

func goOn(t *testing.T, list []going) {
	t.Helper()
	for _, f := range list {
		f.goesOn(t)
	}
}

// TestExpiredUnderWay: what is under way when the certificate of its connection has
// ended goes on, or ends a minute later where the mesh says so. Others' goes on in
// any case.
func TestExpiredUnderWay(t *testing.T) {
	for _, ends := range []bool{false, true} {
		for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
			eachLoops(t, func(t *testing.T, loops int) {
				c := &clock{}
				web := func(mesh string, protocol view.Protocol) (short, long *running) {
					short = start(t, callerView(webID, mesh, protocol, peers), 1)
					ca.shortLived(t, short.credentials, webID, life)
					return short, start(t, callerView(billingID, mesh, protocol, peers), 1)
				}
				streams := startWith(t, expiringView(program(t, ticks), ends), proxy.Config{Loops: loops, Poller: c.poller})
				a, b := web(streams.addr(t, "in"), view.HTTP)
				bytes := startWith(t, expiringView(serve(t, echo), ends), proxy.Config{Loops: loops, Poller: c.poller})
				d, e := web(bytes.addr(t, "in"), view.TCP)
				one, two := patientClient(t, false), patientClient(t, true)
				short := []going{streaming(t, one, "http://"+a.addr(t, "out")+"/1"), streaming(t, two, "http://"+a.addr(t, "out")+"/2"),
					upgraded(t, a.addr(t, "out"), "/3"), chat(t, dialTo(t, d.addr(t, "out")), "opaque")}
				long := []going{streaming(t, one, "http://"+b.addr(t, "out")+"/1"), streaming(t, two, "http://"+b.addr(t, "out")+"/2"),
					upgraded(t, b.addr(t, "out"), "/3"), chat(t, dialTo(t, e.addr(t, "out")), "opaque of another")}
				goOn(t, append(short, long...))
				c.forward(life + 10*time.Second)
				goOn(t, append(short, long...))
				c.forward(70 * time.Second)
				if !ends {
					goOn(t, append(short, long...))
					return
				}
				for _, f := range short {
					f.ends(t)
				}
				goOn(t, long)
				for _, p := range []*running{streams, bytes} {
					if m := p.metrics(t); !strings.Contains(m, `service="cart.default:8080",reason="peer_expired"}`) {
						t.Errorf("not counted:\n%s", m)
					}
				}
				ca.issue(t, a.credentials, webID)
				streaming(t, one, "http://"+a.addr(t, "out")+"/4").goesOn(t) // on another connection
			})
		}
	}
}

// TestExpiredSettingChanged: that the mesh says so from now on holds for what is open.
func TestExpiredSettingChanged(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		c := &clock{}
		app := serve(t, echo)
		server := startWith(t, expiringView(app, false), proxy.Config{Loops: loops, Poller: c.poller})
		web := start(t, callerView(webID, server.addr(t, "in"), view.TCP, 0), 1)
		ca.shortLived(t, web.credentials, webID, life)
		open := chat(t, dialTo(t, web.addr(t, "out")), "opaque")
		open.goesOn(t) // all is connected
		c.forward(life + 70*time.Second)
		open.goesOn(t)
		server.Follow(tableOf(t, expiringView(app, true)))
		open.ends(t)
	})
}

// TestExpiredEndpoint: the caller's proxy does the same for an endpoint's
// certificate.
func TestExpiredEndpoint(t *testing.T) {
	for _, ends := range []bool{false, true} {
		eachLoops(t, func(t *testing.T, loops int) {
			c := &clock{}
			server := start(t, serverView(serve(t, echo)), 1)
			ca.shortLived(t, server.credentials, cartID, life)
			v := callerView(webID, server.addr(t, "in"), view.TCP, 0)
			v.Proxy.Settings.EndExpired = ends
			web := startWith(t, v, proxy.Config{Loops: loops, Poller: c.poller})
			open := chat(t, dialTo(t, web.addr(t, "out")), "opaque")
			open.goesOn(t)
			c.forward(life + 10*time.Second)
			open.goesOn(t)
			c.forward(70 * time.Second)
			if !ends {
				open.goesOn(t)
				return
			}
			open.ends(t)
			want := `tulle_errors_total{direction="outbound",service="cart.default:8080",reason="peer_expired"} 1`
			comes(t, want, func() bool { return strings.Contains(web.metrics(t), want) })
		})
	}
}
