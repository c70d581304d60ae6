// Package admin answers questions about a proxy over HTTP/1.1: whether it is
// ready and alive, its metrics, and all that it believes.
//
// In come connections of a Unix socket or a TCP listener, out go text and JSON.
// It asks live, meter and the providers that the rest of the proxy registers;
// it changes nothing, but for POST /drain on the Unix socket, with which the
// program's supervisor says that the program is going. It has goroutines of its
// own, few and bounded, beside the loops. Who calls it: the proxy's assembly;
// people, probes and the control plane connect to it.
package admin
