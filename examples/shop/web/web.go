package web

import (
	"context"
	"crypto/rand"
	"embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/examples/shop/cart"
	"tulle.dev/tulle/examples/shop/catalogue"
	"tulle.dev/tulle/examples/shop/recommendations"
	"tulle.dev/tulle/examples/shop/service"
)

//go:embed assets
var assets embed.FS

// recommendTime is how long a page waits for the recommendations.
const recommendTime = 500 * time.Millisecond

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"euro":    func(cents int) string { return fmt.Sprintf("%d.%02d €", cents/100, cents%100) },
	"picture": picture,
}).ParseFS(assets, "assets/*.html"))

// page is what the templates are filled with.
type page struct {
	Title     string
	Cart      cart.Cart
	Product   catalogue.Product
	Products  []catalogue.Product
	Recommend recommendations.Answer
	// Problem is told to the customer.
	Problem string
}

// Handler serves the shop's pages.
func Handler(log *slog.Logger) http.Handler {
	h := &handler{log: log}
	mux := http.NewServeMux()
	mux.Handle("GET /assets/", http.FileServerFS(assets))
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /{$}", h.home)
	mux.HandleFunc("GET /products/{id}", h.product)
	mux.HandleFunc("GET /cart", h.cart)
	mux.HandleFunc("POST /cart/items", h.change)
	mux.HandleFunc("POST /checkout", h.checkout)
	return mux
}

type handler struct{ log *slog.Logger }

func (h *handler) home(w http.ResponseWriter, r *http.Request) {
	p := page{Title: "Woven things", Cart: h.current(w, r)}
	if err := service.Call(r.Context(), http.MethodGet, service.URL("catalogue")+"/products", nil, &p.Products); err != nil {
		h.trouble(w, p, err)
		return
	}
	p.Recommend = h.recommend(r.Context(), "tulle")
	h.show(w, http.StatusOK, "home.html", p)
}

func (h *handler) product(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	p := page{Cart: h.current(w, r)}
	if err := service.Call(r.Context(), http.MethodGet, service.URL("catalogue")+"/products/"+url.PathEscape(id), nil, &p.Product); err != nil {
		h.trouble(w, p, err)
		return
	}
	p.Title = p.Product.Name
	p.Recommend = h.recommend(r.Context(), id)
	h.show(w, http.StatusOK, "product.html", p)
}

func (h *handler) cart(w http.ResponseWriter, r *http.Request) {
	h.show(w, http.StatusOK, "cart.html", page{Title: "Your cart", Cart: h.current(w, r)})
}

func (h *handler) change(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	count, err := strconv.Atoi(r.FormValue("count"))
	if err != nil {
		http.Error(w, "count must be a number", http.StatusBadRequest)
		return
	}
	id := customer(w, r)
	var c cart.Cart
	in := cart.Change{Product: r.FormValue("product"), Count: count}
	if err := service.Call(r.Context(), http.MethodPost, service.URL("cart")+"/carts/"+url.PathEscape(id)+"/items", in, &c); err != nil {
		h.trouble(w, page{Cart: cart.Cart{ID: id}}, err)
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		service.Reply(w, http.StatusOK, c)
		return
	}
	http.Redirect(w, r, "/cart", http.StatusSeeOther)
}

func (h *handler) checkout(w http.ResponseWriter, r *http.Request) {
	id := customer(w, r)
	var c cart.Cart
	err := service.Call(r.Context(), http.MethodPost, service.URL("cart")+"/carts/"+url.PathEscape(id)+"/checkout", nil, &c)
	if se, ok := err.(*service.StatusError); ok && se.Code/100 == 4 {
		h.show(w, se.Code, "cart.html", page{Title: "Your cart", Cart: h.current(w, r), Problem: refusals[se.Code]})
		return
	}
	if err != nil {
		h.trouble(w, page{Cart: cart.Cart{ID: id}}, err)
		return
	}
	h.show(w, http.StatusOK, "receipt.html", page{Title: "Thank you", Cart: c})
}

// refusals says in the shop's words why a checkout was refused.
var refusals = map[int]string{
	http.StatusPaymentRequired: "The bank declined: this is more than one payment may be.",
	http.StatusConflict:        "Your cart is empty.",
}

// current is the customer's cart; an empty one when it can't be had, since a
// page without a cart is better than none.
func (h *handler) current(w http.ResponseWriter, r *http.Request) cart.Cart {
	c := cart.Cart{ID: customer(w, r)}
	if err := service.Call(r.Context(), http.MethodGet, service.URL("cart")+"/carts/"+url.PathEscape(c.ID), nil, &c); err != nil {
		h.log.Debug("no cart", "error", err)
	}
	return c
}

func (h *handler) recommend(ctx context.Context, id string) recommendations.Answer {
	ctx, cancel := context.WithTimeout(ctx, recommendTime)
	defer cancel()
	var a recommendations.Answer
	if err := service.Call(ctx, http.MethodGet, service.URL("recommendations")+"/recommendations?for="+url.QueryEscape(id), nil, &a); err != nil {
		h.log.Debug("no recommendations", "error", err)
	}
	return a
}

// trouble shows a page that says something is wrong, with the code that fits.
func (h *handler) trouble(w http.ResponseWriter, p page, err error) {
	h.log.Warn("a page failed", "error", err)
	p.Title, p.Problem = "Sorry", "Something in the shop doesn't answer. Please try again in a moment."
	code := http.StatusBadGateway
	if se, ok := err.(*service.StatusError); ok && se.Code/100 == 4 {
		code, p.Problem = se.Code, "We don't have that."
	}
	h.show(w, code, "trouble.html", p)
}

func (h *handler) show(w http.ResponseWriter, code int, name string, p page) {
	var b strings.Builder
	if err := pages.ExecuteTemplate(&b, name, p); err != nil {
		h.log.Error("a template failed", "name", name, "error", err)
		http.Error(w, "this page has a mistake", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	w.Write([]byte(b.String()))
}

// maxID bounds a customer's cookie, in bytes.
const maxID = 64

// customer is who the cookie says it is; somebody new gets one.
func customer(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie("cart"); err == nil && c.Value != "" && len(c.Value) <= maxID {
		return c.Value
	}
	c := &http.Cookie{Name: "cart", Value: rand.Text()[:16], Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}
	http.SetCookie(w, c)
	r.AddCookie(c) // later calls for the same request see the same customer
	return c.Value
}
