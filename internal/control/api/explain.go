package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/explain"
	"tulle.dev/tulle/internal/mesh"
)

const (
	// maxQuestion bounds what of a request is told, in bytes, its header included.
	maxQuestion = 64 << 10
	// statesWait bounds how long a proxy is waited for to say how it sees endpoints.
	statesWait = time.Second
)

// explainRequest answers POST /tulle/v1/explain.
func (a *API) explainRequest(w http.ResponseWriter, r *http.Request) (any, error) {
	var q explain.Question
	r.Body = http.MaxBytesReader(w, r.Body, maxQuestion)
	if err := readJSON(w, r, &q); err != nil {
		return nil, err
	}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	out, err := explain.Ask(a.config.Mesh.Snapshot(), q)
	if err != nil {
		return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "%s", err)
	}
	a.addStates(r.Context(), out)
	return out, nil
}

// addStates says of endpoints what the asking proxy knows better: which it leaves
// out just now. Without an answer of that proxy they stay as the control plane sees
// them.
func (a *API) addStates(ctx context.Context, out *explain.Answer) {
	if len(out.Backends) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statesWait)
	defer cancel()
	name, namespace, _ := strings.Cut(out.Proxy, ".")
	data, err := a.config.Mesh.ProxyDump(ctx, namespace, name)
	if err != nil {
		return
	}
	var dump struct {
		States []struct{ Service, Endpoint, State, Why string } `json:"endpoint_states"`
	}
	if json.Unmarshal(data, &dump) != nil {
		return
	}
	for _, s := range dump.States {
		for i := range out.Backends {
			b := &out.Backends[i]
			if b.Service != s.Service {
				continue
			}
			for j := range b.Endpoints {
				if e := &b.Endpoints[j]; e.Address == s.Endpoint && s.State != "" && e.State == "healthy" {
					e.State, e.Why = s.State, s.Why
				}
			}
		}
	}
}

// policies answers GET /tulle/v1/policies?service=NAME or ?route=KIND/NAMESPACE/NAME.
func (a *API) policies(_ http.ResponseWriter, r *http.Request) (any, error) {
	snapshot := a.config.Mesh.Snapshot()
	service, of := r.URL.Query().Get("service"), r.URL.Query().Get("route")
	var out []explain.Effective
	switch {
	case (service == "") == (of == ""):
		return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "want either service=NAME.NAMESPACE or route=KIND/NAMESPACE/NAME")
	case of != "":
		out = explain.RoutePolicies(snapshot, of+"#")
	default:
		p, err := object.ServiceName(service, object.DefaultNamespace)
		if err != nil {
			return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "service: %s", err)
		}
		n := mesh.Name{Name: p[0], Namespace: p[1]}
		if snapshot.Services[n] == nil {
			return nil, failure(http.StatusNotFound, client.ReasonNotFound, "there is no service %s", n)
		}
		out = explain.ServicePolicies(snapshot, n)
	}
	if out == nil {
		out = []explain.Effective{}
	}
	return out, nil
}
