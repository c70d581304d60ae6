package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// stream is one proxy's conversation. Its handler goroutine reads, its sender
// goroutine writes; both work on the fields under mu. subs' membership is also
// read under the server's mu, by Publish; so it changes under both.
type stream struct {
	server   *Server
	grpc     grpc.ServerStream
	key      proxyKey
	identity identity.ID
	unique   string    // the workload's unique id, as its certificate says; "" when it has none
	expires  time.Time // of its certificate
	root     []byte    // key id of the root its certificate is of
	hello    *control.Hello
	since    time.Time
	wake     chan struct{}
	gone     chan struct{} // closed when another conversation takes its place
	goneOnce sync.Once
	draining bool // a drain has begun; under the server's mu

	mu     sync.Mutex
	subs   map[string]*subscription
	held   map[string]uint64 // what the proxy said it holds and hasn't subscribed to yet
	dirty  map[string]bool   // resources to look at again
	marked uint64            // grows with each mark
	done   uint64            // what was marked up to here has been answered
	status control.Status
	flight *flight
	nonce  uint64
	sent   uint64 // snapshot versions
	acked  uint64
	// Of a gateway's: it has taken its own resource, and what was last said of it.
	configured bool
	stood      Standing
	rejected   map[string]string // resource → why the proxy didn't take it
	alone      []string          // resources of a rejected update, sent one by one
	drained    bool              // Drained has to be sent
	parts      map[string]uint64 // limit → its part, to be sent; nil: nothing
	unsaved    bool              // status is still to be written into the workload
}

// subscription is one resource a proxy is kept up to date about.
type subscription struct {
	service mesh.Name
	version uint64 // what the proxy was last sent, 0 nothing
}

// flight is the update that waits for its answer.
type flight struct {
	nonce, version uint64
	keys           []string
	before         []uint64 // the versions the proxy had
	marked         uint64
	at             time.Time
}

func (st *stream) poke() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func (st *stream) mark(key string) {
	st.mu.Lock()
	if st.subs[key] != nil {
		st.dirty[key] = true
		st.marked++
	}
	st.mu.Unlock()
	st.poke()
}

func (st *stream) markAll() {
	st.mu.Lock()
	for key := range st.subs {
		st.dirty[key] = true
	}
	st.marked++
	st.mu.Unlock()
	st.poke()
}

func (st *stream) replace() { st.goneOnce.Do(func() { close(st.gone) }) }

// refuse ends a conversation with a reason the proxy logs, before its sender
// has begun: a gRPC stream has one writer.
func refuse(gs grpc.ServerStream, reason string) error {
	out := control.EncodeControlMessage(&control.ControlMessage{Refused: &control.Refused{Reason: reason}})
	gs.SendMsg(&out)
	return status.Error(codes.PermissionDenied, reason)
}

func receive(gs grpc.ServerStream) (*control.ProxyMessage, error) {
	var in []byte
	if err := gs.RecvMsg(&in); err != nil {
		return nil, err
	}
	m, err := control.DecodeProxyMessage(in)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return m, nil
}

