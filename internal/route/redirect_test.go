package route

import (
	"testing"
)

// The table of HTTPPathModifier.replacePrefixMatch, and what it leaves open.
var replacedPrefixes = []struct{ path, prefix, to, want string }{
	{"/foo/bar", "/foo", "/xyz", "/xyz/bar"},
	{"/foo/bar", "/foo", "/xyz/", "/xyz/bar"},
	{"/foo/bar", "/foo/", "/xyz", "/xyz/bar"},
	{"/foo/bar", "/foo/", "/xyz/", "/xyz/bar"},
	{"/foo", "/foo", "/xyz", "/xyz"},
	{"/foo/", "/foo", "/xyz", "/xyz/"},
	{"/foo/bar", "/foo", "", "/bar"},
	{"/foo/", "/foo", "", "/"},
	{"/foo", "/foo", "", "/"},
	{"/foo/", "/foo", "/", "/"},
	{"/foo", "/foo", "/", "/"},

	{"/foo/bar", "/", "/xyz", "/xyz/foo/bar"},
	{"/", "/", "/xyz", "/xyz/"},
	{"/foo", "", "/xyz", "/xyz/foo"}, // a rule without matches has the prefix /
	{"/foo//bar", "/foo", "/xyz", "/xyz//bar"},
	{"/foo/%2e%2E", "/foo", "/xyz", "/xyz/%2e%2E"},
	{"/foo/foo", "/foo", "/foo/foo", "/foo/foo/foo"},
}

func TestRewrite(t *testing.T) {
	for _, c := range replacedPrefixes {
		w := Rewrite{Change: PrefixPath, Path: c.to}
		for _, query := range []string{"", "?", "?a=b/foo?c"} {
			if got := string(w.AppendPath([]byte("kept "), []byte(c.path+query), c.prefix)); got != "kept "+c.want+query {
				t.Errorf("%s with %q in place of %q: got %q, want %q", c.path+query, c.to, c.prefix, got, c.want+query)
			}
		}
	}
	for _, c := range []struct {
		w          Rewrite
		path, want string
	}{
		{Rewrite{}, "/a?b", "/a?b"},
		{Rewrite{Host: "h"}, "/a", "/a"},
		{Rewrite{Change: FullPath, Path: "/x/"}, "/a/b", "/x/"},
		{Rewrite{Change: FullPath, Path: "/x"}, "/a/b?c=d", "/x?c=d"},
		{Rewrite{Change: FullPath, Path: "/x?y=z"}, "/a/b?c=d", "/x?y=z"},
		{Rewrite{Change: FullPath}, "/a/b?c=d", "/?c=d"},
		{Rewrite{Change: FullPath, Path: "/x"}, "*", "*"},
		{Rewrite{Change: FullPath, Path: "/x"}, "", ""},
	} {
		if got := string(c.w.AppendPath(nil, []byte(c.path), "/")); got != c.want {
			t.Errorf("%+v of %q: got %q, want %q", c.w, c.path, got, c.want)
		}
	}
}

func TestRedirect(t *testing.T) {
	for _, c := range []struct {
		name      string
		r         Redirect
		authority string
		target    string
		scheme    string
		port      uint16
		want      string
	}{
		{"all kept", Redirect{}, "shop.example", "/a?b=c", "http", 80, "http://shop.example/a?b=c"},
		{"to https", Redirect{Scheme: "https"}, "shop.example", "/a", "http", 80, "https://shop.example/a"},
		{"to https, from an odd port", Redirect{Scheme: "https"}, "shop.example:8080", "/a", "http", 8080, "https://shop.example/a"},
		{"to http, from https", Redirect{Scheme: "http"}, "shop.example", "/a", "https", 443, "http://shop.example/a"},
		{"the scheme's port goes before the listener's", Redirect{Scheme: "http"}, "shop.example", "/a", "http", 8080, "http://shop.example/a"},
		{"the listener's port", Redirect{Host: "example.org"}, "shop.example:8080", "/a", "http", 8080, "http://example.org:8080/a"},
		{"the listener's port, not the request's", Redirect{}, "shop.example:30080", "/a", "http", 8080, "http://shop.example:8080/a"},
		{"port 80 of http isn't written", Redirect{Port: 80}, "shop.example", "/a", "http", 8080, "http://shop.example/a"},
		{"port 443 of https isn't written", Redirect{Scheme: "https", Port: 443}, "shop.example", "/a", "http", 8080, "https://shop.example/a"},
		{"port 443 of http is written", Redirect{Port: 443}, "shop.example", "/a", "http", 80, "http://shop.example:443/a"},
		{"port 80 of https is written", Redirect{Scheme: "https", Port: 80}, "shop.example", "/a", "http", 80, "https://shop.example:80/a"},
		{"a port and a scheme", Redirect{Scheme: "https", Port: 8443}, "shop.example", "/a", "http", 80, "https://shop.example:8443/a"},
		{"https listener, another host", Redirect{Host: "example.org"}, "shop.example", "/a", "https", 443, "https://example.org/a"},
		{"https listener, odd port", Redirect{}, "shop.example", "/a", "https", 8443, "https://shop.example:8443/a"},
		{"an address", Redirect{}, "[::1]:8080", "/a", "http", 80, "http://[::1]/a"},
		{"an address without a port", Redirect{Scheme: "https"}, "[::1]", "/a", "http", 80, "https://[::1]/a"},
		{"the whole path", Redirect{Change: FullPath, Path: "/x"}, "shop.example", "/a/b?c=d", "http", 80, "http://shop.example/x?c=d"},
		{"the whole path with a query", Redirect{Change: FullPath, Path: "/x?y"}, "shop.example", "/a/b?c=d", "http", 80, "http://shop.example/x?y"},
		{"an empty query", Redirect{}, "shop.example", "/a?", "http", 80, "http://shop.example/a?"},
		{"no path", Redirect{}, "shop.example", "", "http", 80, "http://shop.example/"},
	} {
		if got := string(c.r.AppendLocation(nil, target(c.authority, c.target), c.scheme, c.port, "/")); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	for _, c := range replacedPrefixes {
		r := Redirect{Scheme: "https", Host: "example.org", Change: PrefixPath, Path: c.to}
		if got, want := string(r.AppendLocation(nil, target("shop.example", c.path+"?q"), "http", 80, c.prefix)), "https://example.org"+c.want+"?q"; got != want {
			t.Errorf("%s with %q in place of %q: got %q, want %q", c.path, c.to, c.prefix, got, want)
		}
	}
}

// target is a request for a target, which may have a query.
func target(authority, s string) *Request {
	r := &Request{Authority: []byte(authority), Method: []byte("GET"), Path: []byte(s)}
	for i := range r.Path {
		if r.Path[i] == '?' {
			r.Path, r.Query = r.Path[:i], r.Path[i+1:]
			break
		}
	}
	return r
}

func TestChangedPathsDoNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 256)
	q, path := target("shop.example:80", "/a/b?c"), []byte("/a/b?c")
	r := Redirect{Scheme: "https", Port: 8443, Change: PrefixPath, Path: "/x"}
	w := Rewrite{Change: PrefixPath}
	if n := testing.AllocsPerRun(100, func() {
		r.AppendLocation(buf, q, "http", 80, "/a")
		w.AppendPath(buf, path, "/a")
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
