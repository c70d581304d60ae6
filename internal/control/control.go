package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/ca/join"
	"tulle.dev/tulle/internal/control/api"
	"tulle.dev/tulle/internal/control/audit"
	"tulle.dev/tulle/internal/control/elect"
	"tulle.dev/tulle/internal/control/federation"
	"tulle.dev/tulle/internal/control/health"
	"tulle.dev/tulle/internal/control/keys"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/control/push"
	"tulle.dev/tulle/internal/control/status"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/control/trust"
	"tulle.dev/tulle/internal/dashboard"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
)

const (
	// APITokenFile is the file of the data directory with the token for the
	// API over TCP.
	APITokenFile = "api-token"
	// AuditFile is the file of the data directory with every change that was made
	// over the API.
	AuditFile = "audit.log"
	// RootChangeFile is the file of the data directory in which it is kept, while the
	// root is being changed, which proxies there are.
	RootChangeFile = "root-change.json"
	// IssuerKeysFile is the file of the data directory with the public keys of the
	// issuers whose tokens are believed, as they were fetched last.
	IssuerKeysFile = "issuer-keys.json"

	// JWTKeysFile is the file of the data directory in which it is kept which keys of
	// JWT-SVIDs there are; the keys themselves are with the CA's.
	JWTKeysFile = "jwt-keys.json"

	stopTimeout  = 3 * time.Second
	ownRetry     = 10 * time.Second
	firstTimeout = 15 * time.Second
)

// Control is one control plane.
type Control struct {
	config Config
}

// New checks the configuration; nothing is opened or started yet.
func New(c Config) (*Control, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := c.fill(); err != nil {
		return nil, err
	}
	return &Control{config: c}, nil
}

// Run opens everything and serves until the context ends, then stops in order.
// It returns nil after an ordinary end.
func (c *Control) Run(ctx context.Context) (err error) {
	dir := c.config.DataDir
	if err := private(dir); err != nil {
		return err
	}
	unlock, err := store.Lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	// Addresses first: a taken port is said before anything is started.
	tcp, err := listenTCP("--listen", c.config.Listen)
	if err != nil {
		return err
	}
	defer closeListener(tcp)
	web, err := listenTCP("--dashboard", c.config.Dashboard)
	if err != nil {
		return err
	}
	defer closeListener(web)
	shown, err := c.config.openWeb()
	if err != nil {
		return err
	}
	if err := c.config.checkWeb(web, shown); err != nil {
		return err
	}
	local, err := listenUnix(filepath.Join(dir, ControlSocket))
	if err != nil {
		return err
	}
	defer closeListener(local)
	proxies, err := listenUnix(filepath.Join(dir, ProxySocket))
	if err != nil {
		return err
	}
	defer closeListener(proxies)
	authority, signs, err := c.openCA()
	if err != nil {
		return err
	}
	defer signs.close()
	token, err := apiToken(filepath.Join(dir, APITokenFile))
	if err != nil {
		return err
	}
	s, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := s.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close the store: %w", cerr)
		}
	}()
	if err := c.agreeOnRoot(ctx, s, authority); err != nil {
		return err
	}
	return c.serve(ctx, &parts{authority: authority, signs: signs, store: s, tcp: tcp, web: web, shown: shown, local: local, proxies: proxies, token: token})
}

// private makes the data directory, or one that is there, the user's alone. A
// directory with other things in it, such as /tmp or a home, stays as it is: its
// mode is not ours to change.
func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("the data directory: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("the data directory: %w", err)
	}
	ours := map[string]bool{"lock": true, "ca": true, "etcd": true, "tsdb": true, "logs": true, "workloads": true, "gateways": true,
		APITokenFile: true, AuditFile: true, RootChangeFile: true, IssuerKeysFile: true, JWTKeysFile: true, ControlSocket: true, ProxySocket: true}
	for _, e := range entries {
		if !ours[e.Name()] {
			return fmt.Errorf("the data directory %s is open to other users (%s) and holds other things (%s): choose a directory of its own with --data-dir, or close it with chmod 700", dir, info.Mode(), e.Name())
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("the data directory: %w", err)
	}
	return nil
}