// discover is the handler of one conversation.
func (s *Server) discover(gs grpc.ServerStream) error {
	ctx := gs.Context()
	select {
	case <-s.ready:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stop:
		return status.Error(codes.Unavailable, "the control plane is stopping")
	}
	by := peerOf(ctx)
	id := by.id
	if id.IsZero() {
		return status.Error(codes.Unauthenticated, "Discover needs a certificate of this mesh: ask Certify first")
	}
	if denied(s.snapshot.Load(), id) {
		return refuse(gs, id.String()+" is denied: it is in the Mesh object's deniedIdentities")
	}
	// Frames of the stream arrive on their own goroutine, so that the end of
	// anything (context, age, replacement) ends the handler at once.
	messages := make(chan *control.ProxyMessage)
	readErr := make(chan error, 1)
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		for {
			m, err := receive(gs)
			if err != nil {
				readErr <- err
				return
			}
			select {
			case messages <- m:
			case <-stopped:
				return
			}
		}
	}()
	var hello *control.Hello
	select {
	case m := <-messages:
		hello = m.Hello
	case err := <-readErr:
		return ended(err)
	case <-time.After(helloTimeout):
	}
	if hello == nil {
		return status.Error(codes.InvalidArgument, "the first message must be Hello")
	}
	for _, text := range []*string{&hello.Version, &hello.UID, &hello.Mode, &hello.Zone, &hello.Admin} {
		*text = legible(*text)
	}
	st := &stream{
		server: s, grpc: gs, identity: id, unique: by.unique, expires: by.ends, root: by.root, hello: hello, since: s.config.Now(),
		key:  proxyKey{mesh.Name{Namespace: hello.Namespace, Name: hello.Name}, hello.Role == view.Gateway},
		wake: make(chan struct{}, 1), gone: make(chan struct{}),
		subs: map[string]*subscription{}, held: map[string]uint64{}, dirty: map[string]bool{}, rejected: map[string]string{},
	}
	if err := s.registry.admit(ctx, st); err != nil {
		s.config.Log.Warn("refused a proxy", "proxy", st.key.Name.String(), "identity", id.String(), "reason", err)
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			return refuse(gs, err.Error())
		}
		return storeStatus(err, codes.Unavailable)
	}
	for _, h := range hello.Held {
		if len(st.held) < maxSubscriptions {
			st.held[h.Key] = h.Version
		}
	}
	if err := s.add(st); err != nil {
		return refuse(gs, err.Error())
	}
	defer s.registry.left(st)
	defer s.remove(st)
	if err := s.registry.arrived(ctx, st); err != nil {
		return storeStatus(err, codes.Unavailable)
	}
	defer s.shares.left(st)
	s.shares.arrived(st)
	s.subscribe(st, []string{control.KeyProxy, control.KeyBundle})

	sendErr := make(chan error, 1)
	sendCtx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); <-sendErr }()
	go func() { sendErr <- st.send(sendCtx) }()
	age := time.NewTimer(maxAge - rand.N(maxAge/5))
	defer age.Stop()
	for {
		select {
		case m := <-messages:
			if err := s.handle(ctx, st, m); err != nil {
				return err
			}
		case err := <-readErr:
			return ended(err)
		case err := <-sendErr:
			sendErr <- nil
			return err
		case <-st.gone:
			return status.Error(codes.Aborted, "the same proxy has begun another conversation, or its identity is denied")
		case <-age.C:
			return nil // begin again
		case <-s.stop:
			return status.Error(codes.Unavailable, "the control plane is stopping")
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *Server) handle(ctx context.Context, st *stream, m *control.ProxyMessage) error {
	switch {
	case m.Subscribe != nil:
		s.unsubscribe(st, m.Subscribe.Remove)
		if !s.subscribe(st, m.Subscribe.Add) {
			return status.Errorf(codes.ResourceExhausted, "too many subscriptions: at most %d", maxSubscriptions)
		}
	case m.Ack != nil:
		st.answered(m.Ack)
	case m.Status != nil:
		m.Status.Detail = legible(m.Status.Detail)
		st.mu.Lock()
		st.status = *m.Status
		st.mu.Unlock()
		st.standing()
		s.registry.status(ctx, st, *m.Status)
	case m.Greets != nil:
		s.greetings.heard(ctx, st, m.Greets.Ports)
	case m.Demand != nil:
		s.shares.heard(st, m.Demand)
	case m.Hello != nil:
		return status.Error(codes.InvalidArgument, "Hello was said already")
	}
	return nil
}

// answered takes a proxy's answer to an update. What was rejected is sent again
// one by one, so that a bad resource doesn't hold up the others; one that is
// rejected alone waits until it changes.
func (st *stream) answered(a *control.Ack) {
	a.Error = legible(a.Error)
	st.mu.Lock()
	f := st.flight
	if f == nil || f.nonce != a.Nonce {
		st.mu.Unlock()
		return
	}
	st.flight = nil
	before := len(st.rejected)
	switch {
	case a.Error == "":
		st.acked = f.version
		for _, key := range f.keys {
			delete(st.rejected, key)
		}
	case len(f.keys) == 1:
		st.rejected[f.keys[0]] = a.Error
	default:
		for i, key := range f.keys {
			if sub := st.subs[key]; sub != nil {
				sub.version = f.before[i]
				st.alone = append(st.alone, key)
			}
		}
	}
	if len(st.alone) == 0 {
		st.done = max(st.done, f.marked)
	}
	changed := before != len(st.rejected) || a.Error != ""
	reason := st.reason()
	st.mu.Unlock()
	st.poke()
	if a.Error != "" {
		st.server.config.Log.Warn("a proxy rejected an update", "proxy", st.key.Name.String(), "reason", a.Error)
	}
	if changed && st.server.config.Rejected != nil {
		st.server.config.Rejected(st.key.Name, st.role(), reason)
	}
	st.standing()
}

// reason is one line about everything that is rejected. The caller holds mu.
func (st *stream) reason() string {
	keys := make([]string, 0, len(st.rejected))
	for key := range st.rejected {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	const most = 3
	text := ""
	for i, key := range keys {
		if i == most {
			return text + fmt.Sprintf("; and %d more", len(keys)-most)
		}
		if i > 0 {
			text += "; "
		}
		text += key + ": " + st.rejected[key]
	}
	return text
}

func (st *stream) role() string {
	if st.key.gateway {
		return "gateway"
	}
	return "sidecar"
}

// send writes updates until the context ends: whenever something is to be
// looked at and no update is under way, what differs goes out.
func (st *stream) send(ctx context.Context) error {
	timeout := time.NewTimer(ackTimeout)
	defer timeout.Stop()
	for {
		st.mu.Lock()
		waiting := st.flight != nil
		drained := st.drained
		st.drained = false
		parts := st.takeParts()
		var late time.Duration
		if waiting {
			late = ackTimeout - time.Since(st.flight.at)
		}
		st.mu.Unlock()
		if drained {
			out := control.EncodeControlMessage(&control.ControlMessage{Drained: true})
			if err := st.grpc.SendMsg(&out); err != nil {
				return err
			}
		}
		if parts != nil {
			out := control.EncodeControlMessage(&control.ControlMessage{Shares: parts})
			if err := st.grpc.SendMsg(&out); err != nil {
				return err
			}
		}
		if waiting && late <= 0 {
			return status.Errorf(codes.DeadlineExceeded, "no answer to an update in %s", ackTimeout)
		}
		if !waiting {
			out := st.next()
			if out != nil {
				if err := st.grpc.SendMsg(&out); err != nil {
					return err
				}
				continue
			}
			late = time.Hour
		}
		timeout.Reset(late)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-st.wake:
		case <-timeout.C:
		}
	}
}

// next makes the next update, or returns nil when the proxy is up to date.
func (st *stream) next() []byte {
	s := st.server
	snap := s.snapshot.Load()
	st.mu.Lock()
	marked := st.marked
	var keys []string
	single := len(st.alone) > 0
	if single {
		keys, st.alone = st.alone[:1:1], st.alone[1:]
	} else {
		for key := range st.dirty {
			keys = append(keys, key)
		}
		clear(st.dirty)
		slices.SortFunc(keys, compareKeys)
	}
	st.mu.Unlock()
	if len(keys) == 0 {
		st.mu.Lock()
		st.done = max(st.done, marked)
		st.mu.Unlock()
		return nil
	}
	var resources [][]byte
	f := &flight{version: snap.Version, at: time.Now()}
	size := 0
	var rest []string
	for i, key := range keys {
		if size > maxUpdate {
			rest = keys[i:]
			break
		}
		s.reindex(st, snap, key)
		r, ok := s.render(snap, st, key)
		if !ok {
			continue
		}
		st.mu.Lock()
		sub := st.subs[key]
		if sub != nil && sub.version != r.version {
			f.keys, f.before = append(f.keys, key), append(f.before, sub.version)
			sub.version = r.version
			resources = append(resources, r.bytes)
			size += len(r.bytes)
		}
		st.mu.Unlock()
	}
	defer st.standing()
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, key := range rest {
		if st.subs[key] != nil {
			st.dirty[key] = true
		}
	}
	if len(rest) == 0 && !(single && len(st.alone) > 0) {
		f.marked = marked
	}
	if len(resources) == 0 {
		st.done = max(st.done, f.marked)
		st.sent, st.acked = snap.Version, snap.Version
		if len(rest) > 0 || len(st.alone) > 0 {
			st.poke()
		}
		return nil
	}
	st.nonce++
	f.nonce = st.nonce
	st.flight = f
	st.sent = snap.Version
	return control.EncodeUpdate(f.nonce, f.version, resources)
}

// compareKeys puts a proxy's own resources first, then endpoints before the
// destinations that lead to them.
func compareKeys(a, b string) int {
	rank := func(k string) int {
		switch {
		case k == control.KeyBundle:
			return 0
		case k == control.KeyProxy:
			return 1
		case endsInPort(k) && k[0] == 'e':
			return 2
		}
		return 3
	}
	if c := rank(a) - rank(b); c != 0 {
		return c
	}
	if a < b {
		return -1
	}
	return 1
}
