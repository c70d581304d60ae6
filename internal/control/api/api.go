package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/audit"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/telemetry"
)

// Mesh is what the control plane knows beyond objects.
type Mesh interface {
	// Snapshot is the mesh that proxies are told about now, never nil.
	Snapshot() *mesh.Snapshot
	// Await returns when the snapshot has a revision of the store in it, or the
	// context ends.
	Await(ctx context.Context, revision int64)
	Status(ctx context.Context) (*client.MeshStatus, error)
	Check(ctx context.Context) (*client.CheckReport, error)
	Proxies(ctx context.Context) ([]client.Proxy, error)
	// ProxyDump asks a connected proxy's admin listener, over mutual TLS.
	ProxyDump(ctx context.Context, namespace, name string) (json.RawMessage, error)
	// ProxyConnections does the same for the connections it has open.
	ProxyConnections(ctx context.Context, namespace, name string) (json.RawMessage, error)
	CreateJoinToken(ctx context.Context, r client.JoinTokenRequest) (*client.JoinToken, error)
	Identity(ctx context.Context) (*client.Identity, error)
	CreateCertificate(ctx context.Context, r client.CertificateRequest) (*client.Certificate, error)
	CreateJWTSVID(ctx context.Context, r client.JWTSVIDRequest) (*client.JWTSVID, error)
	Bundles(ctx context.Context) (*client.Bundles, error)
	Trust(ctx context.Context) (*client.Trust, error)
	ChangeTrust(ctx context.Context, r client.TrustRequest) (*client.Trust, error)
}

// Signals are the golden signals; telemetry/query's Engine is one.
type Signals interface {
	Stat(ctx context.Context, window time.Duration) (telemetry.Stat, error)
	Edges(ctx context.Context, window time.Duration) (telemetry.Edges, error)
}

// Stories are what the proxies keep of requests that went badly.
type Stories interface {
	Why(ctx context.Context, q story.Query) (*client.Stories, error)
}

// Config says what to serve.
type Config struct {
	Objects *store.Objects
	Mesh    Mesh
	// Stories may be nil: then why answers 503, and tap unless they are Taps as well.
	Stories Stories
	// Signals may be nil: then stat and edges answer 503.
	Signals Signals
	// Logins makes a login link of the dashboard; nil where there is none.
	Logins func(*operator.Who) *client.DashboardLogin
	// Audit records changes; nil records none.
	Audit *audit.Log
	Log   *slog.Logger
}

// API answers the control API's questions: over HTTP (Handler), and as the
// dashboard asks them. Safe for concurrent use.
type API struct {
	config   Config
	watches  chan struct{} // one for each watch under way
	taps     chan struct{} // and for each tap
	stop     chan struct{} // closed by Stop
	stopOnce sync.Once
	minted   mints
}

// New makes an API.
func New(c Config) *API {
	return &API{config: c, watches: make(chan struct{}, maxWatches), taps: make(chan struct{}, maxTaps), stop: make(chan struct{})}
}

// appliedWait bounds how long a write waits until proxies are told about it.
const appliedWait = time.Second

// Status implements dashboard.Mesh.
func (a *API) Status(ctx context.Context) (*client.MeshStatus, error) {
	return a.config.Mesh.Status(ctx)
}

// Check implements dashboard.Mesh.
func (a *API) Check(ctx context.Context) (*client.CheckReport, error) {
	return a.config.Mesh.Check(ctx)
}

// Proxies implements dashboard.Mesh.
func (a *API) Proxies(ctx context.Context) ([]client.Proxy, error) {
	return a.config.Mesh.Proxies(ctx)
}

// ProxyDump implements dashboard.Mesh.
func (a *API) ProxyDump(ctx context.Context, namespace, name string) (json.RawMessage, error) {
	return a.config.Mesh.ProxyDump(ctx, namespace, name)
}

