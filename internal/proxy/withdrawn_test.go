package proxy_test

import (
	"bufio"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// ticks is a program that streams a line again and again, and echoes after an
// upgrade.
func ticks(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, rw)
		return
	}
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, "tick\n"); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		time.Sleep(5 * time.Millisecond)
	}
}

// going is something that goes on until it is ended.
type going struct {
	name string
	turn func() error // one more to and fro
}

func streaming(t testing.TB, c *http.Client, url string) going {
	t.Helper()
	r, _ := http.NewRequest("GET", url, nil)
	r.Host = "cart"
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 {
		t.Fatalf("%s: status %d", url, resp.StatusCode)
	}
	lines := bufio.NewReader(resp.Body)
	return going{url, func() error { _, err := lines.ReadString('\n'); return err }}
}

// patientClient has no time limit.
func patientClient(t testing.TB, two bool) *http.Client {
	c := *client(t, two)
	c.Timeout = 0
	return &c
}

func chat(t testing.TB, c net.Conn, name string) going {
	r := bufio.NewReader(c)
	return going{name, func() error {
		c.SetDeadline(time.Now().Add(wait))
		if _, err := io.WriteString(c, "hello\n"); err != nil {
			return err
		}
		_, err := r.ReadString('\n')
		return err
	}}
}

func upgraded(t testing.TB, addr, path string) going {
	t.Helper()
	c := dialTo(t, addr)
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", path)
	r := bufio.NewReader(c)
	head, err := readHead(r)
	if err != nil || !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatalf("%q %v", head, err)
	}
	f := chat(t, c, "upgraded "+path)
	return f
}

// ends waits for the end of a going.
func (f going) ends(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(wait); f.turn() == nil; {
		if time.Now().After(end) {
			t.Errorf("%s goes on", f.name)
			return
		}
	}
}

// goesOn takes some more turns.
func (f going) goesOn(t testing.TB) {
	t.Helper()
	for range 10 {
		if err := f.turn(); err != nil {
			t.Errorf("%s ended: %v", f.name, err)
			return
		}
	}
}

func from(id string) []access.Source { return []access.Source{{Identities: []string{id}}} }

// TestAccessWithdrawn: a new rule ends exactly what it forbids.
func TestAccessWithdrawn(t *testing.T) {
	for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
		eachLoops(t, func(t *testing.T, loops int) {
			app := program(t, ticks)
			// None at first: what began before there was any rule ends as well.
			v := serverView(app)
			server, log := startGuarded(t, v, loops)
			web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, peers), 1)
			billing := start(t, callerView(billingID, server.addr(t, "in"), view.HTTP, peers), 1)
			w, b := "http://"+web.addr(t, "out"), "http://"+billing.addr(t, "out")
			c1, c2 := patientClient(t, false), patientClient(t, true)
			webA1, webB1 := streaming(t, c1, w+"/a/1"), streaming(t, c1, w+"/b/1")
			webA2, webB2 := streaming(t, c2, w+"/a/2"), streaming(t, c2, w+"/b/2?x=/a")
			billA, billB := streaming(t, c2, b+"/a"), streaming(t, c2, b+"/b")
			socketA, socketB := upgraded(t, web.addr(t, "out"), "/a/socket"), upgraded(t, web.addr(t, "out"), "/b/socket")
			socketBilling := upgraded(t, billing.addr(t, "out"), "/b/socket")

			// web may not have /b any more.
			rule := access.Rule{Name: "no b", Action: access.Deny, From: from(webID), To: []access.Operation{{Paths: paths("/b")}}}
			server.Follow(tableOf(t, guardedView(app, &access.Spec{Default: access.Allow, Rules: []access.Rule{rule}})))
			for _, f := range []going{webB1, webB2, socketB} {
				f.ends(t)
			}
			for _, f := range []going{webA1, webA2, billA, billB, socketA, socketBilling} {
				f.goesOn(t)
			}
			want := `peer="web.default",decision="ended",rule="no b"} 3`
			if m := server.metrics(t); !strings.Contains(m, want) {
				t.Errorf("no %s in\n%s", want, m)
			}
			comes(t, "three lines in the log", func() bool { return strings.Count(log.String(), `msg="access withdrawn"`) == 3 })

			// Nothing of web's may go on.
			rule = access.Rule{Name: "no web", Action: access.Deny, From: from(webID)}
			server.Follow(tableOf(t, guardedView(app, &access.Spec{Default: access.Allow, Rules: []access.Rule{rule}})))
			for _, f := range []going{webA1, webA2, socketA} {
				f.ends(t)
			}
			for _, f := range []going{billA, billB, socketBilling} {
				f.goesOn(t)
			}
			if code, _, _ := fetchOne(t, client(t, false), "GET", w+"/a"); code != 403 {
				t.Errorf("a new request of web's: %d", code)
			}
		})
	}
}

