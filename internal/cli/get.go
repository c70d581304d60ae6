package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
)

// namespaceFlag adds -n, with the default namespace.
func (a *app) namespaceFlag(c *cobra.Command) {
	c.Flags().StringVarP(&a.namespace, "namespace", "n", "default", "`NAMESPACE`")
	_ = c.RegisterFlagCompletionFunc("namespace", a.completeNamespaces)
}

// ask is a context that ends when the control plane takes too long.
func (a *app) ask(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	return context.WithTimeout(cmd.Context(), a.timeout)
}

func (a *app) getCommand() *cobra.Command {
	var output, selector string
	var all, watch bool
	c := &cobra.Command{
		Use:   "get KIND [NAME...] | get KIND/NAME...",
		Short: "List objects, or show some of them",
		Long: `Lists objects of a kind: service (svc), workload (wl), gateway (gtw), httproute,
endpointslice (eps), secret, mesh. Singular, plural and short names all work, and
several kinds may be given with commas.`,
		Example: `  tulle get services
  tulle get workloads -o wide
  tulle get svc,wl -A
  tulle get workloads -l app=cart
  tulle get httproute shop -o yaml
  tulle get workloads --watch              # and every change, until Ctrl-C
  tulle get service -o name | xargs -n1 tulle describe`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeObjects,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(output, formatTable, formatWide, formatJSON, formatYAML, formatName); err != nil {
				return err
			}
			wanted, err := a.parseRefs(args, true)
			if err != nil {
				return err
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.ask(cmd)
			defer cancel()
			namespace := a.namespace
			if all {
				namespace = ""
			}
			only, err := parseSelector(selector)
			if err != nil {
				return err
			}
			if watch {
				return a.watch(cmd.Context(), conn, wanted, namespace, output, only)
			}
			return a.get(ctx, conn, wanted, namespace, output, only)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: wide, json, yaml or name")
	c.Flags().StringVarP(&selector, "selector", "l", "", "only those with these labels, `KEY=VALUE,...`")
	c.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of every namespace")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on with every change, a line for each, until interrupted")
	a.namespaceFlag(c)
	completeFormats(c, formatWide, formatJSON, formatYAML, formatName)
	return c
}

// ref names objects on a command line: a kind, and a name or "" for all.
type ref struct {
	kind *object.Kind
	name string
}

// parseRefs reads "KIND", "KIND NAME...", "KIND,KIND" and "KIND/NAME...".
func (a *app) parseRefs(args []string, bareKind bool) ([]ref, error) {
	var refs []ref
	if strings.Contains(args[0], "/") {
		for _, arg := range args {
			kindName, name, ok := strings.Cut(arg, "/")
			if !ok || name == "" {
				return nil, couldNot("write KIND/NAME for each, or KIND NAME...", "%q: no KIND/NAME", arg)
			}
			kind, err := object.LookupName(kindName)
			if err != nil {
				return nil, couldNot("", "%w", err)
			}
			refs = append(refs, ref{kind, name})
		}
		return refs, nil
	}
	for kindName := range strings.SplitSeq(args[0], ",") {
		kind, err := object.LookupName(kindName)
		if err != nil {
			return nil, couldNot("", "%w", err)
		}
		if len(args) == 1 {
			if !bareKind {
				return nil, couldNot("", "name the %s: %s NAME", kind.Name, strings.ToLower(kind.Name))
			}
			refs = append(refs, ref{kind: kind})
		}
		for _, name := range args[1:] {
			refs = append(refs, ref{kind, name})
		}
	}
	return refs, nil
}

// get prints objects. Those of one kind share a table.
func (a *app) get(ctx context.Context, conn *client.Client, refs []ref, namespace, output string, only map[string]string) error {
	var all []object.Object
	var raw []json.RawMessage
	for _, r := range refs {
		if r.name == "" {
			objects, items, err := list(ctx, conn, r.kind, namespace)
			if err != nil {
				return err
			}
			for i, o := range objects {
				if selects(only, o.GetLabels()) {
					all, raw = append(all, o), append(raw, items[i])
				}
			}
			continue
		}
		if namespace == "" && r.kind.Namespaced {
			return couldNot("leave out -A, or the name", "a name is of one namespace")
		}
		o, data, err := get(ctx, conn, r.kind, namespace, r.name)
		if client.IsNotFound(err) {
			return wrong(fmt.Sprintf("`tulle get %s -A` lists them all", r.kind.Plural),
				"there is no %s %q%s", strings.ToLower(r.kind.Name), r.name, inNamespace(r.kind, namespace))
		}
		if err != nil {
			return err
		}
		all, raw = append(all, o), append(raw, data)
	}
	switch output {
	case formatName:
		for _, o := range all {
			fmt.Fprintln(a.Out, nameOf(o))
		}
		return nil
	case formatJSON, formatYAML:
		if len(refs) == 1 && refs[0].name != "" {
			return printData(a.Out, output, raw[0])
		}
		if raw == nil {
			raw = []json.RawMessage{}
		}
		data, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": raw})
		if err != nil {
			return err
		}
		return printData(a.Out, output, data)
	}
	if len(all) == 0 {
		fmt.Fprintf(a.Err, "no %s%s\n", plurals(refs), inNamespace(refs[0].kind, namespace))
		return nil
	}
	a.printTables(all, namespace == "", output == formatWide, len(refs) > 1 && !sameKind(refs))
	return nil
}

// parseSelector reads "KEY=VALUE,...".
func parseSelector(s string) (map[string]string, error) {
	only := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, value, ok := strings.Cut(part, "=")
		if !ok || key == "" || strings.HasSuffix(key, "!") {
			return nil, couldNot("", "--selector %q: want KEY=VALUE, several with commas", part)
		}
		only[key] = strings.TrimPrefix(value, "=")
	}
	return only, nil
}

