package push

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/ca/join"
	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// world is a control plane in memory: store, graph and server, without TLS. It
// runs in real time and in a synctest bubble alike.
type world struct {
	t        *testing.T
	store    *store.Memory
	objects  *store.Objects
	ca       *ca.CA
	tokens   *join.Tokens
	server   *Server
	grpc     *grpc.Server
	listener *bufconn.Listener
	all      sync.WaitGroup
	stop     context.CancelFunc

	mu       sync.Mutex
	rejected map[string]string

	shares map[string]func(*control.Shares) // by the names of proxies to come
	hold   chan struct{}                    // of proxies to come
}

func newWorld(t *testing.T) *world {
	t.Helper()
	authority, err := ca.Open(ca.Config{TrustDomain: "mesh.local", Keys: new(ca.MemoryKeys), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store.NewMemory(), ca: authority}
	w.objects = store.NewObjects(w.store)
	w.tokens = &join.Tokens{Store: w.store, Now: time.Now}
	w.start()
	return w
}

// start begins a server on the world's store; restart is stop and start.
func (w *world) start() {
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	w.rejected = map[string]string{}
	w.server = New(Config{CA: w.ca, Tokens: w.tokens, Objects: w.objects, Log: log, Rejected: func(n mesh.Name, role, reason string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.rejected[n.String()] = reason
	}})
	w.grpc = grpc.NewServer(append(Options(), grpc.Creds(fakeTLS{}))...)
	w.server.Register(w.grpc)
	w.listener = bufconn.Listen(1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	builder := graph.NewBuilder("mesh.local")
	server := w.server
	w.all.Go(func() { w.grpc.Serve(w.listener) })
	w.all.Go(func() { server.Run(ctx) })
	w.all.Go(func() {
		store.Follow(ctx, w.objects, store.ObjectsPrefix, func(_ bool, c store.Changes) {
			var changes []graph.Change
			for _, e := range c.Events {
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
			r := builder.Apply(uint64(c.Revision), changes)
			server.Publish(r.Snapshot, &r.Changed)
		})
	})
}

func (w *world) close() {
	w.stop()
	w.grpc.Stop()
	w.all.Wait()
}

func (w *world) apply(text string) {
	w.t.Helper()
	docs, err := object.Decode("test", []byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range docs {
		if _, _, err := w.objects.Apply(w.t.Context(), d.Object, false); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) workload(name string) *v1alpha1.Workload {
	o, err := w.objects.Fetch(w.t.Context(), object.Workload, "default", name)
	if err != nil {
		return nil
	}
	return o.(*v1alpha1.Workload)
}

// grant lets an identity serve services, as a redeemed token does.
func (w *world) grant(account string, services ...string) {
	w.t.Helper()
	token, _, err := w.tokens.Create(w.t.Context(), w.ca.Roots()[0], join.Grant{Identity: id(account), Services: services}, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.tokens.Redeem(w.t.Context(), token.Reveal()); err != nil {
		w.t.Fatal(err)
	}
}

// id is an identity of namespace default, or of another: "NAMESPACE/ACCOUNT".
func id(account string) identity.ID {
	if namespace, account, ok := strings.Cut(account, "/"); ok {
		return identity.ID{TrustDomain: "mesh.local", Namespace: namespace, ServiceAccount: account}
	}
	return identity.ID{TrustDomain: "mesh.local", Namespace: "default", ServiceAccount: account}
}

// fakeTLS stands for a TLS handshake: the client says who it is in one line, its
// SPIFFE id and its unique id, if it has one.
type fakeTLS struct{ uri string }

func (f fakeTLS) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	_, err := fmt.Fprintln(c, f.uri)
	return c, credentials.TLSInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, err
}

func (f fakeTLS) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, nil, err
	}
	info := credentials.TLSInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	if uri := strings.TrimSpace(line); uri != "" {
		uri, unique, _ := strings.Cut(uri, " ")
		u, err := url.Parse(uri)
		if err != nil {
			return nil, nil, err
		}
		info.State = tls.ConnectionState{PeerCertificates: []*x509.Certificate{{URIs: []*url.URL{u}, Subject: pkix.Name{SerialNumber: unique}, NotAfter: time.Now().Add(time.Hour)}}}
	}
	return &readConn{c, r}, info, nil
}

func (f fakeTLS) Info() credentials.ProtocolInfo          { return credentials.ProtocolInfo{} }
func (f fakeTLS) Clone() credentials.TransportCredentials { return f }
func (f fakeTLS) OverrideServerName(string) error         { return nil }

type readConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *readConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// proxy is a simulated proxy. By default it takes every update.
type proxy struct {
	w      *world
	conn   *grpc.ClientConn
	stream grpc.ClientStream
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed

	mu      sync.Mutex
	have    map[string]*control.Resource
	updates [][]string // the keys of each update
	version uint64
	refused string
	drained bool
	judge   func(*control.Update) string // "" takes it
	shares  func(*control.Shares)        // nil ignores them
	hold    chan struct{}                // answers wait until it is closed
	sendMu  sync.Mutex
}

type option func(*control.Hello)

func serves(service string, port uint16, app, mesh string) option {
	return func(h *control.Hello) {
		h.Registrations = append(h.Registrations, control.Registration{Service: service, Port: port, App: addrPort(app), Mesh: addrPort(mesh), Protocol: view.HTTP})
	}
}

func (w *world) connect(account, name string, options ...option) *proxy {
	w.t.Helper()
	return w.connectAs(account, "", name, options...)
}

// connectAs is connect with a certificate that has a unique id.
func (w *world) connectAs(account, unique, name string, options ...option) *proxy {
	w.t.Helper()
	uri := ""
	if account != "" {
		uri = strings.TrimSpace(id(account).String() + " " + unique)
	}
	conn, err := grpc.NewClient("passthrough:test", grpc.WithTransportCredentials(fakeTLS{uri}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.listener.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{w: w, conn: conn, cancel: cancel, done: make(chan struct{}), hold: w.hold, have: map[string]*control.Resource{}}
	p.stream, err = conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, control.MethodDiscover)
	if err != nil {
		w.t.Fatal(err)
	}
	h := &control.Hello{Name: name, Namespace: "default", Version: "test", Role: view.Sidecar, UID: name + "-uid", PID: 1}
	for _, o := range options {
		o(h)
	}
	if p.shares = w.shares[name]; p.shares != nil {
		h.Shares = true
	}
	p.say(&control.ProxyMessage{Hello: h})
	go p.read()
	return p
}

func (p *proxy) say(m *control.ProxyMessage) {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	out := control.EncodeProxyMessage(m)
	p.stream.SendMsg(&out) // an error is read's to see
}

func (p *proxy) read() {
	defer close(p.done)
	for {
		var in []byte
		if p.err = p.stream.RecvMsg(&in); p.err != nil {
			return
		}
		m, err := control.DecodeControlMessage(in)
		if err != nil {
			p.err = err
			return
		}
		p.mu.Lock()
		var answer *control.Ack
		switch {
		case m.Refused != nil:
			p.refused = m.Refused.Reason
		case m.Drained:
			p.drained = true
		case m.Shares != nil:
			if p.shares == nil {
				p.err = errors.New("shares for a proxy that doesn't understand them")
				return
			}
			p.shares(m.Shares)
		case m.Update != nil:
			var keys []string
			for i := range m.Update.Resources {
				keys = append(keys, m.Update.Resources[i].Key)
			}
			p.updates = append(p.updates, keys)
			answer = &control.Ack{Nonce: m.Update.Nonce}
			if p.judge != nil {
				answer.Error = p.judge(m.Update)
			}
			if answer.Error == "" {
				for i := range m.Update.Resources {
					r := m.Update.Resources[i]
					p.have[r.Key] = &r
				}
				p.version = m.Update.Version
			}
		}
		hold := p.hold
		p.mu.Unlock()
		if answer != nil {
			if hold != nil {
				<-hold
			}
			p.say(&control.ProxyMessage{Ack: answer})
		}
	}
}

func (p *proxy) subscribe(keys ...string) {
	p.say(&control.ProxyMessage{Subscribe: &control.Subscribe{Add: keys}})
}

func (p *proxy) status(s control.Status) { p.say(&control.ProxyMessage{Status: &s}) }

func (p *proxy) get(key string) *control.Resource {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.have[key]
}

// endpoints are the addresses a proxy knows for a service port, nil when it has
// no answer.
func (p *proxy) endpoints(key string) []string {
	r := p.get(control.KeyEndpointsPart + key)
	if r == nil || r.Endpoints == nil {
		return nil
	}
	out := []string{}
	for _, e := range r.Endpoints.List {
		out = append(out, e.Address.String())
	}
	return out
}

func (p *proxy) close() {
	p.cancel()
	p.conn.Close()
	<-p.done
}

// eventually waits until cond holds; in a bubble the time is virtual.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
