package api

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/audit"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/operator"
)

// This file is who may ask what, and how a change is recorded.

// permit says what a question of Tulle's own needs, by its pattern; what isn't
// here needs a role for the whole mesh, and to administer unless it is a GET.
var permit = map[string]func(r *http.Request, w *operator.Who) error{
	// Names and figures are for every operator, of their namespaces (scope.go).
	"GET /tulle/v1/status":                                 anyone,
	"GET /tulle/v1/check":                                  anyone,
	"GET /tulle/v1/proxies":                                anyone,
	"GET /tulle/v1/stat":                                   anyone,
	"GET /tulle/v1/edges":                                  anyone,
	"GET /tulle/v1/routes":                                 anyone,
	"GET /tulle/v1/identity":                               anyone,
	"GET /tulle/v1/trust":                                  anyone,
	"GET /tulle/v1/bundles":                                inside, // they are public
	"GET /tulle/v1/endpoints":                              func(r *http.Request, w *operator.Who) error { return w.May(operator.View, serviceNamespace(r)) },
	"GET /tulle/v1/proxies/{namespace}/{name}":             ofNamespace,
	"GET /tulle/v1/proxies/{namespace}/{name}/connections": ofNamespace,
	"POST /tulle/v1/explain":                               func(_ *http.Request, w *operator.Who) error { return w.May(operator.View, "") },
	"POST /tulle/v1/access":                                anyone, // about their namespaces: withinReach
	"GET /tulle/v1/adoption":                               anyone,
	"POST /tulle/v1/diff":                                  func(_ *http.Request, w *operator.Who) error { return w.May(operator.View, "") },
	// A link is for whoever asks, and shows what they may see.
	"POST /tulle/v1/dashboard-logins": anyone,
	"GET /tulle/v1/tap":               tapped,
	// These look at what is asked for themselves.
	"POST /tulle/v1/join-tokens":  inside,
	"POST /tulle/v1/certificates": inside,
	"POST /tulle/v1/jwt-svids":    inside,
	"/":                           inside,
}

func anyone(_ *http.Request, w *operator.Who) error {
	if w.Namespaces != nil && len(w.Namespaces) > 0 {
		return w.May(operator.View, w.Namespaces[0])
	}
	return w.May(operator.View, "")
}

func inside(*http.Request, *operator.Who) error { return nil }

func ofNamespace(r *http.Request, w *operator.Who) error {
	return w.May(operator.View, r.PathValue("namespace"))
}

func serviceNamespace(r *http.Request) string {
	p, err := object.ServiceName(r.URL.Query().Get("service"), object.DefaultNamespace)
	if err != nil {
		return object.DefaultNamespace
	}
	return p[1]
}

// permitted asks whether the caller may ask that. Objects' questions are looked at
// by what they are about (permitObject).
func permitted(pattern string, r *http.Request) error {
	_, path, _ := strings.Cut(pattern, " ")
	if strings.HasPrefix(path, "/api") {
		return nil
	}
	w := operator.Of(r.Context())
	if f := permit[pattern]; f != nil {
		return f(r, w)
	}
	if r.Method == http.MethodGet {
		return w.May(operator.View, "")
	}
	return w.May(operator.Administer, "")
}

// permitObject says whether the caller may read or change objects of a kind.
func permitObject(r *http.Request, k *object.Kind, namespace string, change bool) error {
	w := operator.Of(r.Context())
	verb := operator.View
	switch {
	case change && (!k.Namespaced || namespace == v1alpha1.MeshNamespace):
		return w.May(operator.Administer, "")
	case change:
		verb = operator.Edit
	case k == object.Secret:
		verb = operator.ViewSecrets
	case k == object.Operator:
		return w.May(operator.Administer, "")
	case !k.Namespaced:
		return anyone(r, w)
	}
	return w.May(verb, namespace)
}

