// Package hpack reads and writes the field blocks of HTTP/2 (HPACK, RFC 7541).
package hpack
