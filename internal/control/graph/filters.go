package graph

import (
	"fmt"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
)

// filters translates the filters of a rule or of one of its backends. A filter
// that can't be done is a problem: it is never left out, because what it would
// have kept out would then come through (Gateway API v1, HTTPRouteFilter.Type).
// prefix says whether all of the rule's matches are by a path's prefix.
func (u *use) filters(at string, list []gatewayv1.HTTPRouteFilter, prefix bool) (route.Filters, *problem) {
	var out route.Filters
	seen := map[gatewayv1.HTTPRouteFilterType]bool{}
	for i := range list {
		f, at := &list[i], fmt.Sprintf("%s.filters[%d]", at, i)
		if seen[f.Type] && f.Type != gatewayv1.HTTPRouteFilterRequestMirror {
			return out, &problem{string(gatewayv1.RouteReasonIncompatibleFilters), fmt.Sprintf("%s: a second %s: keep one", at, f.Type)}
		}
		seen[f.Type] = true
		var p *problem
		switch {
		case f.Type == gatewayv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil:
			out.Request, p = modifier(at+".requestHeaderModifier", f.RequestHeaderModifier)
		case f.Type == gatewayv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil:
			out.Response, p = modifier(at+".responseHeaderModifier", f.ResponseHeaderModifier)
		case f.Type == gatewayv1.HTTPRouteFilterRequestRedirect && f.RequestRedirect != nil:
			out.Redirect, p = redirect(at+".requestRedirect", f.RequestRedirect, prefix)
		case f.Type == gatewayv1.HTTPRouteFilterURLRewrite && f.URLRewrite != nil:
			out.Rewrite = &route.Rewrite{Host: string(val(f.URLRewrite.Hostname, ""))}
			out.Rewrite.Change, out.Rewrite.Path, p = pathChange(at+".urlRewrite.path", f.URLRewrite.Path, prefix)
		case f.Type == gatewayv1.HTTPRouteFilterRequestMirror && f.RequestMirror != nil:
			if m, ok := u.mirror(at+".requestMirror", f.RequestMirror); ok {
				out.Mirrors = append(out.Mirrors, m)
			}
		case f.Type == gatewayv1.HTTPRouteFilterCORS && f.CORS != nil:
			out.CORS = cors(f.CORS)
		case f.Type == gatewayv1.HTTPRouteFilterExtensionRef && f.ExtensionRef != nil:
			e := f.ExtensionRef
			message := fmt.Sprintf("%s.extensionRef: %s of group %q is no filter that is known here", at, e.Kind, e.Group)
			u.refs = unresolved(u.refs, string(gatewayv1.RouteReasonInvalidKind), message)
			p = &problem{string(gatewayv1.RouteReasonUnsupportedValue), message}
		default:
			p = unsupported("%s.type %q is not supported", at, f.Type)
		}
		if p != nil {
			return out, p
		}
	}
	if out.Redirect != nil && out.Rewrite != nil {
		return out, &problem{string(gatewayv1.RouteReasonIncompatibleFilters), at + ".filters: RequestRedirect and URLRewrite exclude each other"}
	}
	// Whether a path's prefix may be replaced was looked at above.
	return out, checked(at, &route.Rule{Filters: out})
}

// modifier translates a change of header fields. One name may be changed once
// (Gateway API v1, HTTPHeaderFilter); of several entries of one list the first counts.
func modifier(at string, f *gatewayv1.HTTPHeaderFilter) (*route.Modifier, *problem) {
	out := &route.Modifier{}
	list := map[string]string{} // which list changes a name
	take := func(in, name string) (bool, *problem) {
		key := strings.ToLower(name)
		switch before, ok := list[key]; {
		case !route.Writable(name):
			return false, unsupported("%s.%s: header field %q can't be written by a route", at, in, name)
		case ok && before != in:
			return false, unsupported("%s: header field %q is both in %s and in %s: keep one", at, name, before, in)
		case ok:
			return false, nil
		}
		list[key] = in
		return true, nil
	}
	values := func(in string, headers []gatewayv1.HTTPHeader, into *[]route.Value) *problem {
		for _, h := range headers {
			ok, p := take(in, string(h.Name))
			if p == nil && !route.ValidValue(h.Value) {
				p = unsupported("%s.%s: value of header field %q has characters that can't be in one", at, in, h.Name)
			}
			if p != nil {
				return p
			}
			if ok {
				*into = append(*into, route.Value{Name: string(h.Name), Value: h.Value})
			}
		}
		return nil
	}
	if p := values("set", f.Set, &out.Set); p != nil {
		return nil, p
	}
	if p := values("add", f.Add, &out.Add); p != nil {
		return nil, p
	}
	for _, name := range f.Remove {
		ok, p := take("remove", name)
		if p != nil {
			return nil, p
		}
		if ok {
			out.Remove = append(out.Remove, name)
		}
	}
	return out, nil
}

