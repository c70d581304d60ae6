package route

import (
	"fmt"
	"testing"
)

func TestExplain(t *testing.T) {
	table, err := Compile(Spec{Hosts: []Host{
		{Hostnames: []string{"*.shop.example"}, Rules: []Rule{
			rule("all"),
			rule("exact", Match{Path: Path{PathExact, "/cart"}}),
			rule("write", Match{Path: Path{PathPrefix, "/cart/items"}, Method: "POST"}),
			rule("beta", Match{Path: Path{PathPrefix, "/cart/items"}, Headers: []Field{{Name: "X-Who", Value: "me"}, {Name: "X-Beta", Value: "1"}}}),
			rule("debug", Match{Path: Path{PathPrefix, "/cart"}, Query: []Field{{Name: "debug", Value: "1"}}}),
		}},
		{Hostnames: []string{"a.example"}, Rules: []Rule{rule("get", Match{Method: "GET"})}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	say := func(e Explanation) string {
		out := e.Host
		for _, c := range e.Candidates {
			out += fmt.Sprintf("; %s %s", c.Rule.Name, c.Failed)
			if c.Name != "" {
				out += " " + c.Name
			}
		}
		return out
	}
	for _, c := range []struct{ authority, method, target, want string }{
		{"www.Shop.example:80", "GET", "/cart/items/7", "*.shop.example; exact path; write method; beta header x-beta; debug query debug; all met"},
		{"www.shop.example", "POST", "/cart/items", "*.shop.example; exact path; write met"},
		{"www.shop.example", "GET", "/cart", "*.shop.example; exact met"},
		{"a.example", "PUT", "/", "a.example; get method"},
		{"b.example", "GET", "/", ""},
	} {
		req := target(c.authority, c.target)
		req.Method, req.Fields = []byte(c.method), fields{"x-who": "me"}
		if got := say(table.Explain(req)); got != c.want {
			t.Errorf("%s %s%s: got\n%s\nwant\n%s", c.method, c.authority, c.target, got, c.want)
		}
	}
}

func TestExplainIsBounded(t *testing.T) {
	h := Host{Hostnames: []string{"*"}}
	for i := range 200 {
		h.Rules = append(h.Rules, rule(fmt.Sprint("far", i), Match{Path: Path{PathExact, fmt.Sprint("/far/", i)}}))
	}
	for i := range 10 {
		h.Rules = append(h.Rules, rule(fmt.Sprint("near", i), Match{Method: "PUT", Headers: make([]Field, 0), Path: Path{PathPrefix, "/near"}}))
	}
	h.Rules = append(h.Rules, rule("all"))
	table, err := Compile(Spec{Hosts: []Host{h}})
	if err != nil {
		t.Fatal(err)
	}
	e := table.Explain(target("x", "/near/by"))
	if len(e.Candidates) != maxCandidates || e.More != 211-maxCandidates {
		t.Errorf("%d candidates and %d more, want %d and %d", len(e.Candidates), e.More, maxCandidates, 211-maxCandidates)
	}
	if last := e.Candidates[len(e.Candidates)-1]; last.Rule.Name != "all" || last.Failed != ClauseMet {
		t.Errorf("the last is %+v, want the winner", last)
	}
	near := 0
	for _, c := range e.Candidates {
		if c.Failed == ClauseMethod {
			near++
		}
	}
	if near != 10 {
		t.Errorf("%d of the 10 with the path are named", near)
	}
}
