package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tulle.dev/tulle/internal/control/api"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/proxy/record"
)

const (
	// maxTapped bounds the proxies of one tap.
	maxTapped = 32
	// tapLook is how often a tap looks for proxies that are new, or back.
	tapLook = 2 * time.Second
	// maxTapLine bounds an event that a proxy tells, in bytes.
	maxTapLine = 64 << 10
	// tapQuiet is after how long without an event the one who watches gets an empty
	// one.
	tapQuiet = 10 * time.Second
)

var _ api.Taps = (*facts)(nil)

// tap is one under way. Its fields are the one goroutine's that runs it.
type tap struct {
	facts   *facts
	request client.TapRequest
	may     func(namespace string) error
	events  chan client.Tapped
	under   map[string]bool   // proxies that are watched
	said    map[string]string // why others aren't
	up      chan bool         // each that was started says once whether it watches
	ended   chan string
	all     sync.WaitGroup
}

// Tap watches the proxies of a service, or one proxy.
func (f *facts) Tap(ctx context.Context, r client.TapRequest, may func(string) error, begun func(int), each func(client.Tapped) error) error {
	ctx, cancel := context.WithCancel(ctx)
	t := &tap{facts: f, request: r, may: may, events: make(chan client.Tapped, 64), under: map[string]bool{}, said: map[string]string{}, up: make(chan bool), ended: make(chan string)}
	defer t.all.Wait()
	defer cancel()
	first, err := t.proxies()
	if err != nil {
		return err
	}
	for _, p := range first {
		if err := may(p.Namespace); err != nil && len(first) == 1 {
			return err
		}
	}
	list := t.start(ctx, first)
	watched := 0
	for range len(t.under) { // from here on nothing is missed
		select {
		case ok := <-t.up:
			if ok {
				watched++
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	begun(watched)
	look, quiet := time.NewTicker(tapLook), time.NewTicker(tapQuiet)
	defer look.Stop()
	defer quiet.Stop()
	for {
		for _, e := range list {
			if e.Error != "" && t.said[e.Proxy] == e.Error {
				continue // it has been said
			}
			if e.Error != "" {
				t.said[e.Proxy] = e.Error
			}
			if err := each(e); err != nil {
				return err
			}
		}
		list = list[:0]
		select {
		case <-ctx.Done():
			return nil
		case e := <-t.events:
			list = append(list, e)
			quiet.Reset(tapQuiet)
		case <-t.up:
		case name := <-t.ended:
			delete(t.under, name)
		case <-quiet.C:
			list = append(list, client.Tapped{})
		case <-look.C:
			if now, err := t.proxies(); err == nil {
				list = t.start(ctx, now)
			}
		}
	}
}

// proxies are those to watch.
func (t *tap) proxies() ([]client.Proxy, error) {
	all := t.facts.push.Proxies()
	if t.request.Proxy != "" {
		list := slices.DeleteFunc(all, func(p client.Proxy) bool { return p.Name+"."+p.Namespace != t.request.Proxy })
		if len(list) == 0 {
			return nil, &client.Status{Code: http.StatusNotFound, Reason: client.ReasonNotFound,
				Message: fmt.Sprintf("no proxy named %s has connected to this control plane", t.request.Proxy)}
		}
		return list, nil
	}
	s := t.facts.Snapshot()
	name, namespace, _ := strings.Cut(t.request.Service, ".")
	service := mesh.Name{Name: name, Namespace: namespace}
	if s.Services[service] == nil {
		return nil, &client.Status{Code: http.StatusNotFound, Reason: client.ReasonNotFound, Message: fmt.Sprintf("there is no Service %s in namespace %s", name, namespace)}
	}
	list := slices.DeleteFunc(all, func(p client.Proxy) bool {
		w := s.Workloads[mesh.Name{Name: p.Name, Namespace: p.Namespace}]
		return p.Role == roleGateway || w == nil || !slices.ContainsFunc(w.Ports, func(port mesh.WorkloadPort) bool { return port.Service == service })
	})
	return list, nil
}

const roleGateway = "gateway"

// start watches the proxies that aren't watched yet, and says of which that can't
// be.
func (t *tap) start(ctx context.Context, list []client.Proxy) (notes []client.Tapped) {
	for _, p := range list {
		name := p.Name + "." + p.Namespace
		if t.under[name] {
			continue
		}
		var err error
		switch err = t.may(p.Namespace); {
		case err != nil:
		case !p.Connected:
			err = errors.New("is not connected")
		case len(t.under) >= maxTapped:
			err = fmt.Errorf("is left out: a tap watches %d proxies at most", maxTapped)
		}
		if err != nil {
			notes = append(notes, client.Tapped{Proxy: name, Error: err.Error()})
			continue
		}
		t.under[name] = true
		t.all.Go(func() {
			said := false
			up := func(ok bool) {
				if !said {
					said = true
					select {
					case t.up <- ok:
					case <-ctx.Done():
					}
				}
			}
			err := t.watch(ctx, &p, name, up)
			up(false)
			if err != nil && ctx.Err() == nil {
				t.event(ctx, client.Tapped{Proxy: name, Error: err.Error()})
			}
			select {
			case t.ended <- name:
			case <-ctx.Done():
			}
		})
	}
	return notes
}

func (t *tap) event(ctx context.Context, e client.Tapped) {
	select {
	case t.events <- e:
	case <-ctx.Done():
	}
}

// watch passes a proxy's events on until it ends; up is told when it begins. What
// a proxy says is read strictly, and written anew.
func (t *tap) watch(ctx context.Context, p *client.Proxy, name string, up func(bool)) error {
	c, base, err := t.facts.adminClient(p)
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	c.Timeout = 0 // ctx has one
	if transport, ok := c.Transport.(*http.Transport); ok {
		transport.ResponseHeaderTimeout = adminTimeout
	}
	q := t.request.Values()
	if t.request.Time > 0 {
		q.Set("seconds", strconv.Itoa(int(t.request.Time/time.Second)))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/tap?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("doesn't answer at %s: %w", p.Admin, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("answered %d: %s", resp.StatusCode, bytes.TrimSpace(text))
	}
	up(true)
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxTapLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		e := client.Tapped{Told: new(record.Told)}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("its answer can't be read: %w", err)
		}
		if e.Proxy, e.Error = name, ""; e.Missed > 0 {
			e.Told = nil
		}
		t.event(ctx, e)
	}
	return lines.Err()
}