// TestAccessWithdrawnOpaque is the same for connections whose requests can't be
// seen.
func TestAccessWithdrawnOpaque(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		app := serve(t, echo)
		server := start(t, serverView(app), loops)
		web := start(t, callerView(webID, server.addr(t, "in"), view.TCP, 0), 1)
		billing := start(t, callerView(billingID, server.addr(t, "in"), view.TCP, 0), 1)
		a, b := chat(t, dialTo(t, web.addr(t, "out")), "web"), chat(t, dialTo(t, billing.addr(t, "out")), "billing")
		a.goesOn(t)
		b.goesOn(t)
		rule := access.Rule{Name: "no web", Action: access.Deny, From: from(webID)}
		server.Follow(tableOf(t, guardedView(app, &access.Spec{Default: access.Allow, Rules: []access.Rule{rule}})))
		a.ends(t)
		b.goesOn(t)
	})
}

// TestIdentityDenied: an identity that isn't trusted any more loses what it has
// open, whatever rules say, and gets in no more.
func TestIdentityDenied(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		app := program(t, ticks)
		v := serverView(app)
		server, log := startGuarded(t, v, loops)
		web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, view.PeerHTTP2), 1)
		billing := start(t, callerView(billingID, server.addr(t, "in"), view.HTTP, view.PeerHTTP2), 1)
		c := patientClient(t, false)
		a, b := streaming(t, c, "http://"+web.addr(t, "out")+"/"), streaming(t, c, "http://"+billing.addr(t, "out")+"/")
		socket := upgraded(t, web.addr(t, "out"), "/socket")
		id, _ := identity.Parse(webID)
		server.credentials.SetBundle(server.credentials.Bundle().Deny([]identity.ID{id}))
		server.Follow(tableOf(t, v))
		a.ends(t)
		socket.ends(t)
		b.goesOn(t)
		if code, _, _ := fetchOne(t, client(t, false), "GET", "http://"+web.addr(t, "out")+"/"); code != 502 {
			t.Errorf("a new request: %d", code)
		}
		comes(t, "the refusal's metric and line", func() bool {
			return strings.Contains(server.metrics(t), `reason="peer_identity_denied"}`) && strings.Contains(log.String(), "reason=peer_identity_denied")
		})
	})
}

// shortLived gives a proxy an SVID that ends soon.
func (a *authority) shortLived(t testing.TB, c *identity.Credentials, id string, life time.Duration) {
	t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{uri},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := identity.NewSVID([][]byte{der}, key)
	if err != nil {
		t.Fatal(err)
	}
	c.SetSVID(svid)
}

// TestExpiredPeer: a connection lives no longer than the certificate that it was
// made with, on either side, and no request is lost by that.
func TestExpiredPeer(t *testing.T) {
	for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
		for _, old := range []string{"client", "server"} {
			t.Run(fmt.Sprintf("%s's, protocol %d", old, peers), func(t *testing.T) {
				t.Parallel()
				server := start(t, serverView(program(t, mirror)), 1)
				web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, peers), 1)
				which, id := web, webID
				if old == "server" {
					which, id = server, cartID
				}
				ca.shortLived(t, which.credentials, id, 2*time.Second)
				c := client(t, false)
				asked := func() {
					t.Helper()
					if code, _, _ := fetchOne(t, c, "POST", "http://"+web.addr(t, "out")+"/"); code != 202 {
						t.Fatalf("status %d", code)
					}
				}
				opened := func(n int) bool {
					m := server.metrics(t)
					return strings.Contains(m, fmt.Sprintf(`tulle_connections_total{direction="inbound",service="cart.default:8080",peer="web.default",tls="mutual",protocol="http1"} %d`+"\n", n)) ||
						strings.Contains(m, fmt.Sprintf(`tulle_connections_total{direction="inbound",service="cart.default:8080",peer="web.default",tls="mutual",protocol="http2"} %d`+"\n", n))
				}
				asked()
				asked()
				if !opened(1) {
					t.Fatalf("not one connection:\n%s", server.metrics(t))
				}
				ca.shortLived(t, which.credentials, id, time.Hour) // renewed
				comes(t, "another connection", func() bool { asked(); return opened(2) })
			})
		}
	}
}

// TestAccessWithdrawnEdge: an edge looks at the rules of a request's route again,
// and knows what was asked for before its filters changed that.
func TestAccessWithdrawnEdge(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		app := program(t, ticks)
		with := func(listener, route1 *access.Spec) *view.View {
			v := edgeView(app)
			l := &v.Proxy.Listeners[0]
			if listener != nil {
				l.Inbound = &policy.Inbound{Guard: &policy.Guard{Access: listener}}
			}
			first := route.Rule{Name: "first", Matches: prefix("/first"), Backends: l.Routes.Hosts[0].Rules[0].Backends,
				Filters: route.Filters{Rewrite: &route.Rewrite{Change: route.PrefixPath, Path: "/other"}}}
			if route1 != nil {
				first.Policy = &policy.Request{Guard: &policy.Guard{Access: route1}}
			}
			l.Routes.Hosts[0].Rules = append([]route.Rule{first}, l.Routes.Hosts[0].Rules...)
			return v
		}
		p := start(t, with(nil, nil), loops)
		url := "http://" + p.addr(t, "http")
		c := patientClient(t, true)
		firstA, firstB, other := streaming(t, c, url+"/first/a"), streaming(t, c, url+"/first/b"), streaming(t, c, url+"/other")
		socket := upgraded(t, p.addr(t, "http"), "/first/a")

		denyA := &access.Spec{Default: access.Allow, Rules: []access.Rule{{Name: "a", Action: access.Deny, To: []access.Operation{{Paths: paths("/first/a")}}}}}
		p.Follow(tableOf(t, with(nil, denyA)))
		firstA.ends(t)
		socket.ends(t)
		firstB.goesOn(t)
		other.goesOn(t)

		nobody := &access.Spec{Default: access.Allow, Rules: []access.Rule{{Name: "local", Action: access.Deny, From: []access.Source{{Networks: []string{"127.0.0.0/8"}}}}}}
		p.Follow(tableOf(t, with(nobody, denyA)))
		firstB.ends(t)
		other.ends(t)
	})
}

