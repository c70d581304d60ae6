package dashboard

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	const page = "/services"
	tests := []struct {
		name   string
		method string
		path   string
		host   string
		fields map[string]string
		want   int
	}{
		{"a browser on loopback", "GET", page, "127.0.0.1:9441", nil, 200},
		{"localhost", "GET", page, "localhost:9441", nil, 200},
		{"a name under localhost", "GET", page, "tulle.localhost", nil, 200},
		{"IPv6", "GET", page, "[::1]:9441", nil, 200},
		{"IPv6 without a port", "GET", page, "[::1]", nil, 200},
		{"IPv4 in IPv6", "GET", page, "[::ffff:127.0.0.1]:9441", nil, 200},
		{"any case, final dot", "GET", page, "LocalHost.:9441", nil, 200},
		{"a name that was configured", "GET", page, "mesh.example:443", nil, 200},
		{"another name: DNS rebinding", "GET", page, "evil.example:9441", nil, 421},
		{"a name that ends alike", "GET", page, "notlocalhost:9441", nil, 421},
		{"a name that begins alike", "GET", page, "localhost.evil.example", nil, 421},
		{"another address", "GET", page, "192.0.2.1:9441", nil, 421},
		{"no host", "GET", page, "", nil, 421},
		{"our own page asks", "GET", "/api/check", "127.0.0.1:9441", map[string]string{"Origin": "http://127.0.0.1:9441"}, 200},
		{"another origin", "GET", "/api/check", "127.0.0.1:9441", map[string]string{"Origin": "http://evil.example"}, 403},
		{"another port is another origin", "GET", "/api/check", "127.0.0.1:9441", map[string]string{"Origin": "http://127.0.0.1:8080"}, 403},
		{"another loopback name is another origin", "GET", "/api/check", "127.0.0.1:9441", map[string]string{"Origin": "http://localhost:9441"}, 403},
		{"a sandboxed page", "GET", "/api/check", "127.0.0.1:9441", map[string]string{"Origin": "null"}, 403},
		{"a form of another site", "POST", "/api/v1/query", "127.0.0.1:9441", map[string]string{"Origin": "http://evil.example"}, 403},
		{"an image of another site", "GET", "/api/check", "127.0.0.1:9441", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403},
		{"a link of another site to a page", "GET", page, "127.0.0.1:9441", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200},
		{"a link of another site to data", "GET", "/api/check", "127.0.0.1:9441", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403},
		{"a program, such as Grafana", "POST", "/api/v1/query", "127.0.0.1:9441", nil, 200},
		{"the address bar", "GET", "/api/check", "127.0.0.1:9441", map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200},
	}
	mesh := newFakeMesh()
	d := New(Config{Mesh: mesh, Signals: fakeSignals{mesh}, Hosts: []string{"mesh.example"}, Prometheus: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.path, nil)
			r.Host = test.host
			for name, v := range test.fields {
				r.Header.Set(name, v)
			}
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("%s %s: %d, want %d\n%s", test.method, test.path, w.Code, test.want, w.Body)
			}
			if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
				t.Error("no Content-Security-Policy")
			}
			for _, name := range []string{"Access-Control-Allow-Origin"} {
				if v := w.Header().Get(name); v != "" {
					t.Errorf("%s: %s, want none", name, v)
				}
			}
		})
	}
}
