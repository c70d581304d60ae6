package live

import (
	"fmt"
	"reflect"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/token"
	"tulle.dev/tulle/internal/view"
)

// Authentication is how callers from elsewhere prove who they are, at a listener or
// at a rule of its routes. Either may be nil. It is immutable.
type Authentication struct {
	Tokens   *token.Verifier
	External *policy.External
}

// compileTokens gets ready whose tokens are believed. What is as before stays, with
// what loops have verified.
func (l *Listener) compileTokens(before *Listener) error {
	if l.Kind != view.Inbound && l.Kind != view.Edge {
		return nil
	}
	known := before.verifiers()
	var err error
	if l.Inbound != nil {
		if l.Authentication, err = authentication(l.Inbound.Guard, known); err != nil {
			return fmt.Errorf("inbound.guard.%w", err)
		}
	}
	if l.Routes == nil {
		return nil
	}
	rules := l.Routes.Rules()
	for i := range rules {
		p := rules[i].Policy
		if p == nil || p.Guard == nil {
			continue
		}
		a, err := authentication(p.Guard, known)
		if err != nil {
			return fmt.Errorf("routes: rule %q: policy.guard.%w", rules[i].Name, err)
		}
		if a == (Authentication{}) {
			continue
		}
		if l.RouteAuthentication == nil {
			l.RouteAuthentication = make([]Authentication, len(rules))
		}
		l.RouteAuthentication[i] = a
	}
	return nil
}

// verifiers are those that a listener has.
func (l *Listener) verifiers() (list []*token.Verifier) {
	if l == nil {
		return nil
	}
	for _, a := range append([]Authentication{l.Authentication}, l.RouteAuthentication...) {
		if a.Tokens != nil {
			list = append(list, a.Tokens)
		}
	}
	return list
}

func authentication(g *policy.Guard, known []*token.Verifier) (a Authentication, err error) {
	if g == nil {
		return a, nil
	}
	a.External = g.External
	if e := g.External; e != nil {
		if err := checkKey(e.Destination); err != nil {
			return a, fmt.Errorf("external.destination: %w", err)
		}
	}
	if g.JWT == nil {
		return a, nil
	}
	for _, v := range known {
		if reflect.DeepEqual(v.Policy, g.JWT) {
			a.Tokens = v
			return a, nil
		}
	}
	if a.Tokens, err = token.New(g.JWT); err != nil {
		return a, fmt.Errorf("jwt.%w", err)
	}
	return a, nil
}

// externals calls yield with each port that is asked about requests.
func (l *Listener) externals(yield func(key string)) {
	for _, a := range append([]Authentication{l.Authentication}, l.RouteAuthentication...) {
		if a.External != nil {
			yield(a.External.Destination)
		}
	}
	limits := func(list []policy.RateLimit) {
		for i := range list {
			if s := list[i].Service; s != nil {
				yield(s.Destination)
			}
		}
	}
	if l.Inbound != nil {
		limits(l.Inbound.Limits)
	}
	if l.Routes != nil {
		for _, r := range l.Routes.Rules() {
			if r.Policy != nil {
				limits(r.Policy.Limits)
			}
		}
	}
}