// rootKey is where replicas agree on the CA's root.
const rootKey = "/tulle/root"

// agreeOnRoot makes sure that all replicas on one external etcd have the same
// root: otherwise their proxies would not trust each other.
func (c *Control) agreeOnRoot(ctx context.Context, s store.Store, authority *ca.CA) error {
	if len(c.config.Etcd.Endpoints) == 0 {
		return nil
	}
	pin := authority.Pin()
	mine := hex.EncodeToString(pin[:])
	if _, err := s.Put(ctx, rootKey, []byte(mine), 0, 0); err == nil {
		return nil
	} else if !errors.Is(err, store.ErrConflict) {
		return err
	}
	it, err := s.Get(ctx, rootKey)
	if err != nil {
		return err
	}
	if string(it.Value) == mine {
		return nil
	}
	// While the root is being changed by hand, both are trusted.
	for _, root := range authority.Roots() {
		if sum := sha256.Sum256(root); string(it.Value) == hex.EncodeToString(sum[:]) {
			if _, err := s.Put(ctx, rootKey, []byte(mine), it.Revision, 0); err != nil && !errors.Is(err, store.ErrConflict) {
				return err
			}
			return nil
		}
	}
	return fmt.Errorf("the mesh in this etcd has another CA root (SHA-256 %.16s…) than this control plane (%.16s…): start it with the same --ca-issuer, --ca-key and --ca-roots, or with a copy of the first one's DATA-DIR/ca", it.Value, mine)
}

func closeListener(l net.Listener) {
	if l != nil {
		l.Close()
	}
}

// parts are what Run opened for serve.
type parts struct {
	authority                *ca.CA
	signs                    *signs
	store                    store.Store
	tcp, web, local, proxies net.Listener
	token                    string
	shown                    *webCertificate // nil without TLS
}

func (c *Control) openStore(ctx context.Context) (store.Store, error) {
	e := c.config.Etcd
	if len(e.Endpoints) == 0 {
		return store.StartEmbedded(ctx, filepath.Join(c.config.DataDir, "etcd"), c.config.EtcdCommand, c.config.Log)
	}
	config := store.EtcdConfig{Endpoints: e.Endpoints}
	if strings.HasPrefix(e.Endpoints[0], "https://") {
		var err error
		if config.TLS, err = store.LoadTLS(e.CAFile, e.CertFile, e.KeyFile); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, firstTimeout)
	defer cancel()
	return store.OpenEtcd(ctx, config)
}

// apiToken reads the API's token for remote CLIs, or makes one.
func apiToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(data))) >= 26 {
		return strings.TrimSpace(string(data)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the API's token: %w", err)
	}
	token := rand.Text()
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("the API's token: %w", err)
	}
	return token, nil
}

