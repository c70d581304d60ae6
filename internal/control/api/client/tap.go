package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"tulle.dev/tulle/internal/proxy/record"
)

// TapRequest says whose requests are to be watched, and which.
type TapRequest struct {
	// Service, "cart.default", is all proxies of its workloads; Proxy, "web.default",
	// is one, a workload's or a gateway's. Exactly one of them.
	Service, Proxy string
	record.Filter
	// Time bounds the tap; 0 is ten minutes.
	Time time.Duration
}

// Tapped is one event of a tap: a request or opaque connection that has ended, or
// one of the other fields alone.
type Tapped struct {
	// Proxy saw it, "web.default".
	Proxy string `json:"proxy"`
	*record.Told
	// Missed is how many there were too many of.
	Missed uint64 `json:"missed,omitempty"`
	// Error says why the proxy isn't watched, or no more.
	Error string `json:"error,omitempty"`
}

// Tap calls each with what happens, until that returns an error, which it returns,
// or the time is over: then it returns nil. watching is called once the tap has
// begun, with the number of proxies.
func (c *Client) Tap(ctx context.Context, r TapRequest, watching func(proxies int), each func(Tapped) error) error {
	q := r.Values()
	for key, value := range map[string]string{"service": r.Service, "proxy": r.Proxy} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if r.Time > 0 {
		q.Set("seconds", strconv.Itoa(int((r.Time+time.Second-1)/time.Second)))
	}
	resp, err := c.Do(ctx, http.MethodGet, "/tulle/v1/tap?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, _ := strconv.Atoi(resp.Header.Get(HeaderProxies))
	watching(n)
	return events(ctx, c, resp.Body, each)
}

// HeaderProxies says how many proxies a tap watches at first.
const HeaderProxies = "Tulle-Proxies"

// ParseTap reads the request of a tap.
func ParseTap(q url.Values) (TapRequest, error) {
	r := TapRequest{Service: q.Get("service"), Proxy: q.Get("proxy")}
	if (r.Service == "") == (r.Proxy == "") {
		return r, errors.New("want either service=NAME.NAMESPACE or proxy=NAME.NAMESPACE")
	}
	var err error
	if r.Filter, err = record.ParseFilter(q); err != nil {
		return r, err
	}
	if text := q.Get("seconds"); text != "" {
		n, err := strconv.Atoi(text)
		if most := int(record.MaxTime / time.Second); err != nil || n < 1 || n > most {
			return r, fmt.Errorf("seconds %q: want 1 to %d", text, most)
		}
		r.Time = time.Duration(n) * time.Second
	}
	return r, nil
}