// Endpoints implements dashboard.Mesh.
func (a *API) Endpoints(_ context.Context, service string) (*client.Endpoints, error) {
	p, err := object.ServiceName(service, object.DefaultNamespace)
	if err != nil {
		return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "service: %s", err)
	}
	n := mesh.Name{Name: p[0], Namespace: p[1]}
	s := a.config.Mesh.Snapshot()
	svc := s.Services[n]
	if svc == nil {
		return nil, failure(http.StatusNotFound, client.ReasonNotFound, "there is no Service %s in namespace %s", n.Name, n.Namespace)
	}
	out := &client.Endpoints{Service: n.String(), Addresses: []string{}, Ports: []client.EndpointPort{}}
	for _, addr := range svc.Addresses {
		out.Addresses = append(out.Addresses, addr.String())
	}
	for _, port := range svc.Ports {
		ep := client.EndpointPort{Port: port.Port, Endpoints: []client.Endpoint{}}
		if set := s.Endpoints[mesh.PortKey{Service: n, Port: port.Port}]; set != nil {
			for i := range set.Endpoints {
				e := &set.Endpoints[i]
				c := client.Endpoint{Address: e.Address.String(), Identity: e.Identity.String(), UniqueID: e.UniqueID, Zone: e.Zone, Weight: max(1, e.Weight), Health: healthName(e.Health)}
				if e.Workload.Name != "" {
					c.Workload = e.Workload.String()
				}
				ep.Endpoints = append(ep.Endpoints, c)
			}
		}
		out.Ports = append(out.Ports, ep)
	}
	return out, nil
}

func healthName(h mesh.Health) string {
	return [...]string{mesh.Healthy: "healthy", mesh.Suspect: "suspect", mesh.Unhealthy: "unhealthy", mesh.Draining: "draining"}[h]
}

// List implements dashboard.Mesh.
func (a *API) List(ctx context.Context, r client.Resource, namespace string) (*client.List, error) {
	k := object.LookupResource(r.Group, r.Version, r.Plural)
	if k == nil {
		return nil, unknownResource(r.Group, r.Version, r.Plural)
	}
	if !k.Namespaced {
		namespace = ""
	}
	objects, revision, err := a.config.Objects.FetchAll(ctx, k, namespace)
	if err != nil {
		return nil, err
	}
	out := &client.List{Kind: k.Name + "List", APIVersion: k.APIVersion(), Items: make([]json.RawMessage, 0, len(objects))}
	out.Metadata.ResourceVersion = fmt.Sprint(revision)
	for _, o := range objects {
		data, err := object.Encode(o)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, data)
	}
	return out, nil
}

func unknownResource(group, version, plural string) error {
	if k, err := object.LookupName(plural); err == nil {
		return failure(http.StatusNotFound, client.ReasonNotFound, "%s are not served at %s/%s: their apiVersion is %s", plural, group, version, k.APIVersion())
	}
	return failure(http.StatusNotFound, client.ReasonNotFound, "resource %s of %s/%s is not known", plural, group, version)
}

// failure makes an error that carries its answer.
func failure(code int, reason, format string, args ...any) *client.Status {
	return &client.Status{Kind: "Status", APIVersion: "v1", Result: "Failure", Code: code, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// statusOf turns any error into the answer to give.
func statusOf(err error) *client.Status {
	var s *client.Status
	var invalid *telemetry.InvalidError
	var errs object.Errors
	var denied *operator.DeniedError
	switch {
	case errors.As(err, &denied):
		return failure(http.StatusForbidden, client.ReasonForbidden, "%s", err)
	case errors.As(err, &s):
		if s.Code == 0 {
			s.Code = http.StatusInternalServerError
		}
		return s
	case errors.As(err, &errs):
		s := failure(http.StatusUnprocessableEntity, client.ReasonInvalid, "the object can't be taken")
		s.Details = &client.StatusDetails{}
		for _, e := range errs {
			s.Details.Causes = append(s.Details.Causes, client.Cause{Field: e.Field, Message: e.Problem, Line: e.Line})
		}
		return s
	case errors.As(err, &invalid):
		return failure(http.StatusBadRequest, client.ReasonBadRequest, "%s", err)
	case errors.Is(err, store.ErrNotFound):
		return failure(http.StatusNotFound, client.ReasonNotFound, "%s", err)
	case errors.Is(err, store.ErrConflict):
		return failure(http.StatusConflict, client.ReasonConflict, "%s", err)
	case errors.Is(err, store.ErrFull):
		return failure(http.StatusInsufficientStorage, client.ReasonStorageFull, "%s", err)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return failure(http.StatusServiceUnavailable, client.ReasonUnavailable, "%s; try again", err)
	}
	return failure(http.StatusInternalServerError, client.ReasonInternal, "%s", err)
}
