package live

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/ca/join"
	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/push"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// realControl is the real control plane's side of proxies (store, CA, graph,
// push) in one process, on in-memory connections with real TLS.
type realControl struct {
	t       *testing.T
	store   *store.Memory
	objects *store.Objects
	ca      *ca.CA
	tokens  *join.Tokens
	own     identity.Credentials

	mu       sync.Mutex
	listener *pipeListener
	grpc     *grpc.Server
	cancel   context.CancelFunc
	all      sync.WaitGroup
}

func newRealControl(t *testing.T) *realControl {
	t.Helper()
	authority, err := ca.Open(ca.Config{TrustDomain: domain, Keys: new(ca.MemoryKeys), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	c := &realControl{t: t, store: store.NewMemory(), ca: authority}
	c.objects = store.NewObjects(c.store)
	c.tokens = &join.Tokens{Store: c.store, Now: time.Now}
	c.start()
	return c
}

func (c *realControl) start() {
	c.t.Helper()
	svid, bundle, err := c.ca.Credentials(identity.ControlPlane(domain), ca.MaxTTL)
	if err != nil {
		c.t.Fatal(err)
	}
	c.own.SetBundle(bundle)
	c.own.SetSVID(svid)
	log := slog.New(slog.NewTextHandler(c.t.Output(), nil))
	pusher := push.New(push.Config{CA: c.ca, Tokens: c.tokens, Objects: c.objects, Log: log})
	server := grpc.NewServer(append(push.Options(), grpc.Creds(credentials.NewTLS(c.own.JoinServerConfig("h2"))))...)
	pusher.Register(server)
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	builder := graph.NewBuilder(domain)
	c.all.Go(func() { server.Serve(l) })
	c.all.Go(func() { pusher.Run(ctx) })
	c.all.Go(func() {
		store.Follow(ctx, c.objects, store.ObjectsPrefix, func(_ bool, all store.Changes) {
			var changes []graph.Change
			for _, e := range all.Events {
				k, ns, name, _ := store.ParseKey(e.Key)
				change := graph.Change{Ref: graph.Ref{Kind: k, Name: mesh.Name{Namespace: ns, Name: name}}}
				if !e.Deleted {
					o, err := store.Read(e.Item)
					if err != nil {
						panic(err)
					}
					change.Object = o
				}
				changes = append(changes, change)
			}
			r := builder.Apply(uint64(all.Revision), changes)
			pusher.Publish(r.Snapshot, &r.Changed)
		})
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listener, c.grpc, c.cancel = l, server, cancel
}

func (c *realControl) stop() {
	c.mu.Lock()
	c.listener = nil
	c.mu.Unlock()
	c.grpc.Stop()
	c.cancel()
	c.all.Wait()
}

func (c *realControl) dial(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	l := c.listener
	c.mu.Unlock()
	if l == nil {
		return nil, os.ErrNotExist
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, os.ErrNotExist
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *realControl) apply(text string) {
	c.t.Helper()
	docs, err := object.Decode("test", []byte(text))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, d := range docs {
		if _, _, err := c.objects.Apply(c.t.Context(), d.Object, false); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *realControl) token(account string, services ...string) string {
	c.t.Helper()
	id := identity.ID{TrustDomain: domain, Namespace: "default", ServiceAccount: account}
	token, _, err := c.tokens.Create(c.t.Context(), c.ca.Roots()[0], join.Grant{Identity: id, Services: services}, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	return token.Reveal()
}

func (c *realControl) config(dir, name, token string) Config {
	return Config{
		DataDir: dir, JoinToken: token, dial: c.dial,
		Hello:    control.Hello{Name: name, Namespace: "default", Version: "test", UID: name + "-1"},
		ProbeApp: func(context.Context, netip.AddrPort) error { return nil },
		Log:      slog.New(slog.NewTextHandler(c.t.Output(), nil)),
	}
}

const cart = `
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  ports: [{port: 80, targetPort: 8080, appProtocol: http}]
---
apiVersion: tulle.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec: {certificateTTL: 1m}
`

// until lets virtual time pass until a condition holds.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 600 {
		synctest.Wait()
		if cond() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("not within a minute: %s", what)
}

// TestRealControlPlane: two proxies of the real control plane, through its
// restarts, with certificates that live for a minute.
func TestRealControlPlane(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newRealControl(t)
		c.apply(cart)
		web, stopWeb := run(t, c.config(filepath.Join(dir, "web"), "web", c.token("web")))
		config := c.config(filepath.Join(dir, "cart-1"), "cart-1", c.token("cart", "cart.default"))
		config.Hello.Registrations = []control.Registration{{Service: "cart.default", Port: 80, Protocol: view.HTTP,
			App: netip.MustParseAddrPort("127.0.0.1:8080"), Mesh: netip.MustParseAddrPort("127.0.0.1:4143")}}
		cart1, stopCart := run(t, config)
		until(t, "both are connected", func() bool { return web.Link().Connected && cart1.Link().Connected })

		_, done := ask(web, HostKey("cart"), DestinationKey("cart.default:80"), EndpointsKey("cart.default:80"))
		<-done
		host := web.Table().Host("cart")
		if host == nil || host.Service != "cart.default" || len(host.Addresses) == 0 || !host.HasPort(80) {
			t.Fatalf("cart: %+v", host)
		}
		// The answer about the name tells the virtual address, too.
		if h := web.Table().HostByAddr(host.Addresses[0]); h == nil || h.Service != "cart.default" {
			t.Errorf("cart's address: %+v", h)
		}
		serving := func() bool {
			e := web.Table().Endpoints("cart.default:80")
			return e != nil && len(e.List) == 1 && e.List[0].Identity == "spiffe://mesh.local/ns/default/sa/cart"
		}
		until(t, "cart-1 serves cart", serving)

		// Ten minutes of certificates that live for one, with the control plane
		// gone and back: never without a valid one, never without the endpoint.
		for i := range 20 {
			if i == 7 {
				c.stop()
			}
			if i == 8 { // half a minute later or less than a certificate's rest
				c.start()
			}
			for range 10 {
				time.Sleep(time.Second)
				for name, l := range map[string]*Live{"web": web, "cart-1": cart1} {
					if left := time.Until(l.Credentials().SVID().Leaf.NotAfter); left <= 0 && i != 7 && i != 8 {
						t.Errorf("after %d × 10 s %s's certificate has %v left", i, name, left)
					}
				}
				if !serving() {
					t.Fatalf("after %d × 10 s web has no endpoint of cart", i)
				}
			}
		}
		until(t, "both are connected again", func() bool { return web.Link().Connected && cart1.Link().Connected })

		// A proxy that was away for ten lives of a certificate comes back with its old key.
		stopWeb()
		time.Sleep(10 * time.Minute)
		web, stopWeb = run(t, c.config(filepath.Join(dir, "web"), "web", ""))
		if !serving() {
			t.Error("web does not start from its state")
		}
		until(t, "web is connected after its certificate had expired", func() bool { return web.Link().Connected })

		// A drain: peers are told, then the proxy may go.
		start := time.Now()
		if err := cart1.Drain(t.Context()); err != nil {
			t.Errorf("drain: %v", err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the drain took %v", took)
		}
		if e := web.Table().Endpoints("cart.default:80"); len(e.List) != 0 {
			t.Errorf("after the drain was acknowledged web still has %+v", e.List)
		}
		stopCart()
		stopWeb()
		c.stop()
	})
}

// TestRealControlPlaneRestart: what didn't change isn't sent again after a
// restart of either side.
func TestRealControlPlaneRestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newRealControl(t)
		c.apply(cart)
		l, stop := run(t, c.config(dir, "web", c.token("web")))
		_, done := ask(l, HostKey("cart"), DestinationKey("cart.default:80"), EndpointsKey("cart.default:80"), HostKey("nothing"))
		<-done
		until(t, "all is known", func() bool { return l.Table().Host("nothing") != nil && l.Table().Host("cart") != nil })
		before := l.Table()
		c.stop()
		time.Sleep(2 * time.Second)
		if l.Link().Connected {
			t.Error("connected to nothing")
		}
		c.start()
		until(t, "connected again", func() bool { return l.Link().Connected })
		time.Sleep(2 * time.Second)
		if after := l.Table(); after != before {
			t.Errorf("the table was changed by a restart: version %d, then %d", before.Version, after.Version)
		}
		stop()
		time.Sleep(time.Second)
		l, stop = run(t, c.config(dir, "web", ""))
		before = l.Table()
		until(t, "connected after the proxy's restart", func() bool { return l.Link().Connected })
		time.Sleep(2 * time.Second)
		if after := l.Table(); after != before {
			t.Errorf("the table was changed by the proxy's restart: version %d, then %d", before.Version, after.Version)
		}
		var hosts []string
		for name := range l.Table().Hosts() {
			hosts = append(hosts, name)
		}
		slices.Sort(hosts)
		if !slices.Equal(hosts, []string{"cart", "nothing"}) {
			t.Errorf("hosts %q", hosts)
		}
		stop()
		c.stop()
	})
}
