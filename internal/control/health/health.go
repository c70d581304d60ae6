// Package health asks workloads without a proxy whether they serve: a TCP
// connection, or a GET where the workload says a path. In comes the list of
// workloads, out go changes of status.ready. Workloads with a proxy are watched
// by it. The elected replica runs it.
package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/mesh"
)

const (
	interval  = 5 * time.Second
	timeout   = 2 * time.Second
	failures  = 3 // in a row, until a workload is taken out
	atOnce    = 16
	maxAnswer = 4 << 10
)

// Checker checks. Run owns its fields.
type Checker struct {
	objects *store.Objects
	leader  func() bool
	log     *slog.Logger
	client  *http.Client
	mu      sync.Mutex
	failed  map[mesh.Name]int
}

// New makes a checker.
func New(objects *store.Objects, leader func() bool, log *slog.Logger) *Checker {
	return &Checker{objects: objects, leader: leader, log: log, failed: map[mesh.Name]int{}, client: &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Run checks every few seconds until the context ends.
func (c *Checker) Run(ctx context.Context) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if c.leader() {
				c.Round(ctx)
			}
		}
	}
}

// Round checks everything once.
func (c *Checker) Round(ctx context.Context) {
	objects, _, err := c.objects.FetchAll(ctx, object.Workload, "")
	if err != nil {
		return
	}
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	defer all.Wait()
	seen := map[mesh.Name]bool{}
	for _, o := range objects {
		w := o.(*v1alpha1.Workload)
		ports := checked(w)
		if len(ports) == 0 {
			continue
		}
		seen[mesh.Name{Namespace: w.Namespace, Name: w.Name}] = true
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			c.check(ctx, w, ports)
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range c.failed {
		if !seen[n] {
			delete(c.failed, n)
		}
	}
}

// checked are the ports of a workload that nobody else watches.
func checked(w *v1alpha1.Workload) []v1alpha1.WorkloadPort {
	if w.Status.Lease == v1alpha1.LeaseHeld || w.Status.Lease == v1alpha1.LeaseSuspect {
		return nil
	}
	var out []v1alpha1.WorkloadPort
	for _, p := range w.Spec.Ports {
		if p.MeshAddress != "" || p.MeshPort != 0 {
			return nil
		}
		out = append(out, p)
	}
	return out
}

func (c *Checker) check(ctx context.Context, w *v1alpha1.Workload, ports []v1alpha1.WorkloadPort) {
	n := mesh.Name{Namespace: w.Namespace, Name: w.Name}
	var problem error
	for _, p := range ports {
		address := p.AppAddress
		if address == "" {
			port := p.AppPort
			if port == 0 {
				port = p.Port
			}
			address = net.JoinHostPort(w.Spec.Address, fmt.Sprint(port))
		}
		if problem = c.ask(ctx, address, p.HealthPath); problem != nil {
			problem = fmt.Errorf("%s port %d: %w", p.Service, p.Port, problem)
			break
		}
	}
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	if problem == nil {
		delete(c.failed, n)
	} else {
		c.failed[n]++
	}
	enough := c.failed[n] >= failures || problem != nil && w.Status.Ready == nil
	c.mu.Unlock()
	if problem != nil && !enough {
		return
	}
	ready, detail := problem == nil, ""
	if problem != nil {
		detail = problem.Error()
	}
	_, err := c.objects.Update(ctx, object.Workload, n.Namespace, n.Name, false, func(o object.Object) bool {
		s := &o.(*v1alpha1.Workload).Status
		if s.Ready != nil && *s.Ready == ready && s.Detail == detail {
			return false
		}
		s.Ready, s.Detail = &ready, detail
		return true
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrNotFound) {
		c.log.Warn("a workload's health can't be written", "workload", n.String(), "error", err)
	}
}

func (c *Checker) ask(ctx context.Context, address, path string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if path == "" {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "tulle-health")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("GET %s answered %s, want 2xx or 3xx", path, resp.Status)
	}
	return nil
}
