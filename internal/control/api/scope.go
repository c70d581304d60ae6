package api

import (
	"slices"
	"strings"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/telemetry"
)

// This file is what operators of some namespaces see of what is about all: the
// services and proxies of those, and the calls from and to them.

// Stat is the part of the services' figures that somebody sees.
func Stat(w *operator.Who, s telemetry.Stat) telemetry.Stat {
	s.Services = operator.Within(w, s.Services, func(v *telemetry.Service) []string { return []string{v.Namespace} })
	return s
}

// Edges is the part of the calls' figures that somebody sees.
func Edges(w *operator.Who, e telemetry.Edges) telemetry.Edges {
	e.Edges = operator.Within(w, e.Edges, func(v *telemetry.Edge) []string { return []string{v.From.Namespace, v.To.Namespace} })
	return e
}

// Proxies are those that somebody sees.
func Proxies(w *operator.Who, list []client.Proxy) []client.Proxy {
	return operator.Within(w, list, func(p *client.Proxy) []string { return []string{p.Namespace} })
}

// Report is how checks went, for who doesn't see all without the names in it.
func Report(w *operator.Who, r *client.CheckReport) *client.CheckReport {
	if r == nil || w.Whole() {
		return r
	}
	out := *r
	out.Checks = slices.Clone(r.Checks)
	for i := range out.Checks {
		if c := &out.Checks[i]; c.Error != "" || c.Hint != "" {
			c.Error, c.Hint = "what it is may be told to operators of the whole mesh only", ""
		}
	}
	return &out
}

func routesWithin(w *operator.Who, r telemetry.Routes) telemetry.Routes {
	r.Routes = operator.Within(w, r.Routes, func(v *telemetry.Route) []string {
		of := []string{namespaceOf(v.Service), namespaceOf(v.Backend)}
		if part := strings.Split(v.Route, "/"); len(part) == 3 { // httproute/NAMESPACE/NAME#RULE
			of = append(of, part[1])
		}
		return of
	})
	return r
}

func adoptionWithin(w *operator.Who, a telemetry.Adoption) telemetry.Adoption {
	a.Ports = operator.Within(w, a.Ports, func(v *telemetry.AdoptionPort) []string { return []string{namespaceOf(v.Service)} })
	return a
}

func trustWithin(w *operator.Who, t *client.Trust) *client.Trust {
	if t == nil {
		return nil
	}
	out := *t
	out.Proxies = operator.Within(w, t.Proxies, func(p *client.TrustProxy) []string { return []string{p.Namespace} })
	return &out
}

// namespaceOf is the namespace in a service port's key, "cart.default:8080".
func namespaceOf(key string) string {
	key, _, _ = strings.Cut(key, ":")
	_, namespace, _ := strings.Cut(key, ".")
	return namespace
}
