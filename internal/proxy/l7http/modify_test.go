package l7http

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/h1"
)

// pairs are the fields that are passed on, names in lower case.
func pairs(fields []h1.Field) [][2]string {
	var list [][2]string
	for i := range fields {
		if f := &fields[i]; !f.Drop {
			list = append(list, [2]string{strings.ToLower(string(f.Name)), string(f.Value)})
		}
	}
	return list
}

// modified does what a modifier is to do, the plain way.
func modified(list [][2]string, m *route.Modifier) [][2]string {
	for _, name := range m.Remove {
		if route.Writable(name) {
			list = slices.DeleteFunc(list, func(f [2]string) bool { return f[0] == strings.ToLower(name) })
		}
	}
	may := func(v route.Value) bool { return route.Writable(v.Name) && route.ValidValue(v.Value) }
	for _, v := range m.Set {
		if !may(v) {
			continue
		}
		name, set := strings.ToLower(v.Name), false
		var out [][2]string
		for _, f := range list {
			switch {
			case f[0] != name:
				out = append(out, f)
			case !set:
				out, set = append(out, [2]string{name, v.Value}), true
			}
		}
		if !set {
			out = append(out, [2]string{name, v.Value})
		}
		list = out
	}
	for _, v := range m.Add {
		if may(v) {
			list = append(list, [2]string{strings.ToLower(v.Name), v.Value})
		}
	}
	return list
}

// FuzzModifier: whatever a modifier and a rewrite say, what is sent on is one
// message that means what was meant: of the same method and framing, with the
// fields that it should have. Nobody can smuggle anything through a filter.
func FuzzModifier(f *testing.F) {
	for _, head := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /a/b?c=d HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\nConnection: x-hop\r\nX-Hop: h\r\n\r\n",
		"PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nTE: trailers\r\nExpect: 100-continue\r\n\r\n",
		"GET /a HTTP/1.0\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
		"GET http://b/c HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
	} {
		f.Add([]byte(head), "x-a", "new", "x-b", "added", "x-c", "/new", "other.example")
		f.Add([]byte(head), "Content-Length", "0", "Transfer-Encoding", "chunked", "Host", "/x?y", "")
		f.Add([]byte(head), "x-a", "1\r\nContent-Length: 9", "x\r\nHost: evil", "v", "connection", "/a b\r\n\r\nGET /", "evil\r\n")
	}
	f.Fuzz(func(t *testing.T, head []byte, setName, setValue, addName, addValue, remove, path, host string) {
		var r h1.Request
		r.Reset()
		n, e := r.Parse(head, nil)
		if e != nil || n == 0 {
			return
		}
		m := &route.Modifier{Set: []route.Value{{Name: setName, Value: setValue}}, Add: []route.Value{{Name: addName, Value: addValue}}, Remove: []string{remove}}
		rewrite := &route.Rewrite{Host: host, Change: route.FullPath, Path: path}
		if (&route.Rule{Filters: route.Filters{Rewrite: rewrite}}).Check() != nil { // the proxy refuses such a view
			rewrite = nil
		}
		want := modified(pairs(r.Fields), m)
		x := &Exchange{Request: r}
		x.change(NewFilters(&route.Filters{Request: m, Rewrite: rewrite}, nil, nil).orNone())
		sent := h1.AppendRequest(nil, &x.Request, &h1.RequestOptions{Authority: authorityFor(&x.Request), Upgrade: true})

		var got h1.Request
		got.Reset()
		k, e := got.Parse(append(sent, "more"...), nil)
		if e != nil || k != len(sent) {
			t.Fatalf("%q is sent on as %q, which is %d bytes of a request: %v", head[:n], sent, k, e)
		}
		if string(got.MethodName) != string(r.MethodName) || got.Framing != r.Framing || got.Length != r.Length ||
			!bytes.Equal(got.Path, x.Request.Path) || !bytes.Equal(got.Upgrade, r.Upgrade) || got.TETrailers != r.TETrailers {
			t.Errorf("%q became %q", head[:n], sent)
		}
		if rewrite != nil && r.Method != h1.CONNECT && host != "" && string(got.Authority) != host {
			t.Errorf("authority %q, want %q", got.Authority, host)
		}
		if rewrite != nil && r.Method != h1.CONNECT && string(got.Path) != string(rewrite.AppendPath(nil, r.Path, "/")) {
			t.Errorf("%q was to become %q and is %q", r.Path, path, got.Path)
		}
		if diff := cmp.Diff(want, pairs(got.Fields)); diff != "" {
			t.Errorf("%q became %q: %s", head[:n], sent, diff)
		}
	})
}

// orNone lets a test apply filters that do nothing.
func (f *Filters) orNone() *Filters {
	if f == nil {
		return &Filters{}
	}
	return f
}

func authorityFor(r *h1.Request) []byte {
	if len(r.Authority) == 0 {
		return []byte("127.0.0.1:1") // as for an HTTP/1.0 client that names none
	}
	return nil
}

// FuzzResponseModifier is FuzzModifier for responses.
func FuzzResponseModifier(f *testing.F) {
	for _, head := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nX-A: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\n",
	} {
		f.Add([]byte(head), "x-a", "new", "set-cookie", "c", "date")
		f.Add([]byte(head), "Content-Length", "0", "Transfer-Encoding", "chunked", "content-length")
		f.Add([]byte(head), "x-a", "1\r\n\r\nHTTP/1.1 200 OK", "x: y\r\n", "\n", "transfer-encoding")
	}
	f.Fuzz(func(t *testing.T, head []byte, setName, setValue, addName, addValue, remove string) {
		var r h1.Response
		n, e := r.Parse(head, h1.Asked{Method: h1.GET}, nil)
		if e != nil || n == 0 || r.Interim() {
			return
		}
		m := &route.Modifier{Set: []route.Value{{Name: setName, Value: setValue}}, Add: []route.Value{{Name: addName, Value: addValue}}, Remove: []string{remove}}
		want := modified(pairs(r.Fields), m)
		want = slices.DeleteFunc(want, func(f [2]string) bool { return f[0] == "trailer" }) // this client takes none
		apply := newModifier(m)
		r.Fields = apply.apply(r.Fields)
		sent, framing := h1.AppendResponse(nil, &r, &h1.ResponseOptions{ClientMinor: 1})
		var got h1.Response
		k, e := got.Parse(append(sent, "more"...), h1.Asked{Method: h1.GET}, nil)
		if e != nil || k != len(sent) || got.Framing != framing || got.Status != r.Status || framing == h1.Length && got.Length != r.Length {
			t.Fatalf("%q is sent on as %q: %d bytes, %v", head[:n], sent, k, e)
		}
		if diff := cmp.Diff(want, pairs(got.Fields)); diff != "" {
			t.Errorf("%q became %q: %s", head[:n], sent, diff)
		}
	})
}

// TestModifierDoesNotAllocate: with room in the request's fields nothing is
// allocated for a modifier.
func TestModifierDoesNotAllocate(t *testing.T) {
	m := newModifier(&route.Modifier{Set: []route.Value{{Name: "x-a", Value: "1"}}, Add: []route.Value{{Name: "x-b", Value: "2"}}, Remove: []string{"x-c"}})
	fields := make([]h1.Field, 2, 16)
	was := [2]h1.Field{{Name: []byte("X-A"), Value: []byte("0")}, {Name: []byte("X-C")}}
	if n := testing.AllocsPerRun(100, func() {
		fields[0], fields[1] = was[0], was[1]
		m.apply(fields)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
