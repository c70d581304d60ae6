package l7http

import (
	"slices"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/wire/h1"
)

func TestHealthMessages(t *testing.T) {
	if got, want := string(healthRequest("a.B")), "\x00\x00\x00\x00\x05\x0a\x03a.B"; got != want {
		t.Errorf("request %q, want %q", got, want)
	}
	if got := string(healthRequest("")); got != "\x00\x00\x00\x00\x00" {
		t.Errorf("request for the whole server %q", got)
	}
	for answer, want := range map[string]uint32{
		"\x00\x00\x00\x00\x02\x08\x01":                     serving,
		"\x00\x00\x00\x00\x02\x08\x02":                     2,
		"\x00\x00\x00\x00\x05\x12\x01x\x08\x01":            serving, // with a field that isn't known
		"\x00\x00\x00\x00\x00":                             0,
		"\x01\x00\x00\x00\x02\x08\x01":                     0, // compressed
		"\x00\x00\x00\x00\x03\x08\x01":                     0, // cut
		"\x00\x00\x00\x00\x01\x08":                         0,
		"":                                                 0,
		"\x00\x00\x00\x00\x02\x0a\xff":                     0,
		"\x00\x00\x00\x00\x02\x08\x01\x00\x00\x00\x00\x00": 0, // two messages
	} {
		if got := healthStatus([]byte(answer)); got != want {
			t.Errorf("answer %q: %d, want %d", answer, got, want)
		}
	}
}

// What cookies, query parameters and sessions a request has.
func TestWants(t *testing.T) {
	parse := func(text string) *h1.Request {
		r := &h1.Request{}
		r.Reset()
		limits := h1.Limits{MaxHead: h1.DefaultMaxHead, MaxFields: h1.DefaultMaxFields}
		if _, err := r.Parse([]byte(text), &limits); err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := parse("GET /a?x=1&user=me&user=you&flag HTTP/1.1\r\nHost: x\r\nCookie: a=b;user=\"q\" ; c=d=e\r\nCookie: user=second; last=\r\nX-Key: K\r\n\r\n")
	for _, test := range []struct {
		find func() ([]byte, bool)
		want string
		ok   bool
	}{
		{func() ([]byte, bool) { return cookie(r, "a") }, "b", true},
		{func() ([]byte, bool) { return cookie(r, "user") }, "q", true},
		{func() ([]byte, bool) { return cookie(r, "c") }, "d=e", true},
		{func() ([]byte, bool) { return cookie(r, "last") }, "", true},
		{func() ([]byte, bool) { return cookie(r, "A") }, "", false},
		{func() ([]byte, bool) { return cookie(r, "") }, "", false},
		{func() ([]byte, bool) { return parameter(r.Path, "user") }, "me", true},
		{func() ([]byte, bool) { return parameter(r.Path, "flag") }, "", true},
		{func() ([]byte, bool) { return parameter(r.Path, "use") }, "", false},
		{func() ([]byte, bool) { return parameter([]byte("/a"), "a") }, "", false},
		{func() ([]byte, bool) { return header(r, "x-KEY") }, "K", true},
		{func() ([]byte, bool) { return header(r, "x-ke") }, "", false},
	} {
		if v, ok := test.find(); string(v) != test.want || ok != test.ok {
			t.Errorf("got %q, %v; want %q, %v", v, ok, test.want, test.ok)
		}
	}
}

// FuzzSession: whatever a client says its session is, it names an endpoint or none.
func FuzzSession(f *testing.F) {
	f.Add([]byte("shop=AAECAwQFBgc; x=y"))
	f.Add([]byte("shop=AAECAwQFBgcBi8_laAA"))
	f.Add([]byte(";;=shop=\"\"; shop=\"AAECAwQFBgc\""))
	f.Fuzz(func(t *testing.T, value []byte) {
		r := &h1.Request{Fields: []h1.Field{{Name: []byte("Cookie"), Value: slices.Clone(value), ID: h1.Cookie}}}
		for _, lifetime := range []time.Duration{0, time.Minute} {
			now := time.Unix(1_700_000_000, 0)
			s := &policy.Session{Kind: policy.SessionCookie, Name: "shop", Lifetime: lifetime}
			r.Fields[0].Value = value
			token := sessionToken(r, s, now)
			if token == 0 {
				continue
			}
			again := append([]byte("shop="), appendToken(nil, token, s, now)...)
			r.Fields[0].Value = again
			if got := sessionToken(r, s, now); got != token {
				t.Fatalf("%q is %x, %q is %x", value, token, again, got)
			}
			if string(r.Fields[0].Value) != string(again) {
				t.Fatal("the request was changed")
			}
		}
	})
}
