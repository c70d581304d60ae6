package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/audit"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/control/store"
)

const (
	defaultWindow = time.Minute
	maxWindow     = 7 * 24 * time.Hour
)

// Handler serves the API. Who may ask is decided around it: Local, Remote.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(w http.ResponseWriter, r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var v any
			err := permitted(pattern, r)
			if err == nil {
				v, err = h(w, r)
			}
			if err == errAnswered {
				return
			}
			if err != nil {
				s := statusOf(err)
				if s.Code >= 500 && r.Context().Err() == nil {
					a.config.Log.Warn("a question to the control API failed", "method", r.Method, "path", r.URL.Path, "error", err)
				}
				answer(w, s.Code, s)
				return
			}
			answer(w, http.StatusOK, v)
		})
	}
	for _, root := range []string{"/api/{version}", "/apis/{group}/{version}"} {
		for _, ns := range []string{"", "/namespaces/{namespace}"} {
			handle("GET "+root+ns+"/{plural}", a.list)
			handle("GET "+root+ns+"/{plural}/{name}", a.get)
			handle("PUT "+root+ns+"/{plural}/{name}", a.put)
			handle("DELETE "+root+ns+"/{plural}/{name}", a.delete)
		}
	}
	handle("GET /tulle/v1/status", func(_ http.ResponseWriter, r *http.Request) (any, error) { return a.Status(r.Context()) })
	handle("GET /tulle/v1/check", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		report, err := a.Check(r.Context())
		return Report(operator.Of(r.Context()), report), err
	})
	handle("GET /tulle/v1/proxies", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		list, err := a.Proxies(r.Context())
		return Proxies(operator.Of(r.Context()), list), err
	})
	handle("GET /tulle/v1/proxies/{namespace}/{name}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return a.ProxyDump(r.Context(), r.PathValue("namespace"), r.PathValue("name"))
	})
	handle("GET /tulle/v1/proxies/{namespace}/{name}/connections", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return a.config.Mesh.ProxyConnections(r.Context(), r.PathValue("namespace"), r.PathValue("name"))
	})
	handle("GET /tulle/v1/endpoints", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return a.Endpoints(r.Context(), r.URL.Query().Get("service"))
	})
	handle("GET /tulle/v1/identity", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return a.config.Mesh.Identity(r.Context())
	})
	handle("GET /tulle/v1/trust", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		t, err := a.config.Mesh.Trust(r.Context())
		return trustWithin(operator.Of(r.Context()), t), err
	})
	handle("POST /tulle/v1/trust", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var req client.TrustRequest
		if err := readJSON(w, r, &req); err != nil {
			return nil, err
		}
		t, err := a.config.Mesh.ChangeTrust(r.Context(), req)
		a.record(r, audit.Entry{Action: "trust-" + req.Action}, err)
		return t, err
	})
	handle("GET /tulle/v1/audit", a.auditEntries)
	handle("POST /tulle/v1/dashboard-logins", a.logIn)
	handle("POST /tulle/v1/certificates", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var req client.CertificateRequest
		if err := readJSON(w, r, &req); err != nil {
			return nil, err
		}
		if err := a.mayGrant(r, req.Identity, nil); err != nil {
			return nil, err
		}
		c, err := a.config.Mesh.CreateCertificate(r.Context(), req)
		a.record(r, audit.Entry{Action: "certificate", Name: req.Identity}, err)
		return c, err
	})
	handle("POST /tulle/v1/jwt-svids", a.createJWTSVID)
	handle("GET /tulle/v1/bundles", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return a.config.Mesh.Bundles(r.Context())
	})
	handle("POST /tulle/v1/join-tokens", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var req client.JoinTokenRequest
		if err := readJSON(w, r, &req); err != nil {
			return nil, err
		}
		if err := a.mayGrant(r, req.Identity, req.Services); err != nil {
			return nil, err
		}
		t, err := a.config.Mesh.CreateJoinToken(r.Context(), req)
		a.record(r, audit.Entry{Action: "join-token", Name: req.Identity}, err)
		return t, err
	})
	handle("POST /tulle/v1/explain", a.explainRequest)
	handle("POST /tulle/v1/access", a.access)
	handle("GET /tulle/v1/adoption", a.adoption)
	handle("POST /tulle/v1/diff", a.diff)
	handle("GET /tulle/v1/policies", a.policies)
	handle("GET /tulle/v1/why", a.why)
	handle("GET /tulle/v1/why/{id}", a.why)
	handle("GET /tulle/v1/tap", a.tap)
	handle("GET /tulle/v1/stat", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		d, err := a.window(r)
		if err != nil {
			return nil, err
		}
		out, err := a.config.Signals.Stat(r.Context(), d)
		return Stat(operator.Of(r.Context()), out), err
	})
	handle("GET /tulle/v1/routes", a.routes)
	handle("GET /tulle/v1/edges", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		d, err := a.window(r)
		if err != nil {
			return nil, err
		}
		out, err := a.config.Signals.Edges(r.Context(), d)
		return Edges(operator.Of(r.Context()), out), err
	})
	handle("/", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return nil, failure(http.StatusNotFound, client.ReasonNotFound, "%s %s is not part of the control API", r.Method, r.URL.Path)
	})
	return mux
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v) // what fails here is the client's connection
}

