// Package recommendations is the service that says what goes well with a
// product.
//
//	GET /recommendations?for=ID -> {"version": "v1", "products": [...]}
//
// It has two versions. v1 recommends what is of the same kind. v2 is new,
// recommends by colour, and is flaky on purpose: a share of its answers are
// errors and a share are slow.
package recommendations

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sort"
	"time"

	"tulle.dev/tulle/examples/shop/catalogue"
	"tulle.dev/tulle/examples/shop/service"
)

// Answer is what the service answers with.
type Answer struct {
	Version  string              `json:"version"`
	Products []catalogue.Product `json:"products"`
}

// Config says which version runs and how badly.
type Config struct {
	// Version is "v1" or "v2".
	Version string
	// Errors and Slow are shares of requests, 0 to 1. Slow answers take SlowBy.
	Errors, Slow float64
	SlowBy       time.Duration
}

// Flaky is how v2 behaves unless told otherwise.
var Flaky = Config{Version: "v2", Errors: 0.15, Slow: 0.15, SlowBy: 350 * time.Millisecond}

// count is how many products are recommended.
const count = 4

// Handler serves one version of the service.
func Handler(c Config) (http.Handler, error) {
	closer := map[string]func(a, b catalogue.Product) int{"v1": sameKind, "v2": nearHue}[c.Version]
	if closer == nil {
		return nil, fmt.Errorf("no version %q of the recommendations: v1 or v2", c.Version)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /recommendations", func(w http.ResponseWriter, r *http.Request) {
		if rand.Float64() < c.Errors {
			http.Error(w, "lost the thread", http.StatusInternalServerError)
			return
		}
		if rand.Float64() < c.Slow {
			select {
			case <-time.After(c.SlowBy):
			case <-r.Context().Done():
				return
			}
		}
		picked, err := pick(r.Context(), r.FormValue("for"), closer)
		if err != nil {
			service.Fail(w, err)
			return
		}
		service.Reply(w, http.StatusOK, Answer{Version: c.Version, Products: picked})
	})
	return mux, nil
}

// pick orders every other product by distance and returns the nearest.
func pick(ctx context.Context, id string, distance func(a, b catalogue.Product) int) ([]catalogue.Product, error) {
	var all []catalogue.Product
	if err := service.Call(ctx, http.MethodGet, service.URL("catalogue")+"/products", nil, &all); err != nil {
		return nil, err
	}
	var of catalogue.Product
	others := make([]catalogue.Product, 0, len(all))
	for _, p := range all {
		if p.ID == id {
			of = p
		} else {
			others = append(others, p)
		}
	}
	sort.SliceStable(others, func(i, j int) bool { return distance(of, others[i]) < distance(of, others[j]) })
	return others[:min(count, len(others))], nil
}

func sameKind(a, b catalogue.Product) int {
	if a.Kind == b.Kind {
		return 0
	}
	return 1
}

func nearHue(a, b catalogue.Product) int {
	d := (a.Hue - b.Hue + 360) % 360
	return min(d, 360-d)
}
