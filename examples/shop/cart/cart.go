// Package cart is the service that keeps customers' carts, in a store that
// speaks Redis's protocol over plain TCP.
//
//	GET    /carts/ID                      what is in it
//	POST   /carts/ID/items {"product","count"}   puts in (or, below 0, takes out)
//	POST   /carts/ID/checkout             has it paid for and empties it
package cart

import (
	"context"
	"encoding/json"
	"net/http"
	"sort"
	"strconv"

	"tulle.dev/tulle/examples/shop/catalogue"
	"tulle.dev/tulle/examples/shop/payment"
	"tulle.dev/tulle/examples/shop/service"
	"tulle.dev/tulle/examples/shop/store"
)

// Cart is what one customer wants to buy.
type Cart struct {
	ID    string `json:"id"`
	Items []Item `json:"items"`
	// Count is the number of things, Cents their price together.
	Count int `json:"count"`
	Cents int `json:"cents"`
	// Receipt is set by a checkout.
	Receipt string `json:"receipt,omitempty"`
}

// Item is a product and how many of it.
type Item struct {
	Product catalogue.Product `json:"product"`
	Count   int               `json:"count"`
}

// Change asks for more (or fewer) of a product.
type Change struct {
	Product string `json:"product"`
	Count   int    `json:"count"`
}

// keep is how long a cart is kept after its last change, in seconds.
const keep = "3600"

// maxCount bounds one change.
const maxCount = 99

// Handler serves the carts kept in s.
func Handler(s *store.Client) http.Handler {
	h := &handler{store: s}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /carts/{id}", h.get)
	mux.HandleFunc("POST /carts/{id}/items", h.change)
	mux.HandleFunc("POST /carts/{id}/checkout", h.checkout)
	return mux
}

type handler struct{ store *store.Client }

func (h *handler) get(w http.ResponseWriter, r *http.Request) {
	c, err := h.load(r.Context(), r.PathValue("id"))
	if err != nil {
		service.Fail(w, err)
		return
	}
	service.Reply(w, http.StatusOK, c)
}

func (h *handler) change(w http.ResponseWriter, r *http.Request) {
	var c Change
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&c); err != nil {
		http.Error(w, "the change isn't JSON: "+err.Error(), http.StatusBadRequest)
		return
	}
	if c.Count == 0 || c.Count > maxCount || c.Count < -maxCount {
		http.Error(w, "count must be -99 to 99 and not 0", http.StatusBadRequest)
		return
	}
	ctx, key := r.Context(), key(r.PathValue("id"))
	// The catalogue says whether there is such a product.
	var p catalogue.Product
	if err := service.Call(ctx, http.MethodGet, service.URL("catalogue")+"/products/"+c.Product, nil, &p); err != nil {
		service.Fail(w, err)
		return
	}
	now, err := h.store.Add(ctx, key, p.ID, strconv.Itoa(c.Count))
	if err == nil {
		err = h.store.Expire(ctx, key, keep)
	}
	if n, _ := strconv.Atoi(now); err == nil && n <= 0 {
		err = h.store.Remove(ctx, key, p.ID)
	}
	if err != nil {
		service.Fail(w, err)
		return
	}
	h.get(w, r)
}

func (h *handler) checkout(w http.ResponseWriter, r *http.Request) {
	ctx, id := r.Context(), r.PathValue("id")
	c, err := h.load(ctx, id)
	if err != nil {
		service.Fail(w, err)
		return
	}
	if c.Count == 0 {
		http.Error(w, "the cart is empty", http.StatusConflict)
		return
	}
	var receipt payment.Charge
	ask := payment.Charge{Cart: id, Cents: c.Cents}
	if err := service.Call(ctx, http.MethodPost, service.URL("payment")+"/charges", ask, &receipt); err != nil {
		service.Fail(w, err)
		return
	}
	if err := h.store.Delete(ctx, key(id)); err != nil {
		service.Fail(w, err)
		return
	}
	c.Receipt = receipt.ID
	service.Reply(w, http.StatusOK, c)
}

// load reads a cart and fills in names and prices.
func (h *handler) load(ctx context.Context, id string) (Cart, error) {
	c := Cart{ID: id, Items: []Item{}}
	counts, err := h.store.All(ctx, key(id))
	if err != nil || len(counts) == 0 {
		return c, err
	}
	var all []catalogue.Product
	if err := service.Call(ctx, http.MethodGet, service.URL("catalogue")+"/products", nil, &all); err != nil {
		return c, err
	}
	for _, p := range all {
		n, _ := strconv.Atoi(counts[p.ID])
		if n <= 0 {
			continue
		}
		c.Items = append(c.Items, Item{Product: p, Count: n})
		c.Count += n
		c.Cents += n * p.Cents
	}
	sort.Slice(c.Items, func(i, j int) bool { return c.Items[i].Product.Name < c.Items[j].Product.Name })
	return c, nil
}

func key(id string) string { return "cart:" + id }
