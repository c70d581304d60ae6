package push

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/ca/join"
	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// Times and bounds.
const (
	// LeaseTTL is how long a registration outlives its proxy's conversation.
	LeaseTTL = 15 * time.Second
	// maxStreams bounds the conversations of one control plane.
	maxStreams = 20_000
	// maxSubscriptions bounds what one proxy is kept up to date about.
	maxSubscriptions = control.MaxSubscriptions
	// maxUpdate is the size at which an update is cut; the rest follows.
	maxUpdate = 2 << 20
	// helloTimeout bounds the wait for a proxy's first message, ackTimeout for
	// its answer to an update.
	helloTimeout = 10 * time.Second
	ackTimeout   = 30 * time.Second
	// maxAge is when a conversation is ended so that it begins again, perhaps
	// with another replica; each has up to a fifth less.
	maxAge      = time.Hour
	certifyTime = 10 * time.Second
	// joinsAtOnce bounds the join tokens that are looked up and spent at a time;
	// others wait. Thousands of requests at once would all be late at the store,
	// where some would spend their token and get nothing for it.
	joinsAtOnce  = 64
	keepaliveGap = 10 * time.Second
)

// Config says what a server works with.
type Config struct {
	CA      *ca.CA
	Tokens  *join.Tokens
	Objects *store.Objects
	// Attestor says whose a Kubernetes service account token is. May be nil: then
	// none is taken.
	Attestor Attestor
	// Foreign are the roots of other trust domains, in order of their names. May be
	// nil.
	Foreign func() []view.TrustDomain
	// Replica names this control plane among several.
	Replica string
	Now     func() time.Time
	Log     *slog.Logger
	// Rejected is called when what a proxy last said about its own resources
	// (accepted, or the reason why not) changed. May be nil.
	Rejected func(proxy mesh.Name, role string, reason string)
	// Standing is called when it changed how a gateway stands with its proxy. It
	// must not block. May be nil.
	Standing func(gateway mesh.Name, s Standing)
}

// Attestor finds out who brings a proof that somebody else made. Safe for
// concurrent use.
type Attestor interface {
	// Attest returns whose the proof is; attest.ErrRefused when it is nobody's.
	Attest(ctx context.Context, proof string) (identity.ID, error)
}

// Server is the proxies' side of the control plane. Publish belongs to one
// goroutine (the control plane's loop); everything else may be called from
// anywhere. Run ends everything it started.
type Server struct {
	config   Config
	replica  string
	started  time.Time
	snapshot atomic.Pointer[mesh.Snapshot]
	cache    cache
	registry registry

	greetings greetings
	shares    shares

	drains sync.WaitGroup

	mu       sync.Mutex
	streams  map[*stream]bool
	byName   map[proxyKey]*stream
	index    map[mesh.Name]map[*stream]map[string]bool // service → stream → resource keys
	lately   map[proxyKey]*record                      // proxies that are gone
	ends     map[identity.ID]time.Time                 // when the last certificate of each ends; at most maxStreams
	stopping bool
	joins    chan struct{} // one for each token that is being redeemed
	stop     chan struct{}
	ready    chan struct{} // closed at the first snapshot
}

// proxyKey names a proxy: a workload's or a gateway's.
type proxyKey struct {
	mesh.Name
	gateway bool
}

// New makes a server.
func New(c Config) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Replica == "" {
		c.Replica = rand.Text()[:12]
	}
	s := &Server{
		config: c, replica: c.Replica, started: c.Now(),
		streams: map[*stream]bool{}, byName: map[proxyKey]*stream{},
		index: map[mesh.Name]map[*stream]map[string]bool{}, lately: map[proxyKey]*record{}, ends: map[identity.ID]time.Time{},
		joins: make(chan struct{}, joinsAtOnce), stop: make(chan struct{}), ready: make(chan struct{}),
	}
	s.registry.init(s)
	s.greetings.init(s)
	s.shares.init(s)
	return s
}

// Options are the gRPC server options Tulle's messages need: bytes as they are,
// bounded, with keep-alive.
func Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.MaxRecvMsgSize(control.MaxMessage),
		grpc.MaxSendMsgSize(control.MaxMessage),
		grpc.MaxConcurrentStreams(16), // a proxy needs two
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveGap, Timeout: keepaliveGap / 2}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(10 * time.Second),
	}
}

// rawCodec hands messages over as bytes: internal/wire/control encodes them.
type rawCodec struct{}