// mayGrant says whether the caller may hand out an identity, "NAMESPACE/ACCOUNT"
// or a SPIFFE id, and the right to serve services. Who has an administrator's or
// another operator's identity may what that one may: only administrators give it.
func (a *API) mayGrant(r *http.Request, id string, services []string) error {
	w := operator.Of(r.Context())
	namespace, account, _ := strings.Cut(id, "/")
	if rest, ok := strings.CutPrefix(id, "spiffe://"); ok {
		namespace, account = "", ""
		if _, path, ok := strings.Cut(rest, "/ns/"); ok {
			namespace, account, _ = strings.Cut(path, "/sa/")
		}
	}
	if err := w.May(operator.Edit, namespace); err != nil {
		return err
	}
	for _, s := range services {
		if p, err := object.ServiceName(s, namespace); err == nil {
			if err := w.May(operator.Edit, p[1]); err != nil {
				return err
			}
		}
	}
	operates := namespace == adminNamespace
	if !operates {
		list, _, err := a.config.Objects.FetchAll(r.Context(), object.Operator, "")
		if err != nil {
			return err
		}
		for _, o := range list {
			if op, ok := o.(*v1alpha1.Operator); ok {
				operates = operates || slices.ContainsFunc(op.Spec.Identities, func(uri string) bool {
					return strings.HasSuffix(uri, "/ns/"+namespace+"/sa/"+account)
				})
			}
		}
	}
	if operates {
		return w.May(operator.Administer, "")
	}
	return nil
}

// record writes a change down. One that can't be written down has happened all the
// same: it is logged, loudly.
func (a *API) record(r *http.Request, e audit.Entry, err error) {
	if a.config.Audit == nil {
		return
	}
	w := operator.Of(r.Context())
	e.Time, e.Who, e.How, e.From = time.Now().UTC(), w.Name, w.How, w.From
	if err != nil {
		e.Error = err.Error()
	}
	if failed := a.config.Audit.Write(e); failed != nil {
		a.config.Log.Error("a change isn't in the audit log", "who", w.Name, "action", e.Action, "kind", e.Kind, "namespace", e.Namespace, "name", e.Name, "error", failed)
	}
}

// recordObject writes a change of an object down: without its status, and a Secret
// without its contents.
func (a *API) recordObject(r *http.Request, action string, k *object.Kind, namespace, name string, before, after object.Object, err error) {
	e := audit.Entry{Action: action, Kind: k.Name, Namespace: namespace, Name: name}
	if after != nil {
		e.Revision = after.GetResourceVersion()
	}
	if k != object.Secret {
		e.Before, e.After = withoutStatus(before), withoutStatus(after)
	}
	a.record(r, e, err)
}

func withoutStatus(o object.Object) json.RawMessage {
	if o == nil {
		return nil
	}
	data, err := object.Encode(o)
	if err != nil {
		return nil
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(data, &m) != nil {
		return nil
	}
	delete(m, "status")
	data, err = json.Marshal(m)
	if err != nil {
		return nil
	}
	return data
}

// auditEntries answers GET /tulle/v1/audit.
func (a *API) auditEntries(_ http.ResponseWriter, r *http.Request) (any, error) {
	if err := operator.Of(r.Context()).May(operator.Administer, ""); err != nil {
		return nil, err
	}
	if a.config.Audit == nil {
		return nil, failure(http.StatusServiceUnavailable, client.ReasonUnavailable, "this control plane keeps no audit log")
	}
	q := r.URL.Query()
	last := 100
	if text := q.Get("last"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 10_000 {
			return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "last=%q: want 1 to 10000", text)
		}
		last = n
	}
	entries, err := a.config.Audit.Last(last, func(e *audit.Entry) bool {
		return (q.Get("who") == "" || e.Who == q.Get("who")) && (q.Get("kind") == "" || strings.EqualFold(e.Kind, q.Get("kind"))) &&
			(q.Get("namespace") == "" || e.Namespace == q.Get("namespace")) && (q.Get("name") == "" || e.Name == q.Get("name"))
	})
	if err != nil {
		return nil, err
	}
	if entries == nil {
		entries = []audit.Entry{}
	}
	return entries, nil
}

// from is a caller's address without its port.
func from(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}
