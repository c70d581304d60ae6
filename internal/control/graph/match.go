package graph

import (
	"fmt"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/route"
)

// problem is why a rule can't be done as it is written: a reason of the Accepted
// condition and a message.
type problem struct{ reason, message string }

func unsupported(format string, args ...any) *problem {
	return &problem{string(gatewayv1.RouteReasonUnsupportedValue), fmt.Sprintf(format, args...)}
}

// httpMatch translates one match of an HTTPRoute.
func httpMatch(m *gatewayv1.HTTPRouteMatch) (route.Match, *problem) {
	var out route.Match
	if m.Path != nil {
		value := val(m.Path.Value, "/")
		switch kind := val(m.Path.Type, gatewayv1.PathMatchPathPrefix); kind {
		case gatewayv1.PathMatchExact:
			out.Path = route.Path{Kind: route.PathExact, Value: value}
		case gatewayv1.PathMatchPathPrefix:
			if value != "/" {
				out.Path = route.Path{Kind: route.PathPrefix, Value: value}
			}
		case gatewayv1.PathMatchRegularExpression:
			out.Path = route.Path{Kind: route.PathRegex, Value: value}
		default:
			return out, unsupported("path.type %q: want Exact, PathPrefix or RegularExpression", kind)
		}
	}
	out.Method = string(val(m.Method, ""))
	for i := range m.Headers {
		h := &m.Headers[i]
		regex, p := isRegex(fmt.Sprintf("headers[%d]", i), string(val(h.Type, gatewayv1.HeaderMatchExact)))
		if p != nil {
			return out, p
		}
		out.Headers = addField(out.Headers, route.Field{Name: string(h.Name), Value: h.Value, Regex: regex}, strings.EqualFold)
	}
	for i := range m.QueryParams {
		q := &m.QueryParams[i]
		regex, p := isRegex(fmt.Sprintf("queryParams[%d]", i), string(val(q.Type, gatewayv1.QueryParamMatchExact)))
		if p != nil {
			return out, p
		}
		out.Query = addField(out.Query, route.Field{Name: string(q.Name), Value: q.Value, Regex: regex}, func(a, b string) bool { return a == b })
	}
	return out, nil
}

// addField adds a field unless one of that name is there: of several entries
// for one name the first counts (Gateway API v1, HTTPHeaderMatch.Name).
func addField(list []route.Field, f route.Field, same func(a, b string) bool) []route.Field {
	for i := range list {
		if same(list[i].Name, f.Name) {
			return list
		}
	}
	return append(list, f)
}

// isRegex says whether a header or query match is a regular expression.
func isRegex(at, kind string) (bool, *problem) {
	switch kind {
	case "Exact":
		return false, nil
	case "RegularExpression":
		return true, nil
	}
	return false, unsupported("%s.type %q: want Exact or RegularExpression", at, kind)
}

// checked says what the proxy would find wrong with a rule.
func checked(at string, r *route.Rule) *problem {
	if err := r.Check(); err != nil {
		return unsupported("%s.%s", at, err)
	}
	return nil
}

// grpcMatch translates one match of a GRPCRoute: a gRPC request is a POST to
// /SERVICE/METHOD.
func grpcMatch(m *gatewayv1.GRPCRouteMatch) (route.Match, *problem) {
	out := route.Match{Method: "POST"}
	if m.Method != nil {
		service, method := val(m.Method.Service, ""), val(m.Method.Method, "")
		switch kind := val(m.Method.Type, gatewayv1.GRPCMethodMatchExact); {
		case service == "" && method == "":
		case kind == gatewayv1.GRPCMethodMatchExact && method == "":
			out.Path = route.Path{Kind: route.PathPrefix, Value: "/" + service}
		case kind == gatewayv1.GRPCMethodMatchExact && service == "":
			out.Path = route.Path{Kind: route.PathGRPCMethod, Value: method}
		case kind == gatewayv1.GRPCMethodMatchExact:
			out.Path = route.Path{Kind: route.PathExact, Value: "/" + service + "/" + method}
		case kind == gatewayv1.GRPCMethodMatchRegularExpression:
			part := func(at, value string) (string, *problem) {
				if value == "" {
					return "[^/]+", nil
				}
				alone := route.Rule{Matches: []route.Match{{Path: route.Path{Kind: route.PathRegex, Value: value}}}}
				return "(?:" + value + ")", checked(at, &alone)
			}
			s, p := part("method.service", service)
			if p != nil {
				return out, p
			}
			t, p := part("method.method", method)
			if p != nil {
				return out, p
			}
			out.Path = route.Path{Kind: route.PathRegex, Value: "/" + s + "/" + t}
		default:
			return out, unsupported("method.type %q: want Exact or RegularExpression", kind)
		}
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		regex, p := isRegex(fmt.Sprintf("headers[%d]", i), string(val(h.Type, gatewayv1.GRPCHeaderMatchExact)))
		if p != nil {
			return out, p
		}
		out.Headers = addField(out.Headers, route.Field{Name: string(h.Name), Value: h.Value, Regex: regex}, strings.EqualFold)
	}
	return out, nil
}
