package http2

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// wait bounds whatever a test waits for.
const wait = 10 * time.Second

const key = "origin.default:80"

// start runs a proxy with one plain HTTP listener before a server.
func start(t *testing.T, server netip.AddrPort, declared view.Protocol) string {
	t.Helper()
	v := &view.View{
		Version: 1,
		Proxy: view.Proxy{
			Name: "edge", Namespace: "default", Role: view.Gateway, TrustDomain: "mesh.local", ClusterDomain: "cluster.local",
			Listeners: []view.Listener{{
				Name: "http", Kind: view.Edge, Protocol: view.HTTP, Address: netip.MustParseAddrPort("127.0.0.1:0"),
				Routes: route.Spec{Hosts: []route.Host{{
					Hostnames: []string{"*"},
					Rules:     []route.Rule{{Name: "all", Backends: []route.Backend{{Destination: key, Weight: 1}}}},
				}}},
			}},
		},
		Destinations: map[string]*view.Destination{key: {Key: key, Protocol: declared}},
		Endpoints:    map[string]*view.Endpoints{key: {Key: key, List: []view.Endpoint{{Address: server}}}},
	}
	m := meter.New(1, "test")
	log := slog.New(slog.DiscardHandler)
	told, err := live.Static(v, "", log, m)
	if err != nil {
		t.Fatal(err)
	}
	p, err := proxy.New(proxy.Config{Live: told, Meter: m, Log: log, Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p.Bound()["http"].String()
}

// recorder is a server that keeps what it is sent, byte for byte, and answers
// each head with 200.
func recorder(t *testing.T) (netip.AddrPort, <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	heads := make(chan string, 64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					var head strings.Builder
					for !strings.HasSuffix(head.String(), "\r\n\r\n") {
						line, err := r.ReadString('\n')
						head.WriteString(line)
						if err != nil {
							if head.Len() > 0 {
								heads <- head.String()
							}
							return
						}
					}
					heads <- head.String()
					if err := skipBody(r, head.String()); err != nil {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort(), heads
}

// skipBody reads a body as its head frames it.
func skipBody(r *bufio.Reader, head string) error {
	if strings.Contains(head, "\r\nTransfer-Encoding: chunked\r\n") {
		for {
			line, err := r.ReadString('\n')
			if err != nil || line == "0\r\n" {
				r.ReadString('\n')
				return err
			}
		}
	}
	var n int64
	if i := strings.Index(head, "\r\nContent-Length: "); i >= 0 {
		fmt.Sscan(head[i+len("\r\nContent-Length: "):], &n)
	}
	_, err := io.CopyN(io.Discard, r, n)
	return err
}

// program is a net/http server that speaks both versions without TLS.
func program(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: &p}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}