func (a *API) window(r *http.Request) (time.Duration, error) {
	if a.config.Signals == nil {
		return 0, failure(http.StatusServiceUnavailable, client.ReasonUnavailable, "this control plane keeps no metrics")
	}
	text := r.URL.Query().Get("window")
	if text == "" {
		return defaultWindow, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > maxWindow {
		return 0, failure(http.StatusBadRequest, client.ReasonBadRequest, "window %q: want a duration between 1s and %s, such as 1m", text, maxWindow)
	}
	return d, nil
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, object.MaxInput))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, failure(http.StatusRequestEntityTooLarge, client.ReasonBadRequest, "the body is too large: at most %d bytes", large.Limit)
	}
	if err != nil {
		return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "the body can't be read: %s", err)
	}
	return data, nil
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	data, err := readBody(w, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return failure(http.StatusBadRequest, client.ReasonBadRequest, "the body: %s", err)
	}
	return nil
}

// place is the kind, namespace and name of a request's path.
func place(r *http.Request) (k *object.Kind, namespace, name string, err error) {
	group, version, plural := r.PathValue("group"), r.PathValue("version"), r.PathValue("plural")
	if k = object.LookupResource(group, version, plural); k == nil {
		return nil, "", "", unknownResource(group, version, plural)
	}
	namespace, name = r.PathValue("namespace"), r.PathValue("name")
	if !k.Namespaced && namespace != "" {
		return nil, "", "", failure(http.StatusNotFound, client.ReasonNotFound, "%s belong to no namespace", plural)
	}
	if k.Namespaced && namespace == "" && name != "" {
		return nil, "", "", failure(http.StatusNotFound, client.ReasonNotFound, "say which namespace: /namespaces/NAMESPACE/%s/%s", plural, name)
	}
	return k, namespace, name, nil
}

func (a *API) list(w http.ResponseWriter, r *http.Request) (any, error) {
	k, namespace, _, err := place(r)
	if err != nil {
		return nil, err
	}
	if err := permitObject(r, k, namespace, false); err != nil {
		return nil, err
	}
	switch v := r.URL.Query().Get("watch"); v {
	case "", "0", "false":
	case "1", "true":
		return nil, a.watch(w, r, k, namespace)
	default:
		return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "watch=%q: want 1 or true", v)
	}
	return a.List(r.Context(), client.Resource{Group: k.Group, Version: k.Version, Plural: k.Plural}, namespace)
}

