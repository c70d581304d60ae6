// Package proxyproto reads and writes the PROXY protocol's header, versions 1
// and 2, with which a load balancer says whose connection it passes on
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
//
// Bytes go in, addresses come out, and the other way round. It reads strictly:
// what the text forbids, or what could be read in two ways, is an error. Who
// calls it: the proxy's Edge listeners, before anything else on a connection.
package proxyproto
