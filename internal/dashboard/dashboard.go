package dashboard

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/telemetry"
)

// Mesh is what the control plane says about the mesh; *client.Client is one.
type Mesh interface {
	Status(ctx context.Context) (*client.MeshStatus, error)
	Check(ctx context.Context) (*client.CheckReport, error)
	Proxies(ctx context.Context) ([]client.Proxy, error)
	ProxyDump(ctx context.Context, namespace, name string) (json.RawMessage, error)
	Endpoints(ctx context.Context, service string) (*client.Endpoints, error)
	List(ctx context.Context, r client.Resource, namespace string) (*client.List, error)
}

// Signals are the golden signals; *query.Engine is one.
type Signals interface {
	Stat(ctx context.Context, window time.Duration) (telemetry.Stat, error)
	Edges(ctx context.Context, window time.Duration) (telemetry.Edges, error)
	StatAndEdges(ctx context.Context, window time.Duration) (telemetry.Stat, telemetry.Edges, error)
	Chart(ctx context.Context, c telemetry.Chart) (telemetry.Series, error)
}

// Config says what to show.
type Config struct {
	Mesh    Mesh
	Signals Signals
	// Door says who somebody is; nil lets in whoever reaches the address.
	Door *Door
	// Prometheus serves /api/v1/, Prometheus' query API; none when nil.
	Prometheus http.Handler
	// Hosts are names, besides those of the loopback interface, under which a
	// browser may ask: where a reverse proxy in front says who may.
	Hosts []string
	// Refresh is the time between two live updates (DefaultRefresh when zero).
	Refresh time.Duration
	Logger  *slog.Logger
}

// Times and bounds.
const (
	// DefaultRefresh is the time between two live updates.
	DefaultRefresh = 2 * time.Second

	window       = time.Minute      // of the golden signals shown
	checkEvery   = 10 * time.Second // how often `check` runs for open pages
	gatherLimit  = 5 * time.Second  // to gather one overview
	answerLimit  = 15 * time.Second // to answer any other question
	maxViewers   = 64               // live streams at once
	writeTimeout = 10 * time.Second // for one event to a slow browser
	heartbeat    = 15 * time.Second
)

// Dashboard is the handler of everything under /. It is safe for concurrent use.
type Dashboard struct {
	config  Config
	handler http.Handler
	live    *live
	check   lastCheck
}

// New makes a dashboard. Run must be running for live updates to come.
func New(c Config) *Dashboard {
	if c.Refresh <= 0 {
		c.Refresh = DefaultRefresh
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Dashboard{config: c}
	d.live = newLive(c.Refresh, func(ctx context.Context) *event { return &event{whole: d.overview(ctx)} })
	d.live.who = c.Door.who

	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/me", d.serveMe)
	mux.HandleFunc("GET /api/overview", d.serveOverview)
	mux.HandleFunc("GET /api/events", d.live.serve)
	mux.HandleFunc("GET /api/check", d.serveCheck)
	mux.HandleFunc("GET /api/stat", d.serveStat)
	mux.HandleFunc("GET /api/edges", d.serveEdges)
	mux.HandleFunc("GET /api/services/{namespace}/{name}", d.serveService)
	mux.HandleFunc("GET /api/proxies/{namespace}/{name}", d.serveProxy)
	mux.HandleFunc("GET /api/chart", d.serveChart)
	if c.Prometheus != nil {
		mux.Handle("/api/v1/", whole(c.Prometheus))
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, r.Method+" "+r.URL.Path+" is not part of the dashboard's API")
	})
	// The pages themselves are the same for everybody, and in them one logs in.
	all := http.NewServeMux()
	all.HandleFunc("GET /api/ways", d.serveWays)
	all.HandleFunc("POST /api/login", d.serveLogin)
	if c.Door != nil && c.Door.SignIn != nil {
		all.HandleFunc("GET "+SignInPath, d.serveSignIn)
		all.HandleFunc("GET "+SignInReturn, d.serveSignedIn)
	}
	all.HandleFunc("POST /api/logout", d.serveLogout)
	all.Handle("/api/", d.door(mux))
	all.Handle("/", assets())
	d.handler = guard{hosts: c.Hosts, next: all}
	return d
}

// ServeHTTP answers one request.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.handler.ServeHTTP(w, r) }

// Run gathers what open pages show, while there are any, until the context
// ends; then it ends their streams.
func (d *Dashboard) Run(ctx context.Context) { d.live.run(ctx) }
