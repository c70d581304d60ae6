package proxy_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"tulle.dev/tulle/internal/view"
)

// schemeBack is an HTTP/2 program without TLS that tells what it was told of how
// the client came.
func schemeBack(t *testing.T) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, c)
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			head, ok := frame.(*http2.MetaHeadersFrame)
			if !ok {
				if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
					f.WriteSettingsAck()
				}
				continue
			}
			var said string
			for _, h := range head.RegularFields() {
				if h.Name == "x-forwarded-proto" {
					said += h.Value
				}
			}
			var b writeBuffer
			e := hpack.NewEncoder(&b)
			e.WriteField(hpack.HeaderField{Name: ":status", Value: "204"})
			e.WriteField(hpack.HeaderField{Name: "x-scheme", Value: head.PseudoValue("scheme")})
			e.WriteField(hpack.HeaderField{Name: "x-said", Value: said})
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: head.StreamID, BlockFragment: b, EndHeaders: true, EndStream: true}); err != nil {
				t.Error(err)
			}
		}
	}
}

type writeBuffer []byte

func (b *writeBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// TestScheme: a program without TLS is told in :scheme how it is spoken to, for
// some servers refuse anything else, and in X-Forwarded-Proto how the client came.
func TestScheme(t *testing.T) {
	plain := edgeView(serve(t, schemeBack(t)))
	plain.Destinations[backendKey].Protocol = view.HTTP2
	secure := edgeView(serve(t, schemeBack(t)))
	secure.Destinations[backendKey].Protocol = view.HTTP2
	chain, key, roots := serverCertificate(t, "edge.example")
	secure.Proxy.Listeners[0].Certificate, secure.Proxy.Listeners[0].Key = chain, key
	for scheme, v := range map[string]*view.View{"http": plain, "https": secure} {
		addr := start(t, v, 1).addr(t, "http")
		for _, two := range []bool{false, true} {
			c := client(t, two)
			if scheme == "https" {
				c.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "edge.example"}, ForceAttemptHTTP2: two}
			}
			resp, err := c.Get(scheme + "://" + addr + "/")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			c.CloseIdleConnections()
			if (resp.ProtoMajor == 2) != two || resp.Header.Get("X-Scheme") != "http" || resp.Header.Get("X-Said") != scheme {
				t.Errorf("%s from the client: %s, :scheme %q, X-Forwarded-Proto %q", scheme, resp.Proto, resp.Header.Get("X-Scheme"), resp.Header.Get("X-Said"))
			}
		}
	}
}
