package live

import (
	"fmt"

	"tulle.dev/tulle/internal/view"
)

// Replace puts another view into force in a Live made by Static, as if the
// control plane had sent the difference: what is the same pointer in both views
// stays what it is. The SVID stays; with an error nothing changes.
func (l *Live) Replace(v *view.View) error {
	l.updating.Lock()
	defer l.updating.Unlock()
	old := l.Table()
	t, bundle, err := compileView(v, func(string) *usage { return nil })
	if err == nil {
		t.Proxy, err = compileProxy(&v.Proxy, old.Proxy)
	}
	if err != nil {
		return fmt.Errorf("the view makes no sense: %w", err)
	}
	if len(v.Bundle.Domains) > 0 {
		l.credentials.SetBundle(bundle)
	}
	l.table.Store(t)
	l.mu.Lock()
	onChange := l.onChange
	l.mu.Unlock()
	for _, f := range onChange {
		f(t)
	}
	return nil
}