func notFound(k *object.Kind, namespace, name string) *client.Status {
	where := ""
	if k.Namespaced {
		where = " in namespace " + namespace
	}
	s := failure(http.StatusNotFound, client.ReasonNotFound, "there is no %s %s%s", k.Name, name, where)
	s.Details = &client.StatusDetails{Name: name, Group: k.Group, Kind: k.Plural}
	return s
}

func (a *API) get(_ http.ResponseWriter, r *http.Request) (any, error) {
	k, namespace, name, err := place(r)
	if err != nil {
		return nil, err
	}
	if err := permitObject(r, k, namespace, false); err != nil {
		return nil, err
	}
	o, err := a.config.Objects.Fetch(r.Context(), k, namespace, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound(k, namespace, name)
	}
	return o, err
}

func dryRun(r *http.Request) (bool, error) {
	switch v := r.URL.Query().Get("dryRun"); v {
	case "":
		return false, nil
	case "All":
		return true, nil
	default:
		return false, failure(http.StatusBadRequest, client.ReasonBadRequest, "dryRun=%q: want All", v)
	}
}

func (a *API) put(w http.ResponseWriter, r *http.Request) (any, error) {
	k, namespace, name, err := place(r)
	if err != nil {
		return nil, err
	}
	dry, err := dryRun(r)
	if err != nil {
		return nil, err
	}
	if err := permitObject(r, k, namespace, true); err != nil {
		return nil, err
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	o, err := object.DecodeOne(k, body)
	if err != nil {
		s := statusOf(err)
		s.Message = fmt.Sprintf("%s %s can't be taken", k.Name, name)
		if s.Details != nil {
			s.Details.Name, s.Details.Group, s.Details.Kind = name, k.Group, k.Name
		}
		return nil, s
	}
	if o.GetName() != name || o.GetNamespace() != namespace {
		return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "the object is %s/%s, the path says %s/%s", o.GetNamespace(), o.GetName(), namespace, name)
	}
	var before object.Object
	if !dry {
		before, _ = a.config.Objects.Fetch(r.Context(), k, namespace, name) // for the record
	}
	stored, action, err := a.config.Objects.Apply(r.Context(), o, dry)
	if !dry && action != store.Unchanged {
		a.recordObject(r, "apply", k, namespace, name, before, stored, err)
	}
	if err != nil {
		return nil, err
	}
	w.Header().Set(client.HeaderAction, string(action))
	if !dry && action != store.Unchanged {
		a.await(r, stored.GetResourceVersion())
	}
	return stored, nil
}

// await lets a write return when the next question sees its effect.
func (a *API) await(r *http.Request, resourceVersion string) {
	revision, err := strconv.ParseInt(resourceVersion, 10, 64)
	if err != nil {
		return
	}
	ctx, cancel := contextWithTimeout(r, appliedWait)
	defer cancel()
	a.config.Mesh.Await(ctx, revision)
}

func (a *API) delete(_ http.ResponseWriter, r *http.Request) (any, error) {
	k, namespace, name, err := place(r)
	if err != nil {
		return nil, err
	}
	dry, err := dryRun(r)
	if err != nil {
		return nil, err
	}
	if err := permitObject(r, k, namespace, true); err != nil {
		return nil, err
	}
	var before object.Object
	if !dry {
		before, _ = a.config.Objects.Fetch(r.Context(), k, namespace, name) // for the record
	}
	revision, err := a.config.Objects.Remove(r.Context(), k, namespace, name, r.URL.Query().Get("resourceVersion"), dry)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound(k, namespace, name)
	}
	if !dry {
		a.recordObject(r, "delete", k, namespace, name, before, nil, err)
	}
	if err != nil {
		return nil, err
	}
	if !dry {
		a.await(r, strconv.FormatInt(revision, 10))
	}
	return &client.Status{Kind: "Status", APIVersion: "v1", Result: "Success",
		Details: &client.StatusDetails{Name: name, Group: k.Group, Kind: k.Plural}}, nil
}
