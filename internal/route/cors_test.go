package route

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAllow(t *testing.T) {
	for _, c := range []struct {
		origins string
		yes, no string
	}{
		{"", "", "https://shop.example null"},
		{"*", "https://shop.example http://shop.example:8080 null", ""},
		{"https://shop.example", "https://shop.example https://shop.example:443",
			"http://shop.example https://shop.example:8443 https://a.shop.example https://shop.example/ HTTPS://shop.example https://shop.example.evil https://shop.example:80 null"},
		{"https://shop.example:443 HTTP://Shop.example:80", "https://shop.example http://shop.example:80 http://shop.example", "http://shop.example:443 https://shop.example:80"},
		{"https://shop.example:8443", "https://shop.example:8443", "https://shop.example https://shop.example:443"},
		{"https://*.shop.example", "https://a.shop.example https://a.b.shop.example https://a.shop.example:443",
			"https://shop.example https://.shop.example http://a.shop.example https://a.shop.example:8443 https://ashop.example https://evil/.shop.example https://evil:1.shop.example https://evil@a.shop.example https://A.shop.example"},
		{"https://*.shop.example:8443", "https://a.shop.example:8443", "https://a.shop.example https://a.shop.example:443"},
		{"https://*", "https://a https://a.example:443 https://[::1]", "http://a https://a:8443 https:// https://[::1]:8443 https://a/b null"},
		{"http://*:8080", "http://a:8080 http://[::1]:8080", "http://a http://:8080 https://a:8080 http://a:80:8080"},
		{"https://a.example https://b.example http://*.c.example", "https://a.example https://b.example http://x.c.example", "https://c.example"},
	} {
		compiled, err := (&CORS{Origins: strings.Fields(c.origins)}).Compile()
		if err != nil {
			t.Errorf("%s: %v", c.origins, err)
			continue
		}
		for _, o := range strings.Fields(c.yes) {
			if !compiled.Allow([]byte(o)) {
				t.Errorf("%q doesn't allow %s", c.origins, o)
			}
		}
		for _, o := range append(strings.Fields(c.no), "") {
			if compiled.Allow([]byte(o)) {
				t.Errorf("%q allows %q", c.origins, o)
			}
		}
	}
}

func TestCORSErrors(t *testing.T) {
	for _, c := range []struct {
		cors CORS
		want string
	}{
		{CORS{Origins: []string{"https://a", "shop.example"}}, "origins[1]"},
		{CORS{Origins: []string{"ftp://a"}}, "origins[0]"},
		{CORS{Origins: []string{"https://"}}, "origins[0]"},
		{CORS{Origins: []string{"https://a/"}}, "origins[0]"},
		{CORS{Origins: []string{"https://a:0"}}, "origins[0]"},
		{CORS{Origins: []string{"https://a:65536"}}, "origins[0]"},
		{CORS{Origins: []string{"https://a:"}}, "origins[0]"},
		{CORS{Origins: []string{"https://a.*"}}, "origins[0]"},
		{CORS{Origins: []string{"https://*a"}}, "origins[0]"},
		{CORS{Origins: []string{"https://**"}}, "origins[0]"},
		{CORS{Origins: []string{"https://a\r\nb"}}, "origins[0]"},
		{CORS{Methods: []string{"GET", "A B"}}, "methods[1]"},
		{CORS{Headers: []string{"x:"}}, "headers[0]"},
		{CORS{Expose: []string{""}}, "expose[0]"},
		{CORS{MaxAge: -time.Second}, "maxAge"},
	} {
		if _, err := c.cors.Compile(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one of %s", c.cors, err, c.want)
		}
	}
}

func lines(headers []Header) string {
	var b strings.Builder
	for _, h := range headers {
		fmt.Fprintf(&b, "%s: %s\n", strings.TrimPrefix(h.Name, "access-control-"), h.Value)
	}
	return b.String()
}