// serve wires the parts and runs them until the context ends.
func (c *Control) serve(ctx context.Context, p *parts) error {
	log := c.config.Log
	started := time.Now()
	lastGood := store.NewLastGood(p.store)
	objects := store.NewObjects(lastGood)
	tokens := &join.Tokens{Store: p.store, Now: time.Now}
	replica := rand.Text()[:12]
	elector := elect.New(p.store, replica)
	writer := status.New(objects, elector.Leader, log)
	writer.Alone = len(c.config.Etcd.Endpoints) == 0
	var pusher *push.Server
	var issuers *keys.Fetcher
	foreign := federation.New(federation.Config{Store: p.store, Log: log, Changed: func() { pusher.BundleChanged(); issuers.Again() }})
	attestor, closeAttestor, err := c.attestor(p.authority.TrustDomain())
	if err != nil {
		return err
	}
	defer closeAttestor()
	pusher = push.New(push.Config{CA: p.authority, Attestor: attestor, Foreign: foreign.Bundles, Tokens: tokens, Objects: objects, Replica: replica, Log: log, Rejected: writer.Reject,
		Standing: func(n mesh.Name, s push.Standing) { writer.Stands(n, s.Taken, s.Away, s.Lacks) }})
	changes := newLoop(lastGood, p.authority.TrustDomain(), pusher, writer, log)
	var f *facts
	issuers = keys.New(keys.Config{File: filepath.Join(c.config.DataDir, IssuerKeysFile), Changed: changes.rekey, Log: log,
		TrustDomain: func(name string) ([]byte, error) { return f.domainKeys(name) }})
	changes.judge(issuers)
	changes.foreign = foreign

	own := new(identity.Credentials)
	if err := renewOwn(p.authority, own); err != nil {
		return err
	}
	bundle := &federation.Endpoint{CA: p.authority}
	if bundle.Tokens, err = c.openTokens(p.authority.TrustDomain(), p.signs, p.store, bundle.Notice); err != nil {
		return err
	}
	bundle.Tokens.Begin(ctx)
	root := trust.New(trust.Config{CA: p.authority, Proxies: pusher.Trust, Several: len(c.config.Etcd.Endpoints) > 0, Log: log, Dwell: bundle.Dwell,
		File: filepath.Join(c.config.DataDir, RootChangeFile),
		Changed: func() error {
			defer pusher.BundleChanged()
			return renewOwn(p.authority, own)
		}})
	mounted := c.config.CAFiles.secretOf(root.Offer, log)
	f = &facts{trust: root, config: &c.config, started: started, ca: p.authority, jwt: bundle.Tokens, foreign: foreign, bundle: bundle, credentials: own, tokens: tokens, store: p.store, push: pusher, loop: changes}
	f.at = Addresses{ControlSocket: p.local.Addr().String(), ProxySocket: p.proxies.Addr().String()}
	if p.tcp != nil {
		f.at.Listen = p.tcp.Addr().String()
	}
	if p.web != nil {
		f.at.Dashboard = p.web.Addr().String()
	}
	m, err := openMetrics(&c.config, f, elector.Leader)
	if err != nil {
		return err
	}
	defer m.close()
	f.more = append(f.more, m.check, p.signs.check, mounted.check, f.checkTokens,
		federatedCheck(foreign, func() bool { return len(f.Snapshot().Settings.Federated) > 0 }))

	record, err := audit.Open(filepath.Join(c.config.DataDir, AuditFile))
	if err != nil {
		return err
	}
	defer record.Close()
	book := &operator.Book{Operators: operators(objects), Now: time.Now, Holder: sha256.Sum256([]byte(p.token)), Admin: api.Admin(p.authority.TrustDomain())}
	sessions := &operator.Sessions{Book: book}
	handler := api.New(api.Config{Objects: objects, Mesh: f, Stories: f, Signals: m.engine, Audit: record, Log: log, Logins: c.config.logins(f.at.Dashboard, p.shown, sessions)})
	signIn, err := c.config.SignIn.open()
	if err != nil {
		return err
	}
	board := dashboard.New(dashboard.Config{Mesh: handler, Signals: m.engine, Prometheus: m.engine.Handler(), Logger: log,
		Hosts: slices.Concat(c.config.DashboardHosts, c.config.SignIn.host(), p.shown.names()), Door: &dashboard.Door{Book: book, Sessions: sessions, SignIn: signIn, LoggedIn: handler.LoggedIn}})

	// Two groups: what serves (stopped first), and what it stands on.
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBase()
	standing, base := errgroup.WithContext(base)
	run := func(part func(context.Context)) {
		standing.Go(func() error { part(base); return nil })
	}
	run(elector.Run)
	run(writer.Run)
	run(p.authority.Run)
	run(bundle.Tokens.Run)
	run(root.Run)
	run(mounted.run)
	run(foreign.Run)
	run(issuers.Run)
	run(m.scraper.Run)
	run(board.Run)
	run(health.New(objects, elector.Leader, log).Run)
	run(func(ctx context.Context) { keepOwn(ctx, p.authority, own, c.config.Log.Error) })
	standing.Go(func() error { return ignoreCanceled(changes.run(base)) })
	standing.Go(func() error { return pusher.Run(base) })

	g := grpc.NewServer(append(push.Options(), grpc.Creds(done{}))...)
	pusher.Register(g)
	// Proxies offer h2 alone; who offers both, such as those who read our trust
	// bundle, gets the plain HTTP server.
	tlsConfig := own.JoinServerConfig(protocolHTTP, protocolGRPC)
	localAPI := httpServer(api.Local(handler.Handler()), log)
	localAPI.ConnContext = api.LocalContext
	bundle.Next = api.Remote(book, handler.Handler())
	remoteAPI := httpServer(bundle, log)
	localAPI.RegisterOnShutdown(handler.Stop)
	remoteAPI.RegisterOnShutdown(handler.Stop)
	webServer := httpServer(board, log)
	serving, stopping := errgroup.WithContext(ctx)
	var splits []*split
	for _, l := range []net.Listener{p.proxies, p.tcp} {
		if l == nil {
			continue
		}
		s := newSplit(l, tlsConfig, log)
		splits = append(splits, s)
		serving.Go(func() error { return ignoreClosed(g.Serve(s.grpc)) })
		serving.Go(func() error { return ignoreClosed(remoteAPI.Serve(s.http)) })
	}
	serving.Go(func() error { return ignoreClosed(localAPI.Serve(p.local)) })
	if p.web != nil {
		serving.Go(func() error { return ignoreClosed(p.shown.serve(webServer, p.web, own)) })
	}
	first, cancel := context.WithTimeout(stopping, firstTimeout)
	changes.await(first, 1)
	cancel()
	log.Info("control plane ready", "dataDir", c.config.DataDir, "listen", f.at.Listen, "dashboard", f.at.Dashboard, "trustDomain", string(p.authority.TrustDomain()))
	if c.config.Ready != nil && stopping.Err() == nil {
		c.config.Ready(f.at)
	}
	select {
	case <-stopping.Done():
	case <-base.Done():
	}
	log.Info("control plane stopping")
	down, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	stopBase() // ends the proxies' conversations, which gRPC's stop waits for
	for _, s := range []*http.Server{localAPI, remoteAPI, webServer} {
		if s.Shutdown(down) != nil {
			s.Close()
		}
	}
	graceful := make(chan struct{})
	go func() { g.GracefulStop(); close(graceful) }()
	select {
	case <-graceful:
	case <-down.Done():
	}
	g.Stop()
	<-graceful
	for _, s := range splits {
		s.close()
	}
	return errors.Join(serving.Wait(), standing.Wait())
}

