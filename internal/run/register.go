package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/run/sockets"
)

// MadeByLabel says which command made an object; MadeByRun is `tulle run`.
const (
	MadeByLabel = "app.kubernetes.io/managed-by"
	MadeByRun   = "tulle-run"
)

// askTimeout bounds one question to the control plane.
const askTimeout = 10 * time.Second

// tokenTTL is how long the proxy has to use its join token.
const tokenTTL = "5m"

// services makes sure that every service port of the configuration exists, and
// fills in what the services say. Services that don't exist are made.
func (c *Config) services(ctx context.Context) error {
	var all []Port
	for _, p := range c.Ports {
		name, namespace := c.service(p.Service)
		have, err := c.getService(ctx, namespace, name)
		if err != nil {
			return err
		}
		if p.Port == 0 {
			if have == nil {
				return fail("say which: --service "+p.Service+" --port PORT", "there is no service %q yet, so its port isn't known", p.Service)
			}
			for _, sp := range have.Spec.Ports {
				all = append(all, Port{Service: p.Service, Port: uint16(sp.Port), App: target(sp), Protocol: p.Protocol, ProxyProtocol: p.ProxyProtocol})
			}
			continue
		}
		p, err = c.servicePort(ctx, have, namespace, name, p)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	c.Ports = all
	return nil
}

// servicePort finds a port of a service, or adds it where that is run's to do.
func (c *Config) servicePort(ctx context.Context, have *corev1.Service, namespace, name string, p Port) (Port, error) {
	if have != nil {
		var known []string
		for _, sp := range have.Spec.Ports {
			if sp.Port == int32(p.Port) {
				if p.App == 0 {
					p.App = target(sp)
				}
				return p, nil
			}
			known = append(known, strconv.Itoa(int(sp.Port)))
		}
		if have.Labels[MadeByLabel] != MadeByRun {
			return p, fail(fmt.Sprintf("serve one of its ports: --port %s:%d", known[0], p.Port),
				"service %q has no port %d, it has %s", name, p.Port, strings.Join(known, ", "))
		}
	}
	if p.App == 0 {
		p.App = p.Port
	}
	s := have
	if s == nil {
		s = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{MadeByLabel: MadeByRun}}}
		s.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Service"))
	}
	sp := corev1.ServicePort{Name: "port-" + strconv.Itoa(int(p.Port)), Port: int32(p.Port), TargetPort: intstr.FromInt32(int32(p.App))}
	if p.Protocol != "" {
		sp.AppProtocol = &p.Protocol
	}
	s.Spec.Ports = append(s.Spec.Ports, sp)
	if err := c.apply(ctx, s); err != nil {
		return p, fail("", "make service %q: %w", name, err)
	}
	return p, nil
}

func target(p corev1.ServicePort) uint16 {
	if p.TargetPort.Type == intstr.Int && p.TargetPort.IntVal != 0 {
		return uint16(p.TargetPort.IntVal)
	}
	return uint16(p.Port)
}

// service splits "cart" or "cart.shop" into name and namespace.
func (c *Config) service(s string) (name, namespace string) {
	name, namespace, ok := strings.Cut(s, ".")
	if !ok {
		namespace = c.Namespace
	}
	return name, namespace
}

func (c *Config) getService(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	data, err := c.Mesh.Get(ctx, resource(object.Service), namespace, name)
	if client.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	o, err := object.Unmarshal(object.Service, data)
	if err != nil {
		return nil, err
	}
	return o.(*corev1.Service), nil
}

