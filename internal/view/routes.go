package view

import (
	"math"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/pb"
)

var routesMessage = pb.Describe(
	pb.Messages(1, "hosts", maxRouteHosts, routeHostMessage, func(s *route.Spec) *[]route.Host { return &s.Hosts }),
)

var routeHostMessage = pb.Describe(
	pb.Strings(1, "hostnames", maxHostnames, maxName, func(h *route.Host) *[]string { return &h.Hostnames }),
	pb.Messages(2, "rules", maxRules, ruleMessage, func(h *route.Host) *[]route.Rule { return &h.Rules }),
)

var ruleMessage = pb.Describe(
	pb.String(1, "name", maxName, func(r *route.Rule) *string { return &r.Name }),
	pb.Messages(2, "matches", maxMatches, matchMessage, func(r *route.Rule) *[]route.Match { return &r.Matches }),
	pb.Messages(3, "backends", maxBackends, backendMessage, func(r *route.Rule) *[]route.Backend { return &r.Backends }),
	pb.Milliseconds(4, "timeout_ms", func(r *route.Rule) *time.Duration { return &r.Timeout }),
	pb.String(5, "section", maxName, func(r *route.Rule) *string { return &r.Section }),
	pb.Struct(6, "filters", filtersMessage, func(r *route.Rule) *route.Filters { return &r.Filters }),
	pb.Struct(7, "session", sessionMessage, func(r *route.Rule) *policy.Session { return &r.Session }),
	pb.Pointer(8, "policy", requestMessage, func(r *route.Rule) **policy.Request { return &r.Policy }),
)

var matchMessage = pb.Describe(
	pb.Enum(1, "path_kind", route.PathGRPCMethod, func(m *route.Match) *route.PathKind { return &m.Path.Kind }),
	pb.String(2, "path", maxPath, func(m *route.Match) *string { return &m.Path.Value }),
	pb.String(3, "method", maxName, func(m *route.Match) *string { return &m.Method }),
	pb.Messages(4, "headers", maxHeaders, fieldMessage, func(m *route.Match) *[]route.Field { return &m.Headers }),
	pb.Messages(5, "query", maxHeaders, fieldMessage, func(m *route.Match) *[]route.Field { return &m.Query }),
)

var fieldMessage = pb.Describe(
	pb.String(1, "name", maxName, func(f *route.Field) *string { return &f.Name }),
	pb.String(2, "value", maxPath, func(f *route.Field) *string { return &f.Value }),
	pb.Bool(3, "regex", func(f *route.Field) *bool { return &f.Regex }),
)

var backendMessage = pb.Describe(
	pb.String(1, "destination", maxName, func(k *route.Backend) *string { return &k.Destination }),
	pb.Number(2, "weight", math.MaxUint32, func(k *route.Backend) *uint32 { return &k.Weight }),
	pb.Struct(3, "filters", filtersMessage, func(k *route.Backend) *route.Filters { return &k.Filters }),
)

var filtersMessage = pb.Describe(
	pb.Pointer(1, "cors", corsMessage, func(f *route.Filters) **route.CORS { return &f.CORS }),
	pb.Pointer(2, "redirect", redirectMessage, func(f *route.Filters) **route.Redirect { return &f.Redirect }),
	pb.Pointer(3, "request", modifierMessage, func(f *route.Filters) **route.Modifier { return &f.Request }),
	pb.Pointer(4, "response", modifierMessage, func(f *route.Filters) **route.Modifier { return &f.Response }),
	pb.Pointer(5, "rewrite", rewriteMessage, func(f *route.Filters) **route.Rewrite { return &f.Rewrite }),
	pb.Messages(6, "mirrors", maxMirrors, mirrorMessage, func(f *route.Filters) *[]route.Mirror { return &f.Mirrors }),
)

var modifierMessage = pb.Describe(
	pb.Messages(1, "set", maxModified, valueMessage, func(m *route.Modifier) *[]route.Value { return &m.Set }),
	pb.Messages(2, "add", maxModified, valueMessage, func(m *route.Modifier) *[]route.Value { return &m.Add }),
	pb.Strings(3, "remove", maxModified, maxName, func(m *route.Modifier) *[]string { return &m.Remove }),
)

var valueMessage = pb.Describe(
	pb.String(1, "name", maxName, func(v *route.Value) *string { return &v.Name }),
	pb.String(2, "value", maxPath, func(v *route.Value) *string { return &v.Value }),
)

var redirectMessage = pb.Describe(
	pb.String(1, "scheme", maxName, func(r *route.Redirect) *string { return &r.Scheme }),
	pb.String(2, "host", maxName, func(r *route.Redirect) *string { return &r.Host }),
	pb.Port(3, "port", func(r *route.Redirect) *uint16 { return &r.Port }),
	pb.Enum(4, "change", route.PrefixPath, func(r *route.Redirect) *route.PathChange { return &r.Change }),
	pb.String(5, "path", maxPath, func(r *route.Redirect) *string { return &r.Path }),
	pb.Number(6, "status", maxStatus, func(r *route.Redirect) *uint16 { return &r.Status }),
)

var rewriteMessage = pb.Describe(
	pb.String(1, "host", maxName, func(r *route.Rewrite) *string { return &r.Host }),
	pb.Enum(2, "change", route.PrefixPath, func(r *route.Rewrite) *route.PathChange { return &r.Change }),
	pb.String(3, "path", maxPath, func(r *route.Rewrite) *string { return &r.Path }),
)

var mirrorMessage = pb.Describe(
	pb.String(1, "destination", maxName, func(m *route.Mirror) *string { return &m.Destination }),
	pb.Number(2, "share", policy.All, func(m *route.Mirror) *policy.Share { return &m.Share }),
)

var corsMessage = pb.Describe(
	pb.Strings(1, "origins", maxCORS, maxName, func(c *route.CORS) *[]string { return &c.Origins }),
	pb.Strings(2, "methods", maxCORS, maxName, func(c *route.CORS) *[]string { return &c.Methods }),
	pb.Strings(3, "headers", maxCORS, maxName, func(c *route.CORS) *[]string { return &c.Headers }),
	pb.Strings(4, "expose", maxCORS, maxName, func(c *route.CORS) *[]string { return &c.Expose }),
	pb.Bool(5, "credentials", func(c *route.CORS) *bool { return &c.Credentials }),
	pb.Milliseconds(6, "max_age_ms", func(c *route.CORS) *time.Duration { return &c.MaxAge }),
)
