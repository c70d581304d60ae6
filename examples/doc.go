// Package examples holds what people start from: the sample shop, one proxy at
// an edge, a pair of proxies with mutual TLS. Its tests keep the objects in
// them true.
package examples