func (c *Config) apply(ctx context.Context, o object.Object) error {
	kind := object.Of(o)
	o.SetResourceVersion("")
	body, err := object.Encode(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err = c.Mesh.Apply(ctx, resource(kind), o.GetNamespace(), o.GetName(), body, false)
	return err
}

func resource(k *object.Kind) client.Resource {
	return client.Resource{Group: k.Group, Version: k.Version, Plural: k.Plural, Namespaced: k.Namespaced}
}

// Protocols is what a Port's Protocol may be, a Service's appProtocol.
var Protocols = []string{"http", "http2", "kubernetes.io/h2c", "grpc", "tcp"}

// workloadProtocol is how a Workload says the same.
func workloadProtocol(p string) string {
	switch p {
	case "kubernetes.io/h2c", "grpc":
		return "http2"
	}
	return p
}

// workload describes the program to the control plane. Ports of its proxy are
// free ones of this machine.
func (c *Config) workload(mode Mode, families []sockets.Family, outbound []v1alpha1.WorkloadOutbound, forward string, free *freePorts) (*v1alpha1.Workload, error) {
	w := &v1alpha1.Workload{ObjectMeta: metav1.ObjectMeta{Name: c.Name, Namespace: c.Namespace, Labels: map[string]string{MadeByLabel: MadeByRun}}}
	w.SetGroupVersionKind(object.Workload.New().GetObjectKind().GroupVersionKind())
	maps.Copy(w.Labels, c.Labels)
	w.Spec.Address = c.Address.String()
	w.Spec.ServiceAccount = c.ServiceAccount
	w.Spec.Ephemeral = true
	for _, p := range c.Ports {
		port, err := free.take(c.Address)
		if err != nil {
			return nil, err
		}
		w.Spec.Ports = append(w.Spec.Ports, v1alpha1.WorkloadPort{Service: p.Service, Port: int32(p.Port), AppPort: int32(p.App), MeshPort: int32(port), Protocol: workloadProtocol(p.Protocol), ProxyProtocol: p.ProxyProtocol})
	}
	if mode == Namespace {
		for _, f := range families {
			w.Spec.Capture = append(w.Spec.Capture, sockets.Capture.Address(f).String())
			w.Spec.Names = append(w.Spec.Names, sockets.NamesUDP.Address(f).String())
		}
		return w, nil
	}
	w.Spec.Outbound = outbound
	if forward != "" {
		w.Spec.Forward = []string{forward}
	}
	return w, nil
}

// keep registers the workload again whenever the control plane has forgotten
// it: an ephemeral one goes with its proxy's lease, and a proxy may have been
// away for a while. It returns when ctx ends.
func (c *Config) keep(ctx context.Context, w *v1alpha1.Workload) {
	const every = 3 * time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := c.Mesh.Get(asked, resource(object.Workload), w.Namespace, w.Name)
		cancel()
		if client.IsNotFound(err) {
			_ = c.apply(ctx, w) // the next tick tries again
		}
	}
}

// forget takes the registration back.
func (c *Config) forget(w *v1alpha1.Workload) {
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = c.Mesh.Delete(ctx, resource(object.Workload), w.Namespace, w.Name, false)
}

// token asks for a join token and writes it to a file only the proxy's user can
// read.
func (c *Config) token(ctx context.Context) (file string, err error) {
	request := client.JoinTokenRequest{Identity: c.Namespace + "/" + c.ServiceAccount, TTL: tokenTTL}
	for _, p := range c.Ports {
		name, namespace := c.service(p.Service)
		request.Services = append(request.Services, name+"."+namespace)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := c.Mesh.CreateJoinToken(ctx, request)
	if err != nil {
		return "", err
	}
	file = filepath.Join(c.dir(), "join-token")
	if err := os.WriteFile(file, []byte(answer.Token+"\n"), 0o600); err != nil {
		return "", fail("", "keep the join token: %w", err)
	}
	return file, nil
}

// freePorts finds ports that nothing listens on. It holds each until release,
// so that none is given twice.
type freePorts struct{ held []net.Listener }

func (f *freePorts) take(at netip.Addr) (uint16, error) {
	l, err := net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return 0, fail("is --address one of this machine's addresses?", "find a free port at %s: %w", at, err)
	}
	f.held = append(f.held, l)
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

func (f *freePorts) release() {
	for _, l := range f.held {
		l.Close()
	}
	f.held = nil
}
