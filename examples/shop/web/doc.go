// Package web is the shop's page: products, a cart, a checkout. Pages are made
// on the server and work without JavaScript; a small script puts things into
// the cart without leaving the page.
//
//	GET  /                 all products, and what we recommend
//	GET  /products/ID      one product, and what goes with it
//	GET  /cart             the cart
//	POST /cart/items       product, count: into the cart (JSON answer for Accept: application/json)
//	POST /checkout         pays and shows the receipt
//
// A page never fails because the recommendations did.
package web