var _ encoding.CodecV2 = rawCodec{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// Register adds the service to a gRPC server made with Options.
func (s *Server) Register(g *grpc.Server) {
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: "tulle.control.v1.Control",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Certify", Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in []byte
			if err := dec(&in); err != nil {
				return nil, err
			}
			out, err := s.certify(ctx, in)
			return &out, err
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Discover", ServerStreams: true, ClientStreams: true, Handler: func(_ any, gs grpc.ServerStream) error {
			return s.discover(gs)
		}}},
		Metadata: "api/proto/control.proto",
	}, nil)
}

// storeStatus says whether an error is the store's fault (try again) or the caller's.
func storeStatus(err error, otherwise codes.Code) error {
	switch {
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrFull),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.Error(codes.Unavailable, err.Error())
	}
	return status.Error(otherwise, err.Error())
}

// Publish makes a snapshot the one that proxies are told about. It doesn't wait
// for them.
func (s *Server) Publish(snap *mesh.Snapshot, changed *graph.Changed) {
	s.mu.Lock()
	first := s.snapshot.Load() == nil
	s.snapshot.Store(snap)
	defer func() {
		s.mu.Unlock()
		if first {
			close(s.ready)
		}
	}()
	if changed.All {
		for st := range s.streams {
			if denied(snap, st.identity) {
				st.replace()
			}
			st.markAll()
		}
		return
	}
	for n := range changed.Services {
		for st, keys := range s.index[n] {
			for key := range keys {
				st.mark(key)
			}
		}
	}
	if len(changed.Services) > 0 {
		s.markProxiesOf(changed.Services)
		// Look-ups of addresses that nobody had may have an answer now.
		for st, keys := range s.index[mesh.Name{}] {
			for key := range keys {
				st.mark(key)
			}
		}
	}
	for k := range changed.Endpoints {
		key := control.KeyEndpointsPart + keyOf(k)
		for st, keys := range s.index[k.Service] {
			if keys[key] {
				st.mark(key)
			}
		}
	}
	for n := range changed.Workloads {
		if st := s.byName[proxyKey{n, false}]; st != nil {
			st.mark(control.KeyProxy)
		}
	}
	for n := range changed.Gateways {
		if st := s.byName[proxyKey{n, true}]; st != nil {
			st.mark(control.KeyProxy)
		}
	}
	for n := range changed.Egress {
		for _, gateway := range []bool{false, true} {
			if st := s.byName[proxyKey{n, gateway}]; st != nil {
				st.mark(control.KeyProxy)
			}
		}
	}
}

// markProxiesOf marks the sidecars whose own listeners name one of some services:
// its protocol, or the policy of those that serve it, may have changed. The caller
// holds mu.
func (s *Server) markProxiesOf(services map[mesh.Name]bool) {
	snap := s.snapshot.Load()
	for k, st := range s.byName {
		w := snap.Workloads[k.Name]
		if k.gateway || w == nil {
			continue
		}
		for i := range w.Outbound {
			if services[w.Outbound[i].To.Service] {
				st.mark(control.KeyProxy)
			}
		}
		for i := range w.Ports {
			if services[w.Ports[i].Service] {
				st.mark(control.KeyProxy)
			}
		}
	}
}

// BundleChanged tells every proxy the roots again.
func (s *Server) BundleChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		st.mark(control.KeyBundle)
	}
}

// Run keeps leases and judges those that ended, until the context ends; then it
// ends every conversation and waits for them.
func (s *Server) Run(ctx context.Context) error {
	err := s.registry.run(ctx)
	s.mu.Lock()
	s.stopping = true
	close(s.stop)
	s.mu.Unlock()
	for {
		s.mu.Lock()
		n := len(s.streams)
		s.mu.Unlock()
		if n == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.drains.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *Server) add(st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return status.Error(codes.Unavailable, "the control plane is stopping")
	}
	if len(s.streams) >= maxStreams {
		return status.Errorf(codes.ResourceExhausted, "%d proxies are connected, more are not taken here", maxStreams)
	}
	if old := s.byName[st.key]; old != nil && old.hello.UID != st.hello.UID {
		return fmt.Errorf("another proxy named %s is connected (process %d): give this one another name", st.key.Name, old.hello.PID)
	} else if old != nil {
		old.replace() // the same process, connected again
	}
	s.streams[st] = true
	s.byName[st.key] = st
	delete(s.lately, st.key)
	return nil
}

func (s *Server) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	if s.byName[st.key] == st {
		delete(s.byName, st.key)
		s.remember(st)
		s.away(st.key.Name, st.key.gateway)
	}
	for key, sub := range st.subs {
		s.unindex(st, key, sub.service)
	}
}

func (s *Server) unindex(st *stream, key string, service mesh.Name) {
	if keys := s.index[service][st]; keys != nil {
		delete(keys, key)
		if len(keys) == 0 {
			delete(s.index[service], st)
			if len(s.index[service]) == 0 {
				delete(s.index, service)
			}
		}
	}
}