// selects reports whether labels hold all that a selector wants.
func selects(only, labels map[string]string) bool {
	for key, value := range only {
		if have, ok := labels[key]; !ok || have != value {
			return false
		}
	}
	return true
}

func (a *app) printTables(all []object.Object, withNamespace, wide, prefix bool) {
	first := true
	for _, kind := range object.Kinds() {
		var some []object.Object
		for _, o := range all {
			if object.Of(o) == kind {
				some = append(some, o)
			}
		}
		if len(some) == 0 {
			continue
		}
		if !first {
			fmt.Fprintln(a.Out)
		}
		first = false
		columns := a.columnsOf(kind, wide)
		var header []string
		if withNamespace && kind.Namespaced {
			header = append(header, "NAMESPACE")
		}
		header = append(header, "NAME")
		for _, c := range columns {
			header = append(header, c.title)
		}
		t := newTable(append(header, "AGE")...)
		slices.SortStableFunc(some, func(x, y object.Object) int {
			if c := strings.Compare(x.GetNamespace(), y.GetNamespace()); c != 0 {
				return c
			}
			return strings.Compare(x.GetName(), y.GetName())
		})
		for _, o := range some {
			var row []string
			if withNamespace && kind.Namespaced {
				row = append(row, o.GetNamespace())
			}
			name := o.GetName()
			if prefix {
				name = nameOf(o)
			}
			row = append(row, name)
			for _, c := range columns {
				row = append(row, orDash(c.cell(o)))
			}
			t.row(append(row, a.ageOf(o))...)
		}
		t.write(a.Out)
	}
}

func (a *app) ageOf(o object.Object) string {
	made := o.GetCreationTimestamp()
	if made.IsZero() {
		return "-"
	}
	return age(a.now().Sub(made.Time))
}

func sameKind(refs []ref) bool {
	for _, r := range refs {
		if r.kind != refs[0].kind {
			return false
		}
	}
	return true
}

func plurals(refs []ref) string {
	var names []string
	for _, r := range refs {
		if !slices.Contains(names, r.kind.Plural) {
			names = append(names, r.kind.Plural)
		}
	}
	return strings.Join(names, ", ")
}

func inNamespace(kind *object.Kind, namespace string) string {
	if !kind.Namespaced || namespace == "" {
		return ""
	}
	return fmt.Sprintf(" in namespace %q", namespace)
}

// nameOf is an object as commands take it: "service/cart", with the group where
// there is one.
func nameOf(o object.Object) string {
	kind := object.Of(o)
	if kind == nil {
		return o.GetName()
	}
	name := strings.ToLower(kind.Name)
	if kind.Group != "" {
		name += "." + kind.Group
	}
	return name + "/" + o.GetName()
}