// TestAccessWithdrawnUpload: what was asked for is known for as long as it takes,
// also when a body that can't be kept has taken the head's place.
func TestAccessWithdrawnUpload(t *testing.T) {
	for _, two := range []bool{false, true} {
		app := program(t, func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).EnableFullDuplex()
			w.(http.Flusher).Flush()
			io.Copy(io.Discard, r.Body)
		})
		v := serverView(app)
		v.Proxy.Listeners[0].Plaintext = true
		server := start(t, v, 1)
		c := patientClient(t, two)
		upload := func(path string) chan error {
			r, w := io.Pipe()
			t.Cleanup(func() { w.Close() })
			ended, answered := make(chan error, 2), make(chan struct{})
			q, _ := http.NewRequest("POST", "http://"+server.addr(t, "in")+path, r)
			go func() {
				<-answered // the head won't be needed again
				block := make([]byte, 32<<10)
				for {
					if _, err := w.Write(block); err != nil {
						ended <- err
						return
					}
				}
			}()
			go func() {
				resp, err := c.Do(q)
				close(answered)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				r.CloseWithError(io.ErrClosedPipe)
				ended <- err
			}()
			return ended
		}
		keeps, loses := upload("/keeps"), upload("/loses")
		time.Sleep(500 * time.Millisecond) // some megabytes
		allow := &access.Spec{Rules: []access.Rule{{Name: "a", Action: access.Allow, To: []access.Operation{{Paths: paths("/keeps")}}}}}
		changed := guardedView(app, allow)
		changed.Proxy.Listeners[0].Plaintext = true
		server.Follow(tableOf(t, changed))
		select {
		case <-loses:
		case <-time.After(wait):
			t.Errorf("two=%t: the upload goes on", two)
		}
		select {
		case err := <-keeps:
			t.Errorf("two=%t: the other one ended: %v", two, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestStrictEndsPlaintext: when a port takes mutual TLS only, what is open in
// plaintext ends, and nothing else.
func TestStrictEndsPlaintext(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		app := program(t, ticks)
		v := serverView(app)
		v.Proxy.Listeners[0].Plaintext = true
		server := start(t, v, loops)
		web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, view.PeerHTTP2), 1)
		c := patientClient(t, true)
		plain, mesh := streaming(t, c, "http://"+server.addr(t, "in")+"/"), streaming(t, c, "http://"+web.addr(t, "out")+"/")
		socket := upgraded(t, server.addr(t, "in"), "/")
		server.Follow(tableOf(t, serverView(app)))
		plain.ends(t)
		socket.ends(t)
		mesh.goesOn(t)
		if m := server.metrics(t); !strings.Contains(m, `peer="",decision="ended",rule="mode/strict"}`) {
			t.Errorf("not counted:\n%s", m)
		}
	})
}

// TestAccessWithdrawnMany: of more connections than are looked at at once, none is
// forgotten.
func TestAccessWithdrawnMany(t *testing.T) {
	const many = 150
	for _, protocol := range []view.Protocol{view.HTTP, view.TCP} {
		app := serve(t, echo)
		if protocol == view.HTTP {
			app = program(t, ticks)
		}
		v := serverView(app)
		v.Proxy.Listeners[0].Plaintext, v.Proxy.Listeners[0].Protocol = true, protocol
		server := start(t, v, 1)
		var list []going
		for range many {
			if protocol == view.HTTP {
				list = append(list, streaming(t, patientClient(t, false), "http://"+server.addr(t, "in")+"/"))
			} else {
				list = append(list, chat(t, dialTo(t, server.addr(t, "in")), "a connection"))
				list[len(list)-1].goesOn(t)
			}
		}
		changed := guardedView(app, &access.Spec{})
		changed.Proxy.Listeners[0].Plaintext, changed.Proxy.Listeners[0].Protocol = true, protocol
		server.Follow(tableOf(t, changed))
		for _, f := range list {
			f.ends(t)
		}
		if m := server.metrics(t); !strings.Contains(m, fmt.Sprintf(`decision="ended",rule=""} %d`+"\n", many)) {
			t.Errorf("not as many are counted:\n%s", m)
		}
	}
}
