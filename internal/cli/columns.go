package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
)

// column is one column of a kind's table.
type column struct {
	title string
	cell  func(object.Object) string
}

func col[T object.Object](title string, cell func(T) string) column {
	return column{title, func(o object.Object) string { return cell(o.(T)) }}
}

// columnsOf are the columns between NAME and AGE.
func (a *app) columnsOf(kind *object.Kind, wide bool) []column {
	var columns, more []column
	switch kind {
	case object.Service:
		columns = []column{
			col("ADDRESS", func(s *corev1.Service) string { return s.Spec.ClusterIP }),
			col("PORTS", servicePorts),
			col("PROTOCOL", serviceProtocols),
		}
		more = []column{
			col("ADDRESSES", func(s *corev1.Service) string { return strings.Join(s.Spec.ClusterIPs, ",") }),
			col("SELECTOR", func(s *corev1.Service) string { return pairs(s.Spec.Selector) }),
			col("MADE BY", func(s *corev1.Service) string { return s.Labels[madeByLabel] }),
		}
	case object.Workload:
		columns = []column{
			col("READY", a.workloadReady),
			col("SERVICES", workloadServices),
			col("LEASE", func(w *v1alpha1.Workload) string { return a.lease(w.Status.Lease) }),
		}
		more = []column{
			col("IDENTITY", func(w *v1alpha1.Workload) string { return "ns/" + w.Namespace + "/sa/" + w.Spec.ServiceAccount }),
			col("ADDRESS", func(w *v1alpha1.Workload) string { return w.Spec.Address }),
			col("ZONE", func(w *v1alpha1.Workload) string { return w.Spec.Zone }),
			col("PROXY", func(w *v1alpha1.Workload) string { return w.Status.ProxyVersion }),
		}
	case object.Gateway:
		columns = []column{
			col("LISTENERS", gatewayListeners),
			col("ACCEPTED", func(g *gatewayv1.Gateway) string { return a.condition(g.Status.Conditions, "Accepted") }),
			col("PROGRAMMED", func(g *gatewayv1.Gateway) string { return a.condition(g.Status.Conditions, "Programmed") }),
		}
		more = []column{
			col("CLASS", func(g *gatewayv1.Gateway) string { return string(g.Spec.GatewayClassName) }),
			col("ADDRESSES", func(g *gatewayv1.Gateway) string {
				var all []string
				for _, a := range g.Spec.Addresses {
					all = append(all, a.Value)
				}
				return strings.Join(all, ",")
			}),
		}
	case object.EndpointSlice:
		columns = []column{
			col("SERVICE", func(e *discoveryv1.EndpointSlice) string { return e.Labels[discoveryv1.LabelServiceName] }),
			col("ADDRESSES", sliceAddresses),
			col("PORTS", slicePorts),
		}
	case object.Secret:
		columns = []column{
			col("TYPE", func(s *corev1.Secret) string { return string(s.Type) }),
			col("DATA", func(s *corev1.Secret) string { return strconv.Itoa(len(s.Data)) }),
		}
	case object.Mesh:
		columns = []column{
			col("TRUST DOMAIN", func(m *v1alpha1.Mesh) string { return m.Spec.TrustDomain }),
			col("CERTIFICATE LIFE", func(m *v1alpha1.Mesh) string { return short(m.Spec.CertificateTTL.Duration) }),
			col("PLAINTEXT", func(m *v1alpha1.Mesh) string { return string(m.Spec.Plaintext) }),
		}
	case object.Namespace:
		columns = []column{col("LABELS", func(n *corev1.Namespace) string { return pairs(n.Labels) })}
	default:
		columns, more = a.trafficColumns(kind)
	}
	if wide {
		columns = append(columns, more...)
	}
	return columns
}

// madeByLabel says which command made an object.
const madeByLabel = "app.kubernetes.io/managed-by"

func servicePorts(s *corev1.Service) string {
	var all []string
	for _, p := range s.Spec.Ports {
		text := strconv.Itoa(int(p.Port))
		if t := p.TargetPort.String(); t != "0" && t != text {
			text += ":" + t
		}
		all = append(all, text)
	}
	return strings.Join(all, ",")
}

func serviceProtocols(s *corev1.Service) string {
	var all []string
	for _, p := range s.Spec.Ports {
		protocol := "detect"
		if p.AppProtocol != nil {
			protocol = *p.AppProtocol
		}
		if !slices.Contains(all, protocol) {
			all = append(all, protocol)
		}
	}
	return strings.Join(all, ",")
}

func workloadServices(w *v1alpha1.Workload) string {
	var all []string
	for _, p := range w.Spec.Ports {
		all = append(all, fmt.Sprintf("%s:%d", p.Service, p.Port))
	}
	return strings.Join(all, ",")
}

func (a *app) workloadReady(w *v1alpha1.Workload) string {
	switch {
	case w.Status.Draining:
		return a.paint.warn("draining")
	case w.Status.Ready == nil:
		return ""
	case *w.Status.Ready:
		return a.paint.good("yes")
	}
	return a.paint.bad("no")
}

func (a *app) lease(l v1alpha1.LeaseState) string {
	switch l {
	case v1alpha1.LeaseSuspect:
		return a.paint.warn(string(l))
	case v1alpha1.LeaseEnded:
		return a.paint.bad(string(l))
	}
	return string(l)
}

func (a *app) condition(conditions []metav1.Condition, name string) string {
	for _, c := range conditions {
		if c.Type != name {
			continue
		}
		if c.Status == metav1.ConditionTrue {
			return a.paint.good("True")
		}
		return a.paint.bad(string(c.Status))
	}
	return ""
}

func gatewayListeners(g *gatewayv1.Gateway) string {
	var all []string
	for _, l := range g.Spec.Listeners {
		text := fmt.Sprintf("%s:%d", strings.ToLower(string(l.Protocol)), l.Port)
		if l.Hostname != nil && *l.Hostname != "" {
			text += "/" + string(*l.Hostname)
		}
		all = append(all, text)
	}
	return strings.Join(all, ",")
}

func sliceAddresses(e *discoveryv1.EndpointSlice) string {
	const shown = 3
	var all []string
	for _, endpoint := range e.Endpoints {
		all = append(all, endpoint.Addresses...)
	}
	if len(all) > shown {
		return strings.Join(all[:shown], ",") + fmt.Sprintf(" + %d more", len(all)-shown)
	}
	return strings.Join(all, ",")
}

func slicePorts(e *discoveryv1.EndpointSlice) string {
	var all []string
	for _, p := range e.Ports {
		if p.Port != nil {
			all = append(all, strconv.Itoa(int(*p.Port)))
		}
	}
	return strings.Join(all, ",")
}

func joined[T ~string](all []T) string {
	var texts []string
	for _, one := range all {
		texts = append(texts, string(one))
	}
	return strings.Join(texts, ",")
}

func pairs(m map[string]string) string {
	var all []string
	for k, v := range m {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}
