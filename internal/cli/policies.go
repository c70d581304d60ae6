package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/explain"
)

// describePolicies prints what policies come to for a service or a route: each value
// that somebody said, with the object that says it.
func (a *app) describePolicies(ctx context.Context, conn *client.Client, k *object.Kind, o object.Object) error {
	var list []explain.Effective
	var err error
	switch k.Name {
	case "Service":
		list, err = conn.ServicePolicies(ctx, o.GetName()+"."+o.GetNamespace())
	case "HTTPRoute", "GRPCRoute":
		list, err = conn.RoutePolicies(ctx, strings.ToLower(k.Name)+"/"+o.GetNamespace()+"/"+o.GetName())
	default:
		return nil
	}
	var said *client.Status
	if errors.As(err, &said) && (said.Reason == client.ReasonNotFound || said.Reason == client.ReasonForbidden) {
		return nil // it has just come or gone, or the caller may see the object alone
	}
	if err != nil {
		return advise(err)
	}
	t := newTable("  AT", "FIELD", "VALUE", "FROM")
	for i := range list {
		e := &list[i]
		at := e.At
		if e.Rule != "" {
			at += " " + e.Rule
		}
		for _, fields := range [][]explain.Field{e.Request, e.Upstream, e.Inbound} {
			for _, f := range fields {
				if f.Source != "" {
					t.row("  "+at, f.Name, f.Value, f.Source)
				}
			}
		}
	}
	if len(t.rows) == 0 {
		if k.Name == "Service" {
			fmt.Fprintln(a.Out, "Policies:      none says anything about it: the defaults hold")
		}
		return nil
	}
	fmt.Fprintln(a.Out, "Policies in force, where they aren't the defaults:")
	t.write(a.Out)
	return nil
}
