package live

import (
	"fmt"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/view"
)

// compileAccess compiles the rules about who may come in, and those of the
// listener's routes.
func (l *Listener) compileAccess(domain identity.TrustDomain) error {
	if l.Inbound != nil && (l.Kind == view.Inbound || l.Kind == view.Edge) {
		t, err := compileGuard(l.Inbound.Guard, domain)
		if err != nil {
			return fmt.Errorf("inbound.guard.%w", err)
		}
		l.Access = t
	}
	if l.Listener.Kind != view.Edge || l.Routes == nil {
		return nil
	}
	rules := l.Routes.Rules()
	for i := range rules {
		p := rules[i].Policy
		if p == nil || p.Guard == nil {
			continue
		}
		t, err := compileGuard(p.Guard, domain)
		if err != nil {
			return fmt.Errorf("routes: rule %q: policy.guard.%w", rules[i].Name, err)
		}
		if l.RouteAccess == nil {
			l.RouteAccess = make([]*access.Table, len(rules))
		}
		l.RouteAccess[i] = t
	}
	return nil
}

// compileGuard returns nil where there are no rules.
func compileGuard(g *policy.Guard, domain identity.TrustDomain) (*access.Table, error) {
	if g == nil || g.Access == nil {
		return nil, nil
	}
	t, err := access.Compile(*g.Access, domain)
	if err != nil {
		return nil, fmt.Errorf("access.%w", err)
	}
	return t, nil
}
