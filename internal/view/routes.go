package view

import (
	"math"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/pb"
)

func routesMessage(m *pb.Message, s *route.Spec) {
	pb.Messages(m, 1, "hosts", maxRouteHosts, &s.Hosts, routeHostMessage)
}

func routeHostMessage(m *pb.Message, h *route.Host) {
	pb.Strings(m, 1, "hostnames", maxHostnames, maxName, &h.Hostnames)
	pb.Messages(m, 2, "rules", maxRules, &h.Rules, ruleMessage)
}

func ruleMessage(m *pb.Message, r *route.Rule) {
	pb.String(m, 1, "name", maxName, &r.Name)
	pb.Messages(m, 2, "matches", maxMatches, &r.Matches, matchMessage)
	pb.Messages(m, 3, "backends", maxBackends, &r.Backends, backendMessage)
	pb.Milliseconds(m, 4, "timeout_ms", &r.Timeout)
	pb.String(m, 5, "section", maxName, &r.Section)
	pb.Struct(m, 6, "filters", &r.Filters, filtersMessage)
	pb.Struct(m, 7, "session", &r.Session, sessionMessage)
	pb.Pointer(m, 8, "policy", &r.Policy, requestMessage)
}

func matchMessage(m *pb.Message, v *route.Match) {
	pb.Enum(m, 1, "path_kind", route.PathGRPCMethod, &v.Path.Kind)
	pb.String(m, 2, "path", maxPath, &v.Path.Value)
	pb.String(m, 3, "method", maxName, &v.Method)
	pb.Messages(m, 4, "headers", maxHeaders, &v.Headers, fieldMessage)
	pb.Messages(m, 5, "query", maxHeaders, &v.Query, fieldMessage)
}

func fieldMessage(m *pb.Message, f *route.Field) {
	pb.String(m, 1, "name", maxName, &f.Name)
	pb.String(m, 2, "value", maxPath, &f.Value)
	pb.Bool(m, 3, "regex", &f.Regex)
}

func backendMessage(m *pb.Message, k *route.Backend) {
	pb.String(m, 1, "destination", maxName, &k.Destination)
	pb.Number(m, 2, "weight", math.MaxUint32, &k.Weight)
	pb.Struct(m, 3, "filters", &k.Filters, filtersMessage)
}

func filtersMessage(m *pb.Message, f *route.Filters) {
	pb.Pointer(m, 1, "cors", &f.CORS, corsMessage)
	pb.Pointer(m, 2, "redirect", &f.Redirect, redirectMessage)
	pb.Pointer(m, 3, "request", &f.Request, modifierMessage)
	pb.Pointer(m, 4, "response", &f.Response, modifierMessage)
	pb.Pointer(m, 5, "rewrite", &f.Rewrite, rewriteMessage)
	pb.Messages(m, 6, "mirrors", maxMirrors, &f.Mirrors, mirrorMessage)
}

func modifierMessage(m *pb.Message, v *route.Modifier) {
	pb.Messages(m, 1, "set", maxModified, &v.Set, valueMessage)
	pb.Messages(m, 2, "add", maxModified, &v.Add, valueMessage)
	pb.Strings(m, 3, "remove", maxModified, maxName, &v.Remove)
}

func valueMessage(m *pb.Message, v *route.Value) {
	pb.String(m, 1, "name", maxName, &v.Name)
	pb.String(m, 2, "value", maxPath, &v.Value)
}

func redirectMessage(m *pb.Message, r *route.Redirect) {
	pb.String(m, 1, "scheme", maxName, &r.Scheme)
	pb.String(m, 2, "host", maxName, &r.Host)
	pb.Port(m, 3, "port", &r.Port)
	pb.Enum(m, 4, "change", route.PrefixPath, &r.Change)
	pb.String(m, 5, "path", maxPath, &r.Path)
	pb.Number(m, 6, "status", maxStatus, &r.Status)
}

func rewriteMessage(m *pb.Message, r *route.Rewrite) {
	pb.String(m, 1, "host", maxName, &r.Host)
	pb.Enum(m, 2, "change", route.PrefixPath, &r.Change)
	pb.String(m, 3, "path", maxPath, &r.Path)
}

func mirrorMessage(m *pb.Message, v *route.Mirror) {
	pb.String(m, 1, "destination", maxName, &v.Destination)
	pb.Number(m, 2, "share", policy.All, &v.Share)
}

func corsMessage(m *pb.Message, c *route.CORS) {
	pb.Strings(m, 1, "origins", maxCORS, maxName, &c.Origins)
	pb.Strings(m, 2, "methods", maxCORS, maxName, &c.Methods)
	pb.Strings(m, 3, "headers", maxCORS, maxName, &c.Headers)
	pb.Strings(m, 4, "expose", maxCORS, maxName, &c.Expose)
	pb.Bool(m, 5, "credentials", &c.Credentials)
	pb.Milliseconds(m, 6, "max_age_ms", &c.MaxAge)
}
