package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/audit"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/operator"
)

const (
	// maxTaps bounds the taps at a time.
	maxTaps = 16
	// tapTime is how long one lasts that doesn't say.
	tapTime = 10 * time.Minute
)

// Taps let somebody watch the requests of proxies.
type Taps interface {
	// Tap watches until ctx ends. Of the proxies it leaves those out for whose
	// namespace may returns an error. begun is called once, with how many proxies are
	// watched at first; it isn't called when there is an error. Events come from one
	// goroutine at a time; each returns an error to end the tap.
	Tap(ctx context.Context, r client.TapRequest, may func(namespace string) error, begun func(proxies int), each func(client.Tapped) error) error
}

// tap answers GET /tulle/v1/tap with a line of JSON for each event.
func (a *API) tap(w http.ResponseWriter, r *http.Request) (any, error) {
	taps, ok := a.config.Stories.(Taps)
	if !ok {
		return nil, failure(http.StatusServiceUnavailable, client.ReasonUnavailable, "this control plane asks no proxies")
	}
	q, err := client.ParseTap(r.URL.Query())
	if err != nil {
		return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "%s", err)
	}
	select {
	case a.taps <- struct{}{}:
		defer func() { <-a.taps }()
	default:
		return nil, failure(http.StatusTooManyRequests, client.ReasonTooMany, "%d taps are under way: as many as there may be", maxTaps)
	}
	if q.Time == 0 {
		q.Time = tapTime
	}
	ctx, cancel := contextWithTimeout(r, q.Time)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-a.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	out := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	answered := false
	begun := func(proxies int) {
		answered = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set(client.HeaderProxies, strconv.Itoa(proxies))
		w.WriteHeader(http.StatusOK)
		out.SetWriteDeadline(time.Now().Add(watchWrite))
		out.Flush() // an error shows with the next event
	}
	who := operator.Of(r.Context())
	may := func(namespace string) error { return who.May(operator.Tap, namespace) }
	each := func(e client.Tapped) error {
		out.SetWriteDeadline(time.Now().Add(watchWrite))
		if e.Proxy == "" { // nothing happens
			if _, err := w.Write([]byte("\n")); err != nil {
				return err
			}
		} else if err := enc.Encode(e); err != nil {
			return err
		}
		return out.Flush()
	}
	entry := audit.Entry{Action: "tap", Kind: "Service"}
	target := q.Service
	if q.Proxy != "" {
		entry.Kind, target = "Proxy", q.Proxy
	}
	entry.Name, entry.Namespace, _ = strings.Cut(target, ".")
	recorded := false
	note := func(err error) {
		if !recorded {
			recorded = true
			a.record(r, entry, err)
		}
	}
	err = taps.Tap(ctx, q, may, func(n int) { note(nil); begun(n) }, each)
	if !answered {
		note(err)
		return nil, err
	}
	return nil, errAnswered
}

// tapped says whether somebody may watch what is asked for.
func tapped(r *http.Request, w *operator.Who) error {
	q := r.URL.Query()
	name := q.Get("service")
	if name == "" {
		name = q.Get("proxy")
	}
	p, err := object.ServiceName(name, object.DefaultNamespace)
	if err != nil {
		return w.May(operator.Tap, "")
	}
	return w.May(operator.Tap, p[1])
}
