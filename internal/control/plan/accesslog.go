package plan

import (
	"slices"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

// accessLog is what the access log of a workload's proxy has, or of a gateway's: w
// is nil then. The nearest override wins, and the first of those as near.
func accessLog(s *mesh.Settings, name mesh.Name, w *mesh.Workload) policy.AccessLog {
	const byNamespace, byService, byName = 1, 2, 3
	out, near := s.AccessLog, 0
	for i := range s.AccessLogs {
		o, n := &s.AccessLogs[i], 0
		switch {
		case o.Namespace != name.Namespace && o.Service == "":
		case o.Gateway != "":
			if w == nil && o.Gateway == name.Name {
				n = byName
			}
		case o.Workload != "":
			if w != nil && o.Workload == name.Name {
				n = byName
			}
		case o.Service != "":
			if w != nil && serves(w, mesh.Name{Name: o.Service, Namespace: o.Namespace}) {
				n = byService
			}
		default:
			n = byNamespace
		}
		if n > near {
			out, near = o.AccessLog, n
		}
	}
	return out
}

func serves(w *mesh.Workload, service mesh.Name) bool {
	return slices.ContainsFunc(w.Ports, func(p mesh.WorkloadPort) bool { return p.Service == service })
}
