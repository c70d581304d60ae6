package explain

import (
	"strconv"
	"strings"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

// guard lists who may come in.
func guard(f *fields, g *policy.Guard) {
	if g == nil {
		return
	}
	if j := g.JWT; j != nil {
		var issuers []string
		for _, i := range j.Issuers {
			one := i.Name
			if len(i.Audiences) > 0 {
				one += " for " + strings.Join(i.Audiences, "|")
			}
			if len(i.Keys) == 0 {
				one += " (no keys yet: nobody's token is valid)"
			}
			issuers = append(issuers, one)
		}
		f.add("jwt.required", strconv.FormatBool(j.Required))
		f.add("jwt.issuers", join(issuers))
	}
	if a := g.Access; a != nil {
		// In the order in which they are asked.
		at := 0
		for _, action := range []access.Action{access.Deny, access.Allow} {
			for i := range a.Rules {
				if r := &a.Rules[i]; r.Action == action {
					*f.added("access.rules["+strconv.Itoa(at)+"]", access.Describe(r)) = r.Name
					at++
				}
			}
		}
		*f.added("access.default", a.Default.String()) = "what no rule decides"
	}
	if e := g.External; e != nil {
		how := "HTTP " + e.Path
		if e.GRPC {
			how = "gRPC"
		}
		closed := "refused without an answer"
		if e.FailOpen {
			closed = "let in without an answer"
		}
		f.add("external", "asks "+e.Destination+" ("+strings.TrimSpace(how)+"), within "+Duration(e.Timeout)+", "+closed)
	}
}

// Egress lists where outside the mesh a workload may call; nil is anywhere.
func Egress(e *policy.Egress) []Field {
	if e == nil {
		return nil
	}
	f := &fields{}
	other := "refused"
	if e.Allow {
		other = "allowed"
	}
	if e.Audit {
		other += " (counted only)"
	}
	f.add("other", other)
	for _, d := range e.Destinations {
		to := join(append(append([]string{}, d.Hosts...), d.Networks...)) + " at port " + portList(d.Ports)
		if d.TLS != nil {
			to += ", the proxy speaks TLS"
			if d.TLS.ServerName != "" {
				to += " with " + d.TLS.ServerName
			}
		}
		if d.Refused {
			to += ", refused as long as its Secrets aren't there"
		}
		f.add(d.Name, to)
	}
	return *f
}

// mutualTLS is what a policy says of a port; nothing where none does.
func mutualTLS(s *mesh.Service, port uint16) []Field {
	if m := s.MutualTLS[port]; m != 0 {
		return []Field{{Name: "mutualTLS", Value: MutualTLS(m)}}
	}
	return nil
}
