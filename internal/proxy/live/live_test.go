package live

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

func proxyResource(version uint64) control.Resource {
	return control.Resource{Key: control.KeyProxy, Version: version, Proxy: &view.Proxy{
		Name: "web", Namespace: "default", Role: view.Sidecar, Identity: webID.String(),
		Listeners: []view.Listener{{Name: "out", Kind: view.Capture, Address: netip.MustParseAddrPort("127.0.0.1:15001")}},
	}}
}

func endpointsResource(version uint64, key string, addrs ...string) control.Resource {
	e := &view.Endpoints{Key: key}
	for _, a := range addrs {
		e.List = append(e.List, view.Endpoint{Address: netip.MustParseAddrPort(a)})
	}
	return control.Resource{Key: EndpointsKey(key), Version: version, Endpoints: e}
}

func update(nonce uint64, resources ...control.Resource) *control.ControlMessage {
	return &control.ControlMessage{Update: &control.Update{Nonce: nonce, Version: nonce, Resources: resources}}
}

// testConfig is a proxy of the fake control plane's.
func (c *fakeControl) config(dir string) Config {
	return Config{
		DataDir:   dir,
		JoinToken: c.token.Reveal(),
		Hello:     control.Hello{Name: "web", Namespace: "default", Version: "test"},
		Log:       slog.New(slog.NewTextHandler(c.t.Output(), nil)),
		Meter:     meter.New(1, "test"),
		dial:      c.dial,
	}
}

// run starts a Live; stop ends it.
func run(t *testing.T, c Config) (l *Live, stop func()) {
	t.Helper()
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return l, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// ask makes a look-up and returns whether it was answered at once and a channel
// that is closed when it is answered.
func ask(l *Live, keys ...string) (bool, <-chan struct{}) {
	done := make(chan struct{})
	return l.Lookup(func() { close(done) }, keys...), done
}

func TestJoinDiscoverRestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		l, stop := run(t, c.config(dir))
		s, hello := c.accept()
		if hello.Name != "web" || len(hello.Held) != 0 {
			t.Errorf("hello: %+v", hello)
		}
		if l.Ready() {
			t.Error("ready before it knows what it is")
		}
		s.send(t, update(1, proxyResource(7)))
		if m := s.next(); m.Ack == nil || m.Ack.Nonce != 1 || m.Ack.Error != "" {
			t.Errorf("ack: %+v", m)
		}
		if !l.Ready() {
			t.Error("not ready")
		}

		now, done := ask(l, DestinationKey("cart.default:8080"), EndpointsKey("cart.default:8080"))
		if now {
			t.Error("an unknown destination was answered at once")
		}
		m := s.next()
		slices.Sort(m.Subscribe.Add)
		if want := []string{"destination/cart.default:8080", "endpoints/cart.default:8080"}; !slices.Equal(m.Subscribe.Add, want) {
			t.Errorf("subscribed to %q, want %q", m.Subscribe.Add, want)
		}
		s.send(t, update(2,
			control.Resource{Key: DestinationKey("cart.default:8080"), Version: 3, Destination: &view.Destination{Key: "cart.default:8080"}},
			endpointsResource(4, "cart.default:8080", "10.0.0.1:8080")))
		<-done
		if e := l.Table().Endpoints("cart.default:8080"); e == nil || len(e.List) != 1 {
			t.Errorf("endpoints: %+v", e)
		}
		if now, _ := ask(l, DestinationKey("cart.default:8080")); !now {
			t.Error("a known destination was not answered at once")
		}
		// A name that doesn't exist is an answer too.
		_, done = ask(l, HostKey("nowhere.example"))
		s.next() // ack
		s.next() // subscribe
		s.send(t, update(3, control.Resource{Key: HostKey("nowhere.example"), Version: 1, Absent: true}))
		<-done
		if h := l.Table().Host("nowhere.example"); h == nil || h.Service != "" {
			t.Errorf("host: %+v", h)
		}

		stop()
		c.stop()
		if got := c.certified(); !slices.Equal(got, []string{"join"}) {
			t.Errorf("certified by %q, want one join", got)
		}

		// The control plane is away: all of it is there at once.
		l, stop = run(t, c.config(dir))
		if !l.Ready() {
			t.Error("not ready after a restart without the control plane")
		}
		if e := l.Table().Endpoints("cart.default:8080"); e == nil || len(e.List) != 1 {
			t.Errorf("endpoints after the restart: %+v", e)
		}
		if now, _ := ask(l, HostKey("nowhere.example"), DestinationKey("cart.default:8080")); !now {
			t.Error("a saved look-up has to wait")
		}
		// What isn't known waits once, and never again.
		start := time.Now()
		now, done = ask(l, HostKey("other"))
		<-done
		if d := time.Since(start); now || d != LookupWait {
			t.Errorf("an unknown host waited %v, want %v", d, LookupWait)
		}
		if now, _ := ask(l, HostKey("other")); !now {
			t.Error("the second look-up of an unknown host waits again")
		}

		// It is back: only what is new is asked for.
		c.start()
		s, hello = c.accept()
		held := map[string]uint64{}
		for _, h := range hello.Held {
			held[h.Key] = h.Version
		}
		for key, version := range map[string]uint64{
			"proxy": 7, "destination/cart.default:8080": 3, "endpoints/cart.default:8080": 4, "host/nowhere.example": 1,
		} {
			if held[key] != version {
				t.Errorf("held %s at %d, want %d", key, held[key], version)
			}
		}
		if m := s.next(); !slices.Contains(m.Subscribe.Add, "host/other") || len(m.Subscribe.Add) != 4 {
			t.Errorf("subscribed to %q", m.Subscribe.Add)
		}
		stop()
		c.stop()
		if got := c.certified(); len(got) != 1 {
			t.Errorf("certified by %q: the restart needed another certificate", got)
		}
	})
}

func TestRejectedUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		l, stop := run(t, c.config(""))
		s, _ := c.accept()
		s.send(t, update(1, proxyResource(1)))
		s.next()
		ask(l, EndpointsKey("cart.default:8080"))
		s.next()
		s.send(t, update(2, endpointsResource(1, "cart.default:8080", "10.0.0.1:8080")))
		s.next()
		before := l.Table()

		bad := proxyResource(2)
		bad.Proxy.Listeners = append(bad.Proxy.Listeners, view.Listener{
			Name: "edge", Kind: view.Edge, Address: netip.MustParseAddrPort("127.0.0.1:80"),
			Routes: route.Spec{Hosts: []route.Host{{Hostnames: []string{"*"}, Rules: []route.Rule{
				{Backends: []route.Backend{{Destination: "cart", Weight: 1}}},
			}}}},
		})
		s.send(t, update(3, endpointsResource(2, "cart.default:8080", "10.0.0.2:8080"), bad))
		m := s.next()
		if m.Ack == nil || m.Ack.Nonce != 3 ||
			!strings.Contains(m.Ack.Error, `proxy: listeners[1] (edge).routes.hosts[0].rules[0].backends[0].destination: "cart" is not`) {
			t.Errorf("ack: %+v", m.Ack)
		}
		if l.Table() != before {
			t.Error("a part of a rejected update is in force")
		}
		if l.Link().Rejected == "" {
			t.Error("the rejection isn't shown")
		}
		s.send(t, update(4, endpointsResource(2, "cart.default:8080", "10.0.0.2:8080")))
		if m := s.next(); m.Ack == nil || m.Ack.Error != "" {
			t.Errorf("ack of the next update: %+v", m.Ack)
		}
		if l.Table() == before || l.Link().Rejected != "" {
			t.Error("the next update isn't in force")
		}
		stop()
		c.stop()
	})
}

func TestLookupOfRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		l, stop := run(t, c.config(""))
		s, _ := c.accept()
		_, done := ask(l, DestinationKey("cart.default:8080"))
		s.next()
		var answered atomic.Bool
		go func() {
			<-done
			answered.Store(true)
		}()
		s.send(t, update(1, control.Resource{Key: DestinationKey("cart.default:8080"), Version: 1, Destination: &view.Destination{
			Key: "cart.default:8080",
			Routes: route.Spec{Hosts: []route.Host{{Hostnames: []string{"*"}, Rules: []route.Rule{{Backends: []route.Backend{
				{Destination: "cart-v1.default:8080", Weight: 9}, {Destination: "cart-v2.default:8080", Weight: 1}}}}}}},
		}}))
		// The acknowledgement and the new subscription come in either order.
		var added []string
		for range 2 {
			if m := s.next(); m.Subscribe != nil {
				added = m.Subscribe.Add
			}
		}
		slices.Sort(added)
		if want := []string{"endpoints/cart-v1.default:8080", "endpoints/cart-v2.default:8080"}; !slices.Equal(added, want) {
			t.Errorf("subscribed to %q, want %q", added, want)
		}
		synctest.Wait()
		if answered.Load() {
			t.Error("answered before the backends' endpoints were known")
		}
		s.send(t, update(2, endpointsResource(1, "cart-v1.default:8080"), endpointsResource(1, "cart-v2.default:8080")))
		synctest.Wait()
		if !answered.Load() {
			t.Error("not answered although all is known")
		}
		stop()
		c.stop()
	})
}

