package proxy_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/view"
)

// A request and its copy wait for the same HTTP/2 connection when that can't be had
// because the limit of connections is reached, by other loops: both end.
func TestCopiesWaitForOneConnection(t *testing.T) {
	app := program(t, func(w http.ResponseWriter, r *http.Request) { time.Sleep(100 * time.Millisecond) })
	v := edgeView(app)
	v.Destinations[backendKey].Protocol = view.HTTP2
	p := *policy.DefaultRequest
	p.Hedge = policy.Hedge{After: time.Millisecond, Max: 3}
	p.Retry.Budget = policy.Budget{Percent: 100, Min: 1000}
	v.Destinations[backendKey].Policy = &p
	v.Endpoints[backendKey].Policy = &policy.Upstream{Limits: policy.Limits{Connections: 1, PendingTime: 20 * time.Millisecond}, Ejection: policy.Ejection{Off: true}}
	proxy := start(t, v, 4)
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			c := client(t, false)
			for range 4 {
				resp, err := c.Get("http://" + proxy.addr(t, "http") + "/")
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if s := resp.Header.Get("Proxy-Status"); resp.StatusCode != 200 && !strings.Contains(s, "connection_limit_reached") {
					t.Errorf("%s, %q", resp.Status, s)
				}
			}
		})
	}
	wg.Wait()
}
