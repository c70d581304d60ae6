package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
)

func (a *app) describeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "describe KIND NAME... | KIND/NAME...",
		Short: "Show all about an object: what it says, its conditions, who serves it",
		Example: `  tulle describe service cart
  tulle describe workload/web httproute/shop`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeObjects,
		RunE: func(cmd *cobra.Command, args []string) error {
			refs, err := a.parseRefs(args, false)
			if err != nil {
				return err
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			for i, r := range refs {
				o, data, err := get(ctx, conn, r.kind, a.namespace, r.name)
				if client.IsNotFound(err) {
					return wrong(fmt.Sprintf("`tulle get %s -A` lists them all", r.kind.Plural),
						"there is no %s %q%s", strings.ToLower(r.kind.Name), r.name, inNamespace(r.kind, a.namespace))
				}
				if err != nil {
					return err
				}
				if i > 0 {
					fmt.Fprintln(a.Out)
				}
				if err := a.describe(o, data); err != nil {
					return err
				}
				if err := a.describePolicies(ctx, conn, r.kind, o); err != nil {
					return err
				}
				if r.kind == object.Service {
					if err := a.describeModes(ctx, conn, o.GetName()+"."+o.GetNamespace()); err != nil {
						return err
					}
					if err := a.describeEndpoints(cmd, conn, o.GetNamespace(), o.GetName()); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
	a.namespaceFlag(c)
	return c
}

// describe prints an object for people: metadata first, then spec, then
// conditions as a table.
func (a *app) describe(o object.Object, data []byte) error {
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	field := func(name, value string) { fmt.Fprintf(a.Out, "%-14s %s\n", name+":", value) }
	field("Name", a.paint.bold(o.GetName()))
	if o.GetNamespace() != "" {
		field("Namespace", o.GetNamespace())
	}
	if kind := object.Of(o); kind != nil {
		field("Kind", kind.Name+" ("+kind.APIVersion()+")")
	}
	if len(o.GetLabels()) > 0 {
		field("Labels", pairs(o.GetLabels()))
	}
	if len(o.GetAnnotations()) > 0 {
		field("Annotations", pairs(o.GetAnnotations()))
	}
	if made := o.GetCreationTimestamp(); !made.IsZero() {
		field("Created", fmt.Sprintf("%s (%s ago)", made.UTC().Format(time.RFC3339), a.ageOf(o)))
	}
	if spec, ok := m["spec"].(map[string]any); ok && len(spec) > 0 {
		fmt.Fprintln(a.Out, "Spec:")
		writeTree(a.Out, spec, "  ")
	}
	if data, ok := m["data"].(map[string]any); ok { // a Secret: names, never values
		fmt.Fprintln(a.Out, "Data:")
		for _, key := range sortedNames(data) {
			fmt.Fprintf(a.Out, "  %s: (%d characters)\n", key, len(fmt.Sprint(data[key])))
		}
	}
	status, _ := m["status"].(map[string]any)
	if len(status) == 0 {
		return nil
	}
	conditions := takeConditions(status)
	if len(status) > 0 {
		fmt.Fprintln(a.Out, "Status:")
		writeTree(a.Out, status, "  ")
	}
	if len(conditions) > 0 {
		fmt.Fprintln(a.Out, "Conditions:")
		t := newTable("  TYPE", "STATUS", "REASON", "MESSAGE")
		for _, c := range conditions {
			text := func(key string) string { s, _ := c[key].(string); return s }
			state := text("status")
			if state == "True" {
				state = a.paint.good(state)
			} else {
				state = a.paint.bad(state)
			}
			t.row("  "+text("type"), state, orDash(text("reason")), orDash(text("message")))
		}
		t.write(a.Out)
	}
	return nil
}

// takeConditions removes every list of conditions from a status and returns
// them, those of a route's parents included.
func takeConditions(status map[string]any) []map[string]any {
	var all []map[string]any
	if list, ok := status["conditions"].([]any); ok {
		for _, c := range list {
			if m, ok := c.(map[string]any); ok {
				all = append(all, m)
			}
		}
		delete(status, "conditions")
	}
	for _, part := range []string{"parents", "ancestors", "listeners"} {
		list, _ := status[part].([]any)
		for _, p := range list {
			if m, ok := p.(map[string]any); ok {
				all = append(all, takeConditions(m)...)
			}
		}
	}
	return all
}

// writeTree prints JSON values as an indented tree.
func writeTree(w io.Writer, v any, indent string) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range sortedNames(v) {
			writeEntry(w, indent+key+":", v[key], indent)
		}
	case []any:
		for _, item := range v {
			writeEntry(w, indent+"-", item, indent)
		}
	}
}

func writeEntry(w io.Writer, head string, v any, indent string) {
	switch value := v.(type) {
	case map[string]any:
		if strings.HasSuffix(head, "-") { // an item: its first field beside the dash
			var b strings.Builder
			writeTree(&b, value, indent+"  ")
			fmt.Fprint(w, head, " ", strings.TrimPrefix(b.String(), indent+"  "))
			return
		}
		fmt.Fprintln(w, head)
		writeTree(w, value, indent+"  ")
	case []any:
		fmt.Fprintln(w, head)
		writeTree(w, value, indent+"  ")
	default:
		fmt.Fprintf(w, "%s %v\n", head, value)
	}
}
