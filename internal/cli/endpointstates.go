package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
)

// This file shows what proxies think of a service's endpoints: who is left out of
// balance, why, and for how long.

// maxProxiesAsked bounds the proxies that are asked what they think, one after
// the other.
const maxProxiesAsked = 50

// endpointState is one endpoint as one proxy sees it: the dump's endpoint_states.
type endpointState struct {
	Proxy       string  `json:"proxy"`
	Service     string  `json:"service"`
	Endpoint    string  `json:"endpoint"`
	Workload    string  `json:"workload,omitempty"`
	State       string  `json:"state"`
	Why         string  `json:"why,omitempty"`
	Left        float64 `json:"seconds_left,omitempty"`
	Failures    uint32  `json:"failures_in_a_row,omitempty"`
	Requests    uint32  `json:"requests"`
	SuccessRate float64 `json:"success_rate"`
	Ejections   uint64  `json:"ejections,omitempty"`
}

// statesOf asks a proxy what it thinks of the endpoints of services; service names
// are "SERVICE.NAMESPACE".
func statesOf(ctx context.Context, conn *client.Client, namespace, name string, services []string) ([]endpointState, error) {
	dump, err := conn.ProxyDump(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return statesIn(dump, name+"."+namespace, services)
}

// statesIn takes them from a proxy's dump.
func statesIn(dump json.RawMessage, proxy string, services []string) ([]endpointState, error) {
	var d struct {
		States []endpointState `json:"endpoint_states"`
	}
	if err := json.Unmarshal(dump, &d); err != nil {
		return nil, couldNot("`tulle diagnostics proxy NAME -o json` shows it as it is", "the proxy's dump: %w", err)
	}
	list := []endpointState{}
	for _, s := range d.States {
		for _, service := range services {
			if key, port, ok := cutLast(s.Service, ':'); ok && port != "" && key == service {
				s.Proxy = proxy
				list = append(list, s)
			}
		}
	}
	return list, nil
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// printEndpointStates shows what one proxy thinks of all endpoints of services.
func (a *app) printEndpointStates(list []endpointState) {
	if len(list) == 0 {
		fmt.Fprintln(a.Err, "the proxy has sent nothing there yet")
		return
	}
	t := newTable("SERVICE", "ENDPOINT", "STATE", "WHY", "LEFT", "REQUESTS", "SUCCESS", "EJECTIONS")
	for _, s := range list {
		success := "-"
		if s.Requests > 0 {
			success = fmt.Sprintf("%.1f%%", s.SuccessRate)
		}
		t.row(s.Service, s.Endpoint, a.endpointState(s.State), orDash(s.Why), left(s.Left),
			strconv.Itoa(int(s.Requests)), success, strconv.FormatUint(s.Ejections, 10))
	}
	t.write(a.Out)
}

// printDoubts shows which endpoints of services proxies leave out or doubt. What a
// proxy doesn't tell is left out.
func (a *app) printDoubts(ctx context.Context, conn *client.Client, services []string) {
	proxies, err := conn.Proxies(ctx)
	if err != nil {
		return
	}
	var doubts []endpointState
	asked := 0
	for _, p := range proxies {
		if !p.Connected || asked == maxProxiesAsked {
			continue
		}
		asked++
		list, err := statesOf(ctx, conn, p.Namespace, p.Name, services)
		if err != nil {
			continue
		}
		for _, s := range list {
			if s.State != "healthy" {
				doubts = append(doubts, s)
			}
		}
	}
	if len(doubts) == 0 {
		return
	}
	fmt.Fprintf(a.Out, "\n%s\n", a.paint.bold("Left out or doubted by proxies"))
	t := newTable("PROXY", "SERVICE", "ENDPOINT", "STATE", "WHY", "LEFT")
	for _, s := range doubts {
		t.row(s.Proxy, s.Service, s.Endpoint, a.endpointState(s.State), orDash(s.Why), left(s.Left))
	}
	t.write(a.Out)
}

func (a *app) endpointState(state string) string {
	switch state {
	case "healthy":
		return a.paint.good(state)
	case "suspect":
		return a.paint.warn(state)
	}
	return a.paint.bad(state)
}

// left is how long a state lasts at least.
func left(seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