func redirect(at string, f *gatewayv1.HTTPRequestRedirectFilter, prefix bool) (*route.Redirect, *problem) {
	out := &route.Redirect{
		Scheme: val(f.Scheme, ""), Host: string(val(f.Hostname, "")), Port: uint16(val(f.Port, 0)), Status: uint16(val(f.StatusCode, 302)),
	}
	switch out.Scheme {
	case "", "http", "https":
	default:
		return nil, unsupported("%s.scheme %q: want http or https", at, out.Scheme)
	}
	switch out.Status {
	case 301, 302, 303, 307, 308:
	default:
		return nil, unsupported("%s.statusCode %d: want 301, 302, 303, 307 or 308", at, out.Status)
	}
	var p *problem
	out.Change, out.Path, p = pathChange(at+".path", f.Path, prefix)
	return out, p
}

func pathChange(at string, m *gatewayv1.HTTPPathModifier, prefix bool) (route.PathChange, string, *problem) {
	switch {
	case m == nil:
		return route.KeepPath, "", nil
	case m.Type == gatewayv1.FullPathHTTPPathModifier && m.ReplaceFullPath != nil:
		return route.FullPath, *m.ReplaceFullPath, nil
	case m.Type == gatewayv1.PrefixMatchHTTPPathModifier && m.ReplacePrefixMatch != nil:
		if !prefix {
			return 0, "", unsupported("%s: ReplacePrefixMatch needs a rule that matches by PathPrefix alone", at)
		}
		return route.PrefixPath, *m.ReplacePrefixMatch, nil
	}
	return 0, "", unsupported("%s.type %q: want ReplaceFullPath or ReplacePrefixMatch, with the field of that name", at, m.Type)
}

// mirror translates a copy of requests; one that leads nowhere is dropped, and
// said in the condition (Gateway API v1, HTTPRequestMirrorFilter.BackendRef).
func (u *use) mirror(at string, f *gatewayv1.HTTPRequestMirrorFilter) (route.Mirror, bool) {
	destination := u.backend(at+".backendRef", &f.BackendRef)
	return route.Mirror{Destination: destination, Share: share(f.Percent, f.Fraction)}, destination != ""
}

// share is a percentage or a fraction; neither is all.
func share(percent *int32, fraction *gatewayv1.Fraction) policy.Share {
	switch {
	case fraction != nil:
		of := int64(max(val(fraction.Denominator, 100), 1))
		return policy.Share(min(max(int64(fraction.Numerator), 0), of) * int64(policy.All) / of)
	case percent != nil:
		return policy.Share(min(max(*percent, 0), 100)) * policy.All / 100
	}
	return policy.All
}

func cors(f *gatewayv1.HTTPCORSFilter) *route.CORS {
	out := &route.CORS{Credentials: val(f.AllowCredentials, false), MaxAge: time.Duration(f.MaxAge) * time.Second}
	for _, o := range f.AllowOrigins {
		out.Origins = append(out.Origins, string(o))
	}
	for _, m := range f.AllowMethods {
		out.Methods = append(out.Methods, string(m))
	}
	for _, h := range f.AllowHeaders {
		out.Headers = append(out.Headers, string(h))
	}
	for _, h := range f.ExposeHeaders {
		out.Expose = append(out.Expose, string(h))
	}
	return out
}

// grpcFilters are HTTPRoute's filters of the same names.
func grpcFilters(list []gatewayv1.GRPCRouteFilter) []gatewayv1.HTTPRouteFilter {
	out := make([]gatewayv1.HTTPRouteFilter, len(list))
	for i := range list {
		f := &list[i]
		out[i] = gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterType(f.Type), RequestHeaderModifier: f.RequestHeaderModifier,
			ResponseHeaderModifier: f.ResponseHeaderModifier, RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef}
	}
	return out
}