func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		l, stop := run(t, c.config(""))
		s, _ := c.accept()
		ask(l, HostKey("used"), HostKey("unused"), HostKey("absent"))
		s.next()
		host := func(name string) control.Resource {
			return control.Resource{Key: HostKey(name), Version: 1, Host: &view.Host{
				Name: name, Service: "cart.default", Addresses: []netip.Addr{netip.MustParseAddr("240.240.0.1")}}}
		}
		s.send(t, update(1, host("used"), host("unused"), control.Resource{Key: HostKey("absent"), Version: 1, Absent: true}))
		s.next()
		removed := map[string]time.Duration{}
		start := time.Now()
		for range 15 * 60 {
			time.Sleep(time.Second)
			l.Table().Host("used")
			for len(s.in) > 0 {
				if m := <-s.in; m.Subscribe != nil {
					for _, key := range m.Subscribe.Remove {
						removed[key] = time.Since(start)
					}
				}
			}
		}
		if len(removed) != 2 || removed["host/absent"] > 4*time.Minute || removed["host/unused"] < 10*time.Minute {
			t.Errorf("removed %v", removed)
		}
		if l.Table().Host("unused") != nil || l.Table().Host("used") == nil {
			t.Error("the table doesn't show it")
		}
		if now, _ := ask(l, HostKey("unused")); now {
			t.Error("what was dropped must be asked for again")
		}
		if m := s.next(); !slices.Contains(m.Subscribe.Add, "host/unused") {
			t.Errorf("asked again: %+v", m.Subscribe)
		}
		stop()
		c.stop()
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		l, stop := run(t, c.config(""))
		s, _ := c.accept()
		synctest.Wait()
		done := make(chan error)
		go func() { done <- l.Drain(t.Context()) }()
		for m := range s.in {
			if m.Status != nil && m.Status.Draining {
				break
			}
		}
		// The conversation breaks before the answer: the next one is told too.
		c.stop()
		c.start()
		s, _ = c.accept()
		if m := <-s.in; m.Status == nil || !m.Status.Draining {
			t.Errorf("the new conversation was told %+v", m)
		}
		s.send(t, &control.ControlMessage{Drained: true})
		if err := <-done; err != nil {
			t.Errorf("drain: %v", err)
		}
		stop()
		c.stop()

		// Nobody to tell: it doesn't wait for the whole time.
		c.start()
		l, stop = run(t, c.config(""))
		c.accept()
		c.stop()
		start := time.Now()
		if err := l.Drain(t.Context()); err == nil || time.Since(start) > 2*drainAlone {
			t.Errorf("drain without a control plane: %v after %v", err, time.Since(start))
		}
		stop()
	})
}