// operators lists the Operator objects.
func operators(objects *store.Objects) func(context.Context) ([]*v1alpha1.Operator, error) {
	return func(ctx context.Context) ([]*v1alpha1.Operator, error) {
		list, _, err := objects.FetchAll(ctx, object.Operator, "")
		if err != nil {
			return nil, err
		}
		var out []*v1alpha1.Operator
		for _, o := range list {
			if op, ok := o.(*v1alpha1.Operator); ok {
				out = append(out, op)
			}
		}
		return out, nil
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// renewOwn gives the control plane itself a new key and certificate.
func renewOwn(authority *ca.CA, own *identity.Credentials) error {
	svid, bundle, err := authority.Credentials(identity.ControlPlane(authority.TrustDomain()), ca.MaxTTL)
	if err != nil {
		return fmt.Errorf("the control plane's own certificate: %w", err)
	}
	own.SetBundle(bundle)
	own.SetSVID(svid)
	return nil
}

// keepOwn renews the control plane's certificate at half its life, or when the
// clock has left its time.
func keepOwn(ctx context.Context, authority *ca.CA, own *identity.Credentials, complain func(string, ...any)) {
	t := time.NewTicker(ownRetry)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s := own.SVID()
		now := time.Now()
		if now.Before(s.Leaf.NotBefore.Add(s.Life()/2)) && !now.Before(s.Leaf.NotBefore) {
			continue
		}
		if err := renewOwn(authority, own); err != nil {
			complain("the control plane's certificate can't be renewed", "error", err)
		}
	}
}
