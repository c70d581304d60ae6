package run

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
)

// maxOutbound bounds the loopback listeners of a program in explicit mode.
const maxOutbound = 512

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// explicitOutbound gives every service port that the mesh knows now a loopback
// port, and returns the environment that tells the program.
func (c *Config) explicitOutbound(ctx context.Context, free *freePorts) (outbound []v1alpha1.WorkloadOutbound, forward string, env []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := c.Mesh.List(ctx, resource(object.Service), "")
	if err != nil {
		return nil, "", nil, err
	}
	for _, item := range list.Items {
		o, err := object.Unmarshal(object.Service, item)
		if err != nil {
			return nil, "", nil, err
		}
		s := o.(*corev1.Service)
		var ports []uint16
		for _, p := range s.Spec.Ports {
			if len(outbound) == maxOutbound {
				c.say("more than %d service ports: the rest is reached through http_proxy only", maxOutbound)
				break
			}
			port, err := free.take(loopback)
			if err != nil {
				return nil, "", nil, err
			}
			ports = append(ports, port)
			outbound = append(outbound, v1alpha1.WorkloadOutbound{Service: s.Name + "." + s.Namespace, Port: p.Port,
				Listen: netip.AddrPortFrom(loopback, port).String()})
		}
		if s.Namespace == c.Namespace && len(ports) == len(s.Spec.Ports) {
			env = append(env, serviceVariables(s, ports)...)
		}
	}
	port, err := free.take(loopback)
	if err != nil {
		return nil, "", nil, err
	}
	forward = netip.AddrPortFrom(loopback, port).String()
	return outbound, forward, append(env, proxyVariables(forward, c.Env)...), nil
}

// serviceVariables are the variables Kubernetes sets for a service, with the
// loopback ports in place of the service's own.
func serviceVariables(s *corev1.Service, ports []uint16) []string {
	name := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
	var env []string
	set := func(key, format string, a ...any) { env = append(env, name+key+"="+fmt.Sprintf(format, a...)) }
	for i, p := range s.Spec.Ports {
		port := ports[i]
		if i == 0 {
			set("_SERVICE_HOST", "%s", loopback)
			set("_SERVICE_PORT", "%d", port)
			set("_PORT", "tcp://%s:%d", loopback, port)
		}
		if p.Name != "" {
			set("_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_")), "%d", port)
		}
		prefix := "_PORT_" + strconv.Itoa(int(p.Port)) + "_TCP"
		set(prefix, "tcp://%s:%d", loopback, port)
		set(prefix+"_ADDR", "%s", loopback)
		set(prefix+"_PORT", "%d", port)
		set(prefix+"_PROTO", "tcp")
	}
	return env
}

// proxyVariables send plain HTTP through the proxy, but not to loopback.
func proxyVariables(forward string, env []string) []string {
	direct := []string{"localhost", "127.0.0.1", "::1"}
	for _, e := range env {
		key, value, _ := strings.Cut(e, "=")
		if !strings.EqualFold(key, "no_proxy") {
			continue
		}
		for one := range strings.SplitSeq(value, ",") {
			if one = strings.TrimSpace(one); one != "" && !slices.Contains(direct, one) {
				direct = append(direct, one)
			}
		}
	}
	url, except := "http://"+forward, strings.Join(direct, ",")
	return []string{"http_proxy=" + url, "HTTP_PROXY=" + url, "no_proxy=" + except, "NO_PROXY=" + except}
}

// merge sets variables in an environment; later ones win.
func merge(env, more []string) []string {
	at := map[string]int{}
	var out []string
	for _, e := range slices.Concat(env, more) {
		key, _, _ := strings.Cut(e, "=")
		if i, ok := at[key]; ok {
			out[i] = e
			continue
		}
		at[key] = len(out)
		out = append(out, e)
	}
	return out
}

// OutboundAddress is this machine's address as the control plane at host:port
// sees it; loopback when that is on this machine.
func OutboundAddress(controlPlane string) (netip.Addr, error) {
	if strings.HasPrefix(controlPlane, "unix:") {
		return loopback, nil
	}
	conn, err := net.Dial("udp", controlPlane) // sends nothing: only a route is looked up
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
