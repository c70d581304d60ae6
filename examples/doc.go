// Package examples holds what people start from: the sample shop, policies and
// routes to apply beside it (traffic, access), one proxy at an edge, a pair of
// proxies with mutual TLS. Its tests keep the objects in them true; test/e2e
// applies them.
package examples
