// Package load is the shop's customers: a steady stream of people who look,
// put things into their carts, and sometimes pay.
//
// The load is an open loop: a request starts when its time has come, whether
// or not the ones before it were answered, as it is with real customers.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/examples/shop/service"
)

// Config says how much load to make.
type Config struct {
	// Target is the shop's address, without a final slash.
	Target string
	// Rate is how many requests start in a second; more than 0.
	Rate float64
	// Customers is how many carts there are; at least 1.
	Customers int
	// Every is how often a line about what happened is logged.
	Every time.Duration
}

// maxInFlight bounds the requests that wait for an answer; one that would be
// over it isn't sent, and counted as dropped.
const maxInFlight = 64

var pieces = []string{"tulle", "veil", "chiffon", "linen", "apron", "towel", "denim", "gingham", "blanket", "tweed", "scarf", "velvet"}

type counts struct{ ok, failed, dropped atomic.Int64 }

// Run makes load until ctx ends.
func Run(ctx context.Context, log *slog.Logger, c Config) error {
	if c.Rate <= 0 || c.Customers < 1 {
		return errors.New("load: the rate must be over 0 and there must be a customer")
	}
	var (
		n     counts
		wg    sync.WaitGroup
		slots = make(chan struct{}, maxInFlight)
	)
	defer wg.Wait()
	tick := time.NewTicker(time.Duration(float64(time.Second) / c.Rate))
	defer tick.Stop()
	report := time.NewTicker(c.Every)
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-report.C:
			log.Info("load", "ok", n.ok.Swap(0), "failed", n.failed.Swap(0), "dropped", n.dropped.Swap(0), "per", c.Every)
		case <-tick.C:
			select {
			case slots <- struct{}{}:
			default:
				n.dropped.Add(1)
				continue
			}
			wg.Go(func() {
				defer func() { <-slots }()
				err := visit(ctx, c.Target, rand.IntN(c.Customers))
				switch {
				case err == nil:
					n.ok.Add(1)
				case ctx.Err() == nil:
					n.failed.Add(1)
					log.Debug("load", "error", err)
				}
			})
		}
	}
}

// visit is one thing a customer does.
func visit(ctx context.Context, target string, customer int) error {
	method, path, form := http.MethodGet, "/", url.Values(nil)
	switch p := rand.Float64(); {
	case p < 0.45:
	case p < 0.65:
		path = "/products/" + pieces[rand.IntN(len(pieces))]
	case p < 0.88:
		method, path = http.MethodPost, "/cart/items"
		form = url.Values{"product": {pieces[rand.IntN(len(pieces))]}, "count": {"1"}}
	case p < 0.94:
		path = "/cart"
	default:
		method, path, form = http.MethodPost, "/checkout", url.Values{}
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, target+path, body)
	if err != nil {
		return err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.AddCookie(&http.Cookie{Name: "cart", Value: fmt.Sprintf("customer-%d", customer)})
	// A redirect is an answer too: the page behind it is another visit.
	resp, err := service.Client.Transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode >= 500 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return nil
}
