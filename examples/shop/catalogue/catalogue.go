// Package catalogue is the service that knows what the shop sells.
//
//	GET /products        every product
//	GET /products/ID     one product
package catalogue

import (
	"net/http"

	"tulle.dev/tulle/examples/shop/service"
)

// Product is one thing the shop sells.
type Product struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Text string `json:"text"`
	// Cents is the price of one.
	Cents int `json:"cents"`
	// Weave and Hue say how to draw its picture.
	Weave string `json:"weave"`
	Hue   int    `json:"hue"`
	Kind  string `json:"kind"`
}

var products = []Product{
	{ID: "tulle", Name: "Silk tulle", Text: "A net so fine that you see it only in motion. One metre.", Cents: 4200, Weave: "net", Hue: 205, Kind: "silk"},
	{ID: "veil", Name: "Bridal veil", Text: "Two layers of tulle, hand-rolled edge.", Cents: 12900, Weave: "net", Hue: 330, Kind: "silk"},
	{ID: "chiffon", Name: "Silk chiffon", Text: "Light, sheer, and always a little late. One metre.", Cents: 3600, Weave: "wave", Hue: 280, Kind: "silk"},
	{ID: "linen", Name: "Washed linen", Text: "From flax that grew beside the sea. One metre.", Cents: 2450, Weave: "plain", Hue: 40, Kind: "linen"},
	{ID: "apron", Name: "Linen apron", Text: "Two pockets, one loop, many dinners.", Cents: 3900, Weave: "plain", Hue: 95, Kind: "linen"},
	{ID: "towel", Name: "Waffle towel", Text: "Dries you, then itself.", Cents: 1800, Weave: "waffle", Hue: 190, Kind: "cotton"},
	{ID: "denim", Name: "Indigo denim", Text: "Twelve ounces, red thread at the edge. One metre.", Cents: 2900, Weave: "twill", Hue: 222, Kind: "cotton"},
	{ID: "gingham", Name: "Gingham", Text: "For picnics and their baskets. One metre.", Cents: 1450, Weave: "check", Hue: 4, Kind: "cotton"},
	{ID: "blanket", Name: "Wool blanket", Text: "From Shetland sheep, who have others.", Cents: 9800, Weave: "stripe", Hue: 25, Kind: "wool"},
	{ID: "tweed", Name: "Harris tweed", Text: "Smells of peat when it rains. One metre.", Cents: 6400, Weave: "twill", Hue: 70, Kind: "wool"},
	{ID: "scarf", Name: "Merino scarf", Text: "Soft enough for people who say wool itches.", Cents: 5200, Weave: "stripe", Hue: 160, Kind: "wool"},
	{ID: "velvet", Name: "Cotton velvet", Text: "Deep enough to lose a coin in. One metre.", Cents: 3300, Weave: "pile", Hue: 300, Kind: "cotton"},
}

// Handler serves the catalogue.
func Handler() http.Handler {
	byID := make(map[string]Product, len(products))
	for _, p := range products {
		byID[p.ID] = p
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /products", func(w http.ResponseWriter, _ *http.Request) {
		service.Reply(w, http.StatusOK, products)
	})
	mux.HandleFunc("GET /products/{id}", func(w http.ResponseWriter, r *http.Request) {
		p, ok := byID[r.PathValue("id")]
		if !ok {
			http.Error(w, "no product "+r.PathValue("id"), http.StatusNotFound)
			return
		}
		service.Reply(w, http.StatusOK, p)
	})
	return mux
}
