package route

import (
	"bytes"
	"fmt"
	"testing"
)

// line is a header field of a request, as the proxy has them: lookup walks them.
type line struct{ name, value []byte }

type lineFields []line

func (l lineFields) Field(name string) ([]byte, bool) {
	for i := range l {
		if len(l[i].name) == len(name) && bytes.EqualFold(l[i].name, []byte(name)) {
			return l[i].value, true
		}
	}
	return nil, false
}

// thousand is a host of 1,000 rules: 700 exact paths, 250 prefixes of different
// depths, 40 that look at header fields and 10 regular expressions.
func thousand(regexes bool) Spec {
	h := Host{Hostnames: []string{"shop.example"}}
	for i := range 700 {
		h.Rules = append(h.Rules, rule(fmt.Sprint("exact", i), Match{Path: Path{PathExact, fmt.Sprintf("/api/v1/resource-%d/list", i)}}))
	}
	for i := range 250 {
		value := fmt.Sprintf("/api/v2/team-%d", i%50)
		for range i / 50 {
			value += "/service/deep"
		}
		h.Rules = append(h.Rules, rule(fmt.Sprint("prefix", i), Match{Path: Path{PathPrefix, value}}))
	}
	for i := range 40 {
		m := Match{Headers: []Field{{Name: fmt.Sprint("x-header-", i%8), Value: fmt.Sprint("value-", i)}}}
		h.Rules = append(h.Rules, rule(fmt.Sprint("header", i), m))
	}
	for i := range 10 {
		if regexes {
			h.Rules = append(h.Rules, rule(fmt.Sprint("regex", i), Match{Path: Path{PathRegex, fmt.Sprintf("/[a-z]+/v[0-9]+/item-%d/[0-9a-f-]{36}", i)}}))
		}
	}
	return Spec{Hosts: []Host{h}}
}

func browser() lineFields {
	var l lineFields
	for _, f := range [][2]string{
		{"accept", "*/*"}, {"accept-encoding", "gzip, br"}, {"accept-language", "en-GB"}, {"user-agent", "Mozilla/5.0"},
		{"cookie", "session=0123456789abcdef"}, {"x-request-id", "7c9e6679-7425-40de-944b-e07fc1f90ae7"}, {"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{"x-header-0", "value-none"}, {"x-header-3", "value-none"}, {"x-header-7", "value-39"},
	} {
		l = append(l, line{[]byte(f[0]), []byte(f[1])})
	}
	return l
}

var thousandCases = []struct {
	name, path string
	regexes    bool
	want       string
	fields     lineFields
}{
	{"exact", "/api/v1/resource-345/list", false, "exact345", browser()},
	{"prefix", "/api/v2/team-7/service/deep/service/deep/x", false, "prefix107", browser()},
	{"last header rule", "/api/v2/other/service/deep/service/deep/service/deep/service/deep/x", false, "header39", browser()},
	{"miss", "/api/v2/other/service/deep/service/deep/service/deep/service/deep/x", false, "", browser()[:9]},
	{"every regex, then the last header rule", "/api/v2/other/service/deep/service/deep/service/deep/service/deep/x", true, "header39", browser()},
	{"the last regex", "/api/v2/item-9/7c9e6679-7425-40de-944b-e07fc1f90ae7", true, "regex9", browser()},
}

func TestThousandRules(t *testing.T) {
	for _, c := range thousandCases {
		table, err := Compile(thousand(c.regexes))
		if err != nil {
			t.Fatal(err)
		}
		req := &Request{Authority: []byte("shop.example:80"), Method: []byte("GET"), Path: []byte(c.path), Fields: c.fields}
		if r, match := table.Match(req); r == nil && c.want != "" || r != nil && r.Name != c.want {
			t.Errorf("%s: got %q, want %q", c.name, named(r, match), c.want)
		}
		// Package regexp keeps its memory in a pool, which may be emptied at any time.
		if n := testing.AllocsPerRun(100, func() { table.Match(req) }); n != 0 && !c.regexes {
			t.Errorf("%s: %v allocations for a match, want 0", c.name, n)
		}
	}
}

// BenchmarkThousandRules matches on a host of 1,000 rules. The time of those with
// regular expressions is theirs: there are 10, all tried.
func BenchmarkThousandRules(b *testing.B) {
	for _, c := range thousandCases {
		b.Run(c.name, func(b *testing.B) {
			table, err := Compile(thousand(c.regexes))
			if err != nil {
				b.Fatal(err)
			}
			req := &Request{Authority: []byte("shop.example:80"), Method: []byte("GET"), Path: []byte(c.path), Fields: c.fields}
			b.ReportAllocs()
			for b.Loop() {
				table.Match(req)
			}
		})
	}
	b.Run("one regex alone", func(b *testing.B) {
		r, err := compileRegex("/[a-z]+/v[0-9]+/item-[0-9]+/[0-9a-f-]{36}")
		if err != nil {
			b.Fatal(err)
		}
		path := []byte("/api/v2/item-9/7c9e6679-7425-40de-944b-e07fc1f90ae7")
		if !r.meets(path) {
			b.Fatal("it doesn't match")
		}
		b.ReportAllocs()
		for b.Loop() {
			r.meets(path)
		}
	})
	b.Run("one rule", func(b *testing.B) {
		table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{rule("all")}}}})
		if err != nil {
			b.Fatal(err)
		}
		req := target("shop.example:80", "/a/b")
		b.ReportAllocs()
		for b.Loop() {
			table.Match(req)
		}
	})
}
