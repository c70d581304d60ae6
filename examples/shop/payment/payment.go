// Package payment is the service that takes the money.
//
//	POST /charges {"cart": "...", "cents": 4200} -> {"id": "...", "cents": 4200}
//
// No money moves. A charge of nothing or of more than MaxCents is declined
// with 402.
package payment

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"time"

	"tulle.dev/tulle/examples/shop/service"
)

// MaxCents is the most one charge may be.
const MaxCents = 100_000

// Charge asks for money, and is the receipt for it.
type Charge struct {
	ID    string `json:"id,omitempty"`
	Cart  string `json:"cart"`
	Cents int    `json:"cents"`
}

// bankTime is how long the imagined bank thinks.
const bankTime = 8 * time.Millisecond

// Handler serves the payment service.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /charges", func(w http.ResponseWriter, r *http.Request) {
		var c Charge
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&c); err != nil {
			http.Error(w, "the charge isn't JSON: "+err.Error(), http.StatusBadRequest)
			return
		}
		if c.Cents <= 0 || c.Cents > MaxCents {
			http.Error(w, "declined", http.StatusPaymentRequired)
			return
		}
		select {
		case <-time.After(bankTime):
		case <-r.Context().Done():
			return
		}
		c.ID = rand.Text()[:12]
		service.Reply(w, http.StatusCreated, c)
	})
	return mux
}