func TestRegister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		config := c.config("")
		var up atomic.Bool
		config.ProbeApp = func(context.Context, netip.AddrPort) error {
			if !up.Load() {
				return os.ErrDeadlineExceeded
			}
			return nil
		}
		l, stop := run(t, config)
		_, hello := c.accept()
		if len(hello.Registrations) != 0 {
			t.Errorf("registered %+v", hello.Registrations)
		}
		l.Register([]control.Registration{{Service: "cart.default", Port: 8080,
			App: netip.MustParseAddrPort("127.0.0.1:8080"), Mesh: netip.MustParseAddrPort("10.0.0.1:4143")}})
		s, hello := c.accept()
		if len(hello.Registrations) != 1 || hello.Registrations[0].Service != "cart.default" {
			t.Errorf("registered %+v", hello.Registrations)
		}
		time.Sleep(10 * time.Second)
		up.Store(true)
		time.Sleep(time.Second)
		var last *control.Status
		for len(s.in) > 0 {
			if m := <-s.in; m.Status != nil {
				last = m.Status
			}
		}
		if last == nil || !last.Ready || last.Detail != "" {
			t.Errorf("status: %+v, want ready", last)
		}
		up.Store(false)
		for range 1000 { // requests fail
			l.Suspect()
		}
		time.Sleep(time.Second)
		if m := <-s.in; m.Status == nil || m.Status.Ready || !strings.Contains(m.Status.Detail, "cart.default:8080 at 127.0.0.1:8080") {
			t.Errorf("status of a program that is gone: %+v", m.Status)
		}
		l.Fault(errors.New("listener http: taken"))
		time.Sleep(time.Second)
		if m := <-s.in; m.Status == nil || m.Status.Ready || m.Status.Detail != "listener http: taken" {
			t.Errorf("status of a proxy with a fault: %+v", m.Status)
		}
		up.Store(true)
		l.Fault(nil)
		time.Sleep(time.Second)
		if m := <-s.in; m.Status == nil || !m.Status.Ready || m.Status.Detail != "" {
			t.Errorf("status after the fault: %+v", m.Status)
		}
		stop()
		c.stop()
	})
}

func TestSaveFails(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		l, stop := run(t, c.config(dir))
		s, _ := c.accept()
		// Files can't be made in what isn't a directory: as good as a full disk,
		// for root too.
		os.RemoveAll(dir)
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.send(t, update(1, proxyResource(1)))
		time.Sleep(3 * time.Second)
		if !l.Ready() || l.Link().SaveError == "" || l.saveErrors.Load() == 0 {
			t.Errorf("ready %v, save error %q", l.Ready(), l.Link().SaveError)
		}
		os.Remove(dir)
		os.Mkdir(dir, 0o700)
		s.send(t, update(2, proxyResource(2)))
		time.Sleep(5 * time.Second)
		if got := l.Link().SaveError; got != "" {
			t.Errorf("save error %q after the directory came back", got)
		}
		stop()
		c.stop()
		if v, err := view.Load(filepath.Join(dir, StateFile)); err != nil || v.Versions["proxy"] != 2 {
			t.Errorf("state: %+v, %v", v, err)
		}
	})
}

func TestCorruptState(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		l, stop := run(t, c.config(dir))
		s, _ := c.accept()
		s.send(t, update(1, proxyResource(1)))
		s.next()
		stop()
		path := filepath.Join(dir, StateFile)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-1]++
		os.WriteFile(path, b, 0o600)
		l, stop = run(t, c.config(dir))
		if l.Ready() {
			t.Error("ready from a broken state file")
		}
		s, hello := c.accept()
		if len(hello.Held) > 1 {
			t.Errorf("holds %+v", hello.Held)
		}
		s.send(t, update(1, proxyResource(1)))
		s.next()
		if !l.Ready() {
			t.Error("not ready")
		}
		stop()
		c.stop()
		if _, err := os.Stat(filepath.Join(dir, corruptFile)); err != nil {
			t.Errorf("the broken file wasn't kept: %v", err)
		}
		if _, err := view.Load(path); err != nil {
			t.Errorf("the new state: %v", err)
		}
	})
}

// TestGatewayRole: the control plane tells a proxy without a role that it is a
// gateway; it says so from then on.
func TestGatewayRole(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeControl(t)
		_, stop := run(t, c.config(dir))
		s, hello := c.accept()
		if hello.Role != 0 {
			t.Errorf("role %v at first", hello.Role)
		}
		r := proxyResource(1)
		r.Proxy.Role = view.Gateway
		s.send(t, update(1, r))
		_, hello = c.accept()
		if hello.Role != view.Gateway || len(hello.Held) != 1 {
			t.Errorf("then role %v, held %v", hello.Role, hello.Held)
		}
		time.Sleep(2 * time.Second)
		stop()
		_, stop = run(t, c.config(dir))
		if _, hello = c.accept(); hello.Role != view.Gateway {
			t.Errorf("after a restart: role %v", hello.Role)
		}
		stop()
		c.stop()
	})
}

// TestClockJump: timers don't see the wall clock being set; the certificate is
// renewed all the same.
// TestRenewalSurvivesCrash: whatever write of a renewal a crash follows, the
// directory holds a certificate with its key.
