package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/view"
)

// patient is a program whose health can be changed.
type patient struct {
	at     netip.AddrPort
	set    func(well bool)
	checks atomic.Int64
}

func httpPatient(t testing.TB) *patient {
	p := &patient{}
	var sick atomic.Bool
	p.set = func(well bool) { sick.Store(!well) }
	p.at = serve(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			head, err := readHead(r)
			if err != nil {
				return
			}
			status := "200 OK"
			if strings.HasPrefix(head, "GET /healthz HTTP/1.1") && strings.Contains(strings.ToLower(head), "\r\nhost: cart.example\r\n") {
				p.checks.Add(1)
				if sick.Load() {
					status = "503 Service Unavailable"
				}
			}
			fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\nok", status)
		}
	})
	return p
}

func grpcPatient(t testing.TB) *patient {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := health.NewServer()
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, h)
	p := &patient{at: l.Addr().(*net.TCPAddr).AddrPort()}
	p.set = func(well bool) {
		status := healthv1.HealthCheckResponse_NOT_SERVING
		if well {
			status = healthv1.HealthCheckResponse_SERVING
		}
		h.SetServingStatus("shop.Cart", status)
	}
	p.set(true)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return p
}

// tcpPatient refuses connections when it is sick.
func tcpPatient(t testing.TB) *patient {
	p := &patient{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.at = l.Addr().(*net.TCPAddr).AddrPort()
	run := func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.checks.Add(1)
			go func() {
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}
	go run(l)
	p.set = func(well bool) {
		l.Close()
		if !well {
			return
		}
		var err error
		if l, err = net.Listen("tcp", p.at.String()); err != nil {
			t.Error(err)
			return
		}
		go run(l)
	}
	t.Cleanup(func() { l.Close() })
	return p
}

// An endpoint whose health check fails is left out, and comes back when it
// passes; with mutual TLS and without, on one loop and on four, it is asked once
// for the whole proxy.
func TestHealthChecks(t *testing.T) {
	for _, test := range []struct {
		name     string
		patient  func(testing.TB) *patient
		check    policy.HealthCheck
		protocol view.Protocol
		why      string
	}{
		{"http", httpPatient, policy.HealthCheck{Kind: policy.HealthHTTP, Path: "/healthz", Host: "cart.example"}, view.HTTP, "status 503"},
		{"grpc", grpcPatient, policy.HealthCheck{Kind: policy.HealthGRPC, Service: "shop.Cart"}, view.HTTP2, "not serving"},
		{"tcp", tcpPatient, policy.HealthCheck{Kind: policy.HealthTCP}, view.TCP, ""},
	} {
		for _, mesh := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s mesh=%v", test.name, mesh), func(t *testing.T) {
				each := func(t *testing.T, f func(*testing.T, int)) { f(t, 4) }
				if test.check.Kind == policy.HealthHTTP {
					each = eachLoops
				}
				each(t, func(t *testing.T, loops int) {
					p := test.patient(t)
					other := test.patient(t)
					up := *policy.DefaultUpstream
					check := test.check
					check.Interval, check.Timeout, check.Unhealthy, check.Healthy = 100*time.Millisecond, wait, 2, 1
					up.Health = &check
					var client *running
					listener := "http"
					if mesh {
						v := clientView(netip.AddrPort{}, cartID, test.protocol)
						v.Endpoints[cart].List = nil
						for _, app := range []netip.AddrPort{p.at, other.at} {
							s := serverView(app)
							s.Proxy.Listeners[0].Protocol = test.protocol
							v.Endpoints[cart].List = append(v.Endpoints[cart].List, view.Endpoint{
								Address: netip.MustParseAddrPort(start(t, s, 1).addr(t, "in")), Identity: cartID,
							})
						}
						v.Endpoints[cart].Policy = &up
						client, listener = start(t, v, loops), "out"
					} else {
						v := withPolicy(up, p.at, other.at)
						v.Destinations[backendKey].Protocol = test.protocol
						if test.protocol == view.TCP {
							v.Proxy.Listeners[0].Protocol, v.Proxy.Listeners[0].Destination = view.TCP, backendKey
						}
						client = start(t, v, loops)
					}
					// Some traffic, so that the endpoints are known.
					for range 3 {
						c := dialTo(t, client.addr(t, listener))
						io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
						c.(*net.TCPConn).CloseWrite()
						if test.protocol == view.HTTP {
							io.ReadAll(c)
						}
						c.Close()
					}
					state := func() eject.State {
						list := client.EndpointStates().([]eject.State)
						if len(list) != 2 {
							return eject.State{}
						}
						for _, s := range list {
							if s.State != eject.Healthy {
								return s
							}
						}
						return list[0]
					}
					happens(t, func() bool { return state().State == eject.Healthy })
					time.Sleep(200 * time.Millisecond) // some checks, which must not fail
					if s := state(); s.State != eject.Healthy {
						t.Fatalf("a well endpoint: %+v", s)
					}
					p.set(false)
					happens(t, func() bool { return state().State == eject.Unhealthy })
					if s := state(); test.why != "" && s.Why != test.why || s.Why == "" {
						t.Errorf("why: %q, want %q", s.Why, test.why)
					}
					before, began := p.checks.Load(), time.Now()
					p.set(true)
					happens(t, func() bool { return state().State == eject.Healthy })
					time.Sleep(300 * time.Millisecond)
					if n, most := p.checks.Load()-before, int64(time.Since(began)/(90*time.Millisecond))+2; n > most {
						t.Errorf("asked %d times in %v, want at most %d: once for all loops", n, time.Since(began), most)
					}
					m := client.metrics(t)
					if strings.Contains(m, "tulle_errors_total{direction=\"edge\",service=\"backend.default:80\",reason=") && test.protocol != view.HTTP2 && test.protocol != view.TCP {
						t.Errorf("health checks are counted as errors:\n%s", m)
					}
				})
			})
		}
	}
}