func TestPreflight(t *testing.T) {
	some := CORS{Origins: []string{"https://shop.example"}, Methods: []string{"GET", "PUT"}, Headers: []string{"X-A", "x-b"}, Expose: []string{"X-C", "X-D"}, Credentials: true, MaxAge: time.Hour}
	all := CORS{Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*"}, Expose: []string{"*"}}
	trusted := all
	trusted.Credentials = true
	for _, c := range []struct {
		name    string
		cors    CORS
		ask     Preflight
		want    string
		exposes bool
	}{
		{"allowed", some, Preflight{Origin: []byte("https://shop.example"), Method: []byte("PUT"), Headers: []byte("x-a,x-b")},
			"allow-origin: https://shop.example\nallow-credentials: true\nexpose-headers: X-C, X-D\nvary: origin\nallow-methods: GET, PUT\nallow-headers: X-A, x-b\nmax-age: 3600\n", false},
		{"another origin", some, Preflight{Origin: []byte("https://evil.example"), Method: []byte("PUT")}, "vary: origin\n", false},
		{"all", all, Preflight{Origin: []byte("https://shop.example"), Method: []byte("PUT"), Headers: []byte("authorization")},
			"allow-origin: https://shop.example\nexpose-headers: *\nvary: origin\nallow-methods: PUT\nallow-headers: authorization\nmax-age: 5\n", false},
		{"all, with credentials", trusted, Preflight{Origin: []byte("https://shop.example"), Method: []byte("PUT"), Headers: []byte("x-a,x-b")},
			"allow-origin: https://shop.example\nallow-credentials: true\nvary: origin\nallow-methods: PUT\nallow-headers: x-a,x-b\nmax-age: 5\n", true},
		{"no headers asked", trusted, Preflight{Origin: []byte("https://shop.example"), Method: []byte("PUT")},
			"allow-origin: https://shop.example\nallow-credentials: true\nvary: origin\nallow-methods: PUT\nmax-age: 5\n", true},
		{"nothing but an origin", CORS{Origins: []string{"*"}, MaxAge: time.Minute}, Preflight{Origin: []byte("null"), Method: []byte("PUT"), Headers: []byte("x")},
			"allow-origin: null\nvary: origin\nmax-age: 60\n", false},
	} {
		compiled, err := c.cors.Compile()
		if err != nil {
			t.Fatal(err)
		}
		got := compiled.AppendPreflight(nil, &c.ask)
		if lines(got) != c.want {
			t.Errorf("%s: got\n%swant\n%s", c.name, lines(got), c.want)
		}
		if len(got) > MaxCORSHeaders {
			t.Errorf("%s: %d fields, MaxCORSHeaders is %d", c.name, len(got), MaxCORSHeaders)
		}
		if compiled.ExposeNames() != c.exposes {
			t.Errorf("%s: ExposeNames is %v", c.name, !c.exposes)
		}
	}
}

func TestCORSResponse(t *testing.T) {
	compiled, err := (&CORS{Origins: []string{"https://shop.example"}, Methods: []string{"PUT"}, Headers: []string{"X-A"}, Expose: []string{"X-C"}, Credentials: true}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	for origin, want := range map[string]string{
		"https://shop.example": "allow-origin: https://shop.example\nallow-credentials: true\nexpose-headers: X-C\nvary: origin\n",
		"https://evil.example": "vary: origin\n",
		"":                     "vary: origin\n",
	} {
		if got := lines(compiled.AppendResponse(nil, []byte(origin))); got != want {
			t.Errorf("origin %q: got\n%swant\n%s", origin, got, want)
		}
	}
}

func TestIsPreflight(t *testing.T) {
	ask := fields{"origin": "https://shop.example", "access-control-request-method": "PUT"}
	for _, c := range []struct {
		method string
		fields fields
		want   bool
	}{
		{"OPTIONS", ask, true},
		{"GET", ask, false},
		{"options", ask, false},
		{"OPTIONS", fields{"origin": "https://shop.example"}, false},
		{"OPTIONS", fields{"access-control-request-method": "PUT"}, false},
	} {
		if _, got := IsPreflight(&Request{Method: []byte(c.method), Fields: c.fields}); got != c.want {
			t.Errorf("%s %v: %v, want %v", c.method, c.fields, got, c.want)
		}
	}
	if _, got := IsPreflight(&Request{Method: []byte("OPTIONS")}); got {
		t.Error("a request without fields is no preflight")
	}
}

func TestCORSDoesNotAllocate(t *testing.T) {
	compiled, err := (&CORS{Origins: []string{"https://a.example", "https://*.shop.example"}, Methods: []string{"*"}, Headers: []string{"*"}, Credentials: true}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]Header, 0, MaxCORSHeaders)
	ask := &Preflight{Origin: []byte("https://a-rather-long-name.of-a.shop.example:443"), Method: []byte("PUT"), Headers: []byte("x-a")}
	if n := testing.AllocsPerRun(100, func() { buf = compiled.AppendPreflight(buf[:0], ask) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if len(buf) != 6 {
		t.Errorf("%d fields: %v", len(buf), buf)
	}
}
